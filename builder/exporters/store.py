"""Into the own image store, out of it, and to a registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from builder.errors import NotFoundError, SourceError
from builder.images.store import ImageStore, StoredImage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.exporters.image import WrittenImage
    from builder.oci.descriptor import Descriptor
    from builder.oci.reference import Reference
    from builder.worker import Worker


def store_image(worker: Worker, image: WrittenImage, name: Reference) -> None:
    """Name the image; whatever had the name before loses it."""
    from builder.exporters.image import store_documents

    store_documents(worker, image)
    ImageStore(worker.database, worker.content).put(name, image.top)


def stored_image(worker: Worker, name: Reference) -> tuple[StoredImage, WrittenImage]:
    """An image of the store, with the shape of a freshly written one. NotFoundError for an unknown name."""
    from builder.exporters.image import WrittenImage, WrittenManifest

    stored = ImageStore(worker.database, worker.content).get(name)
    if stored is None:
        raise NotFoundError(f"no such image: {name.familiar}", hint="`pybuild images` lists them")
    doc = _document(worker, stored.target.digest)
    tops = [_descriptor(d) for d in doc["manifests"]] if "manifests" in doc else [stored.target]
    manifests = []
    for top in tops:
        manifest = _document(worker, top.digest)
        layers = tuple(_descriptor(d) for d in manifest.get("layers") or ())
        manifests.append(WrittenManifest(top, _descriptor(manifest["config"]), layers))
    return stored, WrittenImage(stored.target, tuple(manifests))


def push_image(worker: Worker, image: WrittenImage, name: Reference, *, by_digest: bool) -> None:
    """Blobs first, then manifests, the top last: at no time does a tag point to something incomplete."""
    from builder.values import replace

    client, store = worker.registry, ImageStore(worker.database, worker.content)
    untagged = replace(name, tag="")
    for m in image.manifests:
        for blob in m.layers:
            client.push_blob(
                name,
                blob,
                lambda blob=blob: worker.content.checked(blob.digest),  # type: ignore[misc]
                mount_from=_same_registry(store, name, blob),
            )
        client.push_blob(name, m.config, lambda m=m: [image.documents[m.config.digest]])  # type: ignore[misc]
        if m.manifest != image.top:
            client.push_manifest(untagged, image.documents[m.manifest.digest], m.manifest.media_type)
    client.push_manifest(untagged if by_digest else name, image.documents[image.top.digest], image.top.media_type)


def _same_registry(store: ImageStore, name: Reference, blob: Descriptor) -> str:
    """A repository of the same registry that has the blob: then it is mounted from there and not sent."""
    found = (s.repository for s in store.sources(blob.digest) if s.registry == name.registry and s.repository != name.repository)
    return next(found, "")


def _document(worker: Worker, digest: str) -> Any:
    from builder.oci.digest import Digest

    doc = json.loads(worker.content.read(Digest(digest)))
    if not isinstance(doc, dict):
        raise SourceError(f"{digest} in the content store is no manifest")
    return doc


def _descriptor(doc: Mapping[str, object]) -> Descriptor:
    from builder.oci.descriptor import Descriptor
    from builder.oci.digest import Digest

    return Descriptor(str(doc["mediaType"]), Digest.parse(str(doc["digest"])), int(str(doc["size"])))
