"""Where caches lie: a tag in a registry, or an OCI layout in a folder. Both are read with every digest checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from builder.content.layout import IMAGE_NAME, REF_NAME, LayoutFolder, names_of
from builder.errors import IntegrityError, NotFoundError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.documents import descriptor_json
from builder.oci.fields import Fields, MalformedError
from builder.remotecache.types import LocalPlace, Place, RegistryPlace, RemoteLayer
from builder.sources.providers import LAYOUT_PREFIX, LayoutBlobs, RegistryBlobs

if TYPE_CHECKING:
    from builder.content.store import ContentStore
    from builder.content.types import BlobProvider
    from builder.worker import Worker


class Reader(Protocol):
    """A cache to import. NotFoundError, AuthError, SourceError, IntegrityError."""

    source: str
    """``Layer.source`` of its layers."""

    def top(self) -> Descriptor: ...
    def manifest(self, descriptor: Descriptor) -> bytes: ...
    def document(self, descriptor: Descriptor) -> bytes: ...
    def provider(self) -> BlobProvider: ...


class Writer(Protocol):
    """A cache to export. ``finish`` makes it visible; until then what was there before stays."""

    def layer(self, remote: RemoteLayer) -> None: ...
    def document(self, descriptor: Descriptor, data: bytes) -> None: ...
    def finish(self, descriptor: Descriptor, data: bytes) -> None: ...


def reader(worker: Worker, place: Place) -> Reader:
    return RegistryReader(worker, place) if isinstance(place, RegistryPlace) else LocalReader(place)


def writer(worker: Worker, place: Place, *, reset: bool) -> Writer:
    if isinstance(place, RegistryPlace):
        return RegistryWriter(worker, place)
    return LocalWriter(worker.content, place, reset=reset)


class RegistryReader:
    def __init__(self, worker: Worker, place: RegistryPlace) -> None:
        self._worker, self._ref = worker, place.ref
        self._client = worker.registry
        self.source = place.ref.name

    def top(self) -> Descriptor:
        return self._client.resolve(self._ref)

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._client.fetch_manifest(self._ref, descriptor)

    def document(self, descriptor: Descriptor) -> bytes:
        return self._client.fetch_document(self._ref, descriptor, manifests.MAX_CONFIG)

    def provider(self) -> BlobProvider:
        return RegistryBlobs(self._worker, (self.source,))


class LocalReader:
    def __init__(self, place: LocalPlace) -> None:
        self._place = place
        self._layout = LayoutFolder(place.folder)
        self.source = LAYOUT_PREFIX + place.folder

    def top(self) -> Descriptor:
        place = self._place
        if place.digest is not None:
            return self._layout.find(place.digest)
        entries = self._layout.entries()
        found = [e for key in (IMAGE_NAME, REF_NAME) for e in entries if (e.get("annotations") or {}).get(key) == place.tag]
        if not found:
            raise NotFoundError(f"{place.folder}: there is no cache tagged {place.tag}")
        try:
            return manifests.descriptor(Fields(found[0], f"entry of {place.tag}"))
        except MalformedError as e:
            raise IntegrityError(f"{place.folder}/index.json: {e}") from e

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._layout.document(descriptor, manifests.MAX_MANIFEST)

    def document(self, descriptor: Descriptor) -> bytes:
        return self._layout.document(descriptor, manifests.MAX_CONFIG)

    def provider(self) -> BlobProvider:
        return LayoutBlobs(self._place.folder)


class RegistryWriter:
    def __init__(self, worker: Worker, place: RegistryPlace) -> None:
        self._content, self._ref = worker.content, place.ref
        self._client = worker.registry

    def layer(self, remote: RemoteLayer) -> None:
        descriptor = remote.layer.descriptor
        self._client.push_blob(self._ref, descriptor, lambda: blob_chunks(self._content, remote), mount_from=self._beside(remote))

    def document(self, descriptor: Descriptor, data: bytes) -> None:
        self._client.push_blob(self._ref, descriptor, lambda: [data])

    def finish(self, descriptor: Descriptor, data: bytes) -> None:
        self._client.push_manifest(self._ref, data, descriptor.media_type)

    def _beside(self, remote: RemoteLayer) -> str:
        """The repository of the same registry that the layer is known to lie in."""
        host, _, repository = remote.layer.source.partition("/")
        return repository if host == self._ref.registry else ""


class LocalWriter:
    """As BuildKit's client keeps its folder: blobs beside one another, a tag in index.json for what is current."""

    def __init__(self, content: ContentStore, place: LocalPlace, *, reset: bool) -> None:
        self._content, self._tag, self._reset = content, place.tag, reset
        self._layout = LayoutFolder(place.folder)

    def layer(self, remote: RemoteLayer) -> None:
        self._layout.put(remote.layer.descriptor, blob_chunks(self._content, remote))

    def document(self, descriptor: Descriptor, data: bytes) -> None:
        self._layout.put(descriptor, [data])

    def finish(self, descriptor: Descriptor, data: bytes) -> None:
        self._layout.put(descriptor, [data])
        entry = {**descriptor_json(descriptor), "annotations": {REF_NAME: self._tag}}
        entries = self._layout.publish([entry], lambda other: self._tag not in names_of(other))
        if self._reset:
            self._layout.keep_only(entries)


def blob_chunks(content: ContentStore, remote: RemoteLayer) -> Iterator[bytes]:
    """A layer's bytes: the own ones, else straight from where the layer lies, without keeping them."""
    descriptor, provider = remote.layer.descriptor, remote.layer.provider
    if provider is None or content.has(descriptor.digest):
        yield from content.chunks(descriptor.digest)
        return
    with provider.open(descriptor) as chunks:
        yield from chunks
