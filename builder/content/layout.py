"""An OCI image layout in a folder of the user's (image-spec, image-layout.md): of bases, exports and caches.

What is read is checked against its digest. Links are followed wherever they lead, since build systems make layouts of links; what
is no regular file is refused unopened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from builder.errors import IntegrityError, NotFoundError, SourceError, StoreError
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest, Running
from builder.oci.documents import OCI_INDEX
from builder.oci.manifest import MAX_MANIFEST
from builder.state.atomic import replacing
from builder.state.locks import locked_folder
from builder.text import gojson
from runtime.errors import UnsafePathError
from runtime.linux.safepath import read_named

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
"""The content of ``oci-layout``."""
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
"""Annotations of an entry of index.json that name it: the spec's, and containerd's with the whole name."""

Entry = dict[str, Any]
"""A descriptor in index.json, as JSON has it: what we don't know of it is kept."""


def blob_name(digest: Digest | str) -> str:
    """Where a layout has a blob, from its top."""
    return "blobs/" + digest.replace(":", "/")


class LayoutFolder:
    """``path`` need not exist for writing."""

    def __init__(self, path: str) -> None:
        self.path = path

    def blob_path(self, digest: Digest) -> str:
        """Where it has the blob, or would."""
        return f"{self.path}/{blob_name(digest)}"

    # ------------------------------------------------------------------------------------------------ reading
    def find(self, digest: Digest) -> Descriptor:
        """Of a blob by its digest alone. NotFoundError."""
        try:
            return Descriptor("", digest, os.stat(self.blob_path(digest)).st_size)
        except OSError:
            raise NotFoundError(f"OCI layout {self.path}: {digest}: not found") from None

    def document(self, descriptor: Descriptor, limit: int) -> bytes:
        """A blob of at most ``limit`` bytes, whole. NotFoundError, SourceError, IntegrityError."""
        digest = descriptor.digest
        data = self._read(blob_name(digest), limit)
        if len(data) != descriptor.size:
            raise IntegrityError(f"OCI layout {self.path}: blob {digest} has {len(data)} bytes instead of {descriptor.size}")
        if digest.like(data) != digest:
            raise IntegrityError(f"OCI layout {self.path}: blob {digest} has another digest")
        return data

    def index(self) -> bytes:
        """index.json as it is. NotFoundError, SourceError, IntegrityError."""
        return self._read("index.json", MAX_MANIFEST)

    def entries(self) -> list[Entry]:
        """What index.json lists; NotFoundError where there is none, IntegrityError where it is something else."""
        found: list[Entry] = self._index()["manifests"]
        return found

    def _index(self) -> dict[str, Any]:
        try:
            index = json.loads(self.index())
            entries = (index.get("manifests") or []) if isinstance(index, dict) else None
            if not isinstance(entries, list) or not all(map(_is_entry, entries)):
                raise TypeError("not an index")
        except (ValueError, TypeError) as e:
            raise IntegrityError(f"{self.path}/index.json is not one of an OCI layout: {e}") from e
        except RecursionError:
            raise IntegrityError(f"{self.path}/index.json is not one of an OCI layout: it is nested too deeply") from None
        return {**index, "manifests": entries}

    def _read(self, name: str, limit: int) -> bytes:
        try:
            return read_named(f"{self.path}/{name}", limit)
        except (FileNotFoundError, NotADirectoryError):
            if not os.path.isfile(f"{self.path}/index.json"):
                raise NotFoundError(f"{self.path} is not an OCI layout: it has no index.json") from None
            raise NotFoundError(f"OCI layout {self.path}: {name}: not found") from None
        except OSError as e:
            raise SourceError(f"OCI layout {self.path}: {name}: {e.strerror}") from e
        except UnsafePathError as e:
            raise IntegrityError(f"OCI layout {self.path}: {e}") from e

    # ------------------------------------------------------------------------------------------------ writing
    def put(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """A blob, whole or not at all; free where one of its size is there. IntegrityError, StoreError."""
        path = self.blob_path(descriptor.digest)
        with self._writing():
            if os.path.exists(path) and os.path.getsize(path) == descriptor.size:
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with replacing(path) as write:
                for chunk in _checked(descriptor, chunks):
                    write(chunk)

    def publish(self, new: list[Entry], keeps: Callable[[Entry], bool]) -> list[Entry]:
        """Put ``new`` entries into index.json behind those of its own that it ``keeps``; all that it lists now. Several processes
        may do that at once. IntegrityError where the folder's index.json is something else, StoreError."""
        with self._writing():
            os.makedirs(self.path, exist_ok=True)
            with locked_folder(self.path):
                index = self._index() if os.path.lexists(f"{self.path}/index.json") else {"manifests": []}
                entries = [*filter(keeps, index["manifests"]), *new]
                index = {"schemaVersion": 2, "mediaType": OCI_INDEX, **index, "manifests": entries}
                for name, data in (("oci-layout", LAYOUT), ("index.json", gojson.encode(index))):
                    with replacing(f"{self.path}/{name}") as write:
                        write(data)
                return entries

    def keep_only(self, entries: list[Entry]) -> None:
        """Delete the blobs that no manifest below ``entries`` names. A blob that can't be read as a manifest names nothing."""
        keep: set[str] = set()
        stack = [str(entry.get("digest")) for entry in entries]
        while stack:
            digest = stack.pop()
            if digest in keep:
                continue
            keep.add(digest)
            try:
                doc = json.loads(read_named(self.blob_path(Digest.parse(digest)), MAX_MANIFEST))
                below = [*(doc.get("manifests") or ()), *(doc.get("layers") or ()), doc.get("config") or {}]
                stack += [str(d["digest"]) for d in below if isinstance(d, dict) and "digest" in d]
            except (OSError, ValueError, AttributeError, TypeError, RecursionError, UnsafePathError):
                continue
        with self._writing():
            for algorithm in os.listdir(f"{self.path}/blobs"):
                for name in os.listdir(f"{self.path}/blobs/{algorithm}"):
                    if f"{algorithm}:{name}" not in keep:
                        os.unlink(f"{self.path}/blobs/{algorithm}/{name}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise StoreError(f"can't write to {self.path}: {e.strerror}") from e


def names_of(entry: Entry) -> tuple[str, ...]:
    """What the annotations of an entry call it."""
    notes = entry.get("annotations") or {}
    return tuple(str(notes[key]) for key in (IMAGE_NAME, REF_NAME) if key in notes)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("annotations") or {}, dict)


def _checked(descriptor: Descriptor, chunks: Iterable[bytes]) -> Iterator[bytes]:
    running = Running(descriptor.digest.algorithm)
    for chunk in chunks:
        running.update(chunk)
        yield chunk
    if running.digest() != descriptor.digest:
        raise IntegrityError(f"blob {descriptor.digest} has another digest")
