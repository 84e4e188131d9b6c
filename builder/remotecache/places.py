"""Where caches lie: a tag in a registry, or an OCI layout in a folder. Both are read with every digest checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from builder.errors import IntegrityError, NotFoundError, StoreError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.documents import OCI_INDEX, descriptor_json
from builder.oci.fields import Fields, MalformedError
from builder.remotecache.types import LocalPlace, Place, RegistryPlace, RemoteLayer
from builder.sources.providers import LAYOUT_PREFIX, LayoutBlobs, RegistryBlobs, blob_path
from builder.state.atomic import replacing
from builder.state.locks import locked_folder
from builder.text import gojson
from runtime.errors import UnsafePathError
from runtime.linux.named import read_named

if TYPE_CHECKING:
    from builder.content.store import ContentStore
    from builder.content.types import BlobProvider
    from builder.worker import Worker

_REF_NAME = "org.opencontainers.image.ref.name"
_IMAGE_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


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
        self.source = LAYOUT_PREFIX + place.folder

    def top(self) -> Descriptor:
        digest = self._place.digest
        if digest is not None:
            try:
                return Descriptor("", digest, os.stat(blob_path(self._place.folder, digest)).st_size)
            except OSError:
                raise NotFoundError(f"{self._place.folder}: there is no manifest {digest}") from None
        found = _tagged(_read_index(self._place.folder), self._place.tag)
        if found is None:
            raise NotFoundError(f"{self._place.folder}: there is no cache tagged {self._place.tag}")
        try:
            return manifests.descriptor(Fields(found, f"entry of {self._place.tag}"))
        except MalformedError as e:
            raise IntegrityError(f"{self._place.folder}/index.json: {e}") from e

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._verified(descriptor, manifests.MAX_MANIFEST)

    def document(self, descriptor: Descriptor) -> bytes:
        return self._verified(descriptor, manifests.MAX_CONFIG)

    def provider(self) -> BlobProvider:
        return LayoutBlobs(self._place.folder)

    def _verified(self, descriptor: Descriptor, limit: int) -> bytes:
        data = _read_file(blob_path(self._place.folder, descriptor.digest), limit)
        if len(data) != descriptor.size or hashlib.new(descriptor.digest.algorithm, data).hexdigest() != descriptor.digest.hex:
            raise IntegrityError(f"{self._place.folder}: blob {descriptor.digest} is damaged")
        return data


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
        self._content, self._place, self._reset = content, place, reset

    def layer(self, remote: RemoteLayer) -> None:
        self._put(remote.layer.descriptor, blob_chunks(self._content, remote))

    def document(self, descriptor: Descriptor, data: bytes) -> None:
        self._put(descriptor, [data])

    def finish(self, descriptor: Descriptor, data: bytes) -> None:
        self._put(descriptor, [data])
        folder = self._place.folder
        with self._writing(), locked_folder(folder):
            try:
                index = _read_index(folder)
            except NotFoundError:
                index = {}
            entry = {**descriptor_json(descriptor), "annotations": {_REF_NAME: self._place.tag}}
            others = [m for m in index.get("manifests") or () if self._place.tag not in _names(m)]
            doc = {"schemaVersion": 2, "mediaType": OCI_INDEX, **index, "manifests": [*others, entry]}
            _replace(f"{folder}/oci-layout", [_LAYOUT])
            _replace(f"{folder}/index.json", [gojson.encode(doc)])
            if self._reset:
                _delete_unreferenced(folder, doc)

    def _put(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        path = blob_path(self._place.folder, descriptor.digest)
        with self._writing():
            if os.path.exists(path) and os.path.getsize(path) == descriptor.size:
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _replace(path, _checked(descriptor, chunks))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise StoreError(f"can't write the cache to {self._place.folder}: {e.strerror}") from e


def blob_chunks(content: ContentStore, remote: RemoteLayer) -> Iterator[bytes]:
    """A layer's bytes: the own ones, else straight from where the layer lies, without keeping them."""
    descriptor, provider = remote.layer.descriptor, remote.layer.provider
    if provider is None or content.has(descriptor.digest):
        yield from content.chunks(descriptor.digest)
        return
    with provider.open(descriptor) as chunks:
        yield from chunks


def _checked(descriptor: Descriptor, chunks: Iterable[bytes]) -> Iterator[bytes]:
    h = hashlib.new(descriptor.digest.algorithm)
    for chunk in chunks:
        h.update(chunk)
        yield chunk
    if h.hexdigest() != descriptor.digest.hex:
        raise IntegrityError(f"blob {descriptor.digest} has another digest")


def _read_index(folder: str) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads(_read_file(f"{folder}/index.json", manifests.MAX_MANIFEST))
        entries = index.get("manifests") or () if isinstance(index, dict) else [None]
        if not all(isinstance(m, dict) and isinstance(m.get("annotations") or {}, dict) for m in entries):
            raise TypeError("not an index")
    except (ValueError, TypeError) as e:
        raise IntegrityError(f"{folder}/index.json is not one of an OCI layout: {e}") from e
    except RecursionError:
        raise IntegrityError(f"{folder}/index.json is not one of an OCI layout: it is nested too deeply") from None
    return index


def _tagged(index: dict[str, Any], tag: str) -> dict[str, Any] | None:
    entries: list[dict[str, Any]] = index.get("manifests") or []
    for key in (_IMAGE_NAME, _REF_NAME):
        for entry in entries:
            if (entry.get("annotations") or {}).get(key) == tag:
                return entry
    return None


def _names(entry: dict[str, Any]) -> tuple[str, ...]:
    notes = entry.get("annotations") or {}
    return tuple(str(notes[k]) for k in (_IMAGE_NAME, _REF_NAME) if k in notes)


def _read_file(path: str, limit: int) -> bytes:
    try:
        return read_named(path, limit)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path}: not found") from None
    except OSError as e:
        raise StoreError(f"can't read {path}: {e.strerror}") from e
    except UnsafePathError as e:
        raise IntegrityError(str(e)) from e


def _replace(path: str, chunks: Iterable[bytes]) -> None:
    with replacing(path) as write:
        for chunk in chunks:
            write(chunk)


def _delete_unreferenced(folder: str, index: dict[str, Any]) -> None:
    """reset=true: keep what the manifests of the index name. A blob that can't be read as a manifest names nothing."""
    keep: set[str] = set()
    stack = [str(m.get("digest")) for m in index["manifests"]]
    while stack:
        digest = stack.pop()
        if digest in keep:
            continue
        keep.add(digest)
        try:
            path = blob_path(folder, Digest.parse(digest))
            doc = json.loads(read_named(path, manifests.MAX_MANIFEST))
            below = [*(doc.get("manifests") or ()), *(doc.get("layers") or ()), doc.get("config") or {}]
            stack += [str(d["digest"]) for d in below if isinstance(d, dict) and "digest" in d]
        except (OSError, ValueError, AttributeError, TypeError, RecursionError, UnsafePathError):
            continue
    for algorithm in os.listdir(f"{folder}/blobs"):
        for name in os.listdir(f"{folder}/blobs/{algorithm}"):
            if f"{algorithm}:{name}" not in keep:
                os.unlink(f"{folder}/blobs/{algorithm}/{name}")
