"""Images in an OCI layout on disk (image-spec, image-layout.md): ``--build-context name=oci-layout://folder:tag``. Blobs are read
in place and verified; the folder is the user's and is never written to."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from builder.content.types import Layer
from builder.errors import IntegrityError, NotFoundError, SourceError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.sources.image import Answer, ResolvedImage
from builder.sources.platform_image import find_platform
from builder.sources.providers import LAYOUT_PREFIX, LayoutBlobs, blob_path
from runtime.errors import UnsafePathError
from runtime.linux.safepath import read_named

if TYPE_CHECKING:
    from builder.oci.platform import Platform
    from builder.worker import Worker

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


def resolve_config(worker: Worker, folder: str, ref: str, platform: Platform) -> ResolvedImage:
    """Image ``ref`` (a tag or a digest) of the layout in ``folder``; the result's ``ref`` is ``FOLDER@DIGEST``.

    NotFoundError, SourceError, IntegrityError.
    """
    folder = os.path.abspath(folder)
    documents = _Documents(folder)
    image = find_platform(documents, _target(folder, ref), platform)
    provider, source = LayoutBlobs(folder), LAYOUT_PREFIX + folder
    layers = tuple(
        Layer(descriptor, diff_id, provider, source)
        for descriptor, diff_id in zip(image.manifest.layers, image.diff_ids, strict=True)
    )
    target = image.target
    return ResolvedImage(f"{folder}@{target.digest}", target, image.descriptor, image.config, layers, Answer(target))


def _target(folder: str, ref: str) -> Descriptor:
    try:
        digest = Digest.parse(ref)
    except ValueError:
        return _tagged(folder, ref)
    try:
        return Descriptor("", digest, os.stat(blob_path(folder, digest)).st_size)
    except OSError:
        raise NotFoundError(f"OCI layout {folder}: {digest}: not found") from None


def _tagged(folder: str, tag: str) -> Descriptor:
    """By the index's annotations. ``latest`` is also the only image of an index that names none."""
    data = _read(f"{folder}/index.json", manifests.MAX_MANIFEST, folder)
    index = manifests.parse(data, what=f"OCI layout {folder}: index.json")
    if not isinstance(index, manifests.Index):
        raise IntegrityError(f"OCI layout {folder}: index.json is no index")
    for entry in index.entries:
        annotations = dict(entry.descriptor.annotations)
        if tag in (annotations.get(_REF_NAME), annotations.get(_CONTAINERD_NAME)):
            return entry.descriptor
    if tag == "latest" and len(index.entries) == 1:
        return index.entries[0].descriptor
    names = sorted({dict(e.descriptor.annotations).get(_REF_NAME, "") for e in index.entries} - {""})
    raise NotFoundError(
        f"OCI layout {folder}: tag {tag!r}: not found", hint="it has " + ", ".join(names) if names else "name a digest"
    )


class _Documents:
    """Documents of the layout, each checked against its digest."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._verified(descriptor, manifests.MAX_MANIFEST)

    def config(self, descriptor: Descriptor) -> bytes:
        return self._verified(descriptor, manifests.MAX_CONFIG)

    def _verified(self, descriptor: Descriptor, limit: int) -> bytes:
        digest = descriptor.digest
        data = _read(blob_path(self._folder, digest), limit, self._folder)
        if len(data) != descriptor.size:
            raise IntegrityError(f"OCI layout {self._folder}: blob {digest} has {len(data)} bytes instead of {descriptor.size}")
        if hashlib.new(digest.algorithm, data).hexdigest() != digest.hex:
            raise IntegrityError(f"OCI layout {self._folder}: blob {digest} has another digest")
        return data


def _read(path: str, limit: int, folder: str) -> bytes:
    """Links are followed wherever they lead: build systems make layouts of links. What is no regular file is refused unopened."""
    name = os.path.relpath(path, folder)
    try:
        return read_named(path, limit)
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.isfile(f"{folder}/index.json"):
            raise NotFoundError(f"{folder} is not an OCI layout: it has no index.json") from None
        raise NotFoundError(f"OCI layout {folder}: {name}: not found") from None
    except OSError as e:
        raise SourceError(f"OCI layout {folder}: {name}: {e.strerror}") from e
    except UnsafePathError as e:
        raise IntegrityError(f"OCI layout {folder}: {e}") from e
