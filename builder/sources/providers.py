"""Where lazy layers come from, by the text that is remembered with their record: ``docker.io/library/debian``, or
``oci-layout:/folder``. Nothing is imported and no connection is made before the first byte is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from builder.content.layout import LayoutFolder
from builder.errors import NotFoundError, SourceError
from runtime.errors import UnsafePathError
from runtime.linux.safepath import open_named

if TYPE_CHECKING:
    from builder.content.types import BlobProvider
    from builder.net.client import RegistryClient
    from builder.oci.descriptor import Descriptor
    from builder.oci.digest import Digest
    from builder.worker import Worker

LAYOUT_PREFIX = "oci-layout:"
_CHUNK = 1 << 20
def connect(worker: Worker) -> None:
    """Tell the cache manager where lazy layers that an earlier process left come from."""


    def resolve(source: str, descriptor: Descriptor) -> BlobProvider | None:
        folder = source.removeprefix(LAYOUT_PREFIX)
        if folder != source and not os.path.exists(LayoutFolder(folder).blob_path(descriptor.digest)):
            return None  # the user's folder, gone since: the record is a miss, not an error
        return resolve_provider(worker, source)

    worker.cache.providers.set_resolver(resolve)


def resolve_provider(worker: Worker, source: str) -> BlobProvider:
    """The provider for a remembered ``Layer.source``."""
    if source.startswith(LAYOUT_PREFIX):
        return LayoutBlobs(source.removeprefix(LAYOUT_PREFIX))
    return RegistryBlobs(worker, (source,))


class RegistryBlobs:
    """Blobs of one of several repositories: the first that has it."""

    def __init__(self, worker: Worker, repositories: tuple[str, ...]) -> None:
        self._worker = worker
        self._repositories = repositories

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """See BlobProvider.open."""
        client = self._worker.registry
        with _first(client, self._repositories, descriptor, offset) as chunks:
            yield chunks


class LayoutBlobs:
    """Blobs of an OCI layout on disk, read in place."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """See BlobProvider.open."""
        return _file_chunks(LayoutFolder(self._folder).blob_path(descriptor.digest), descriptor.digest, offset)


@contextmanager
def _file_chunks(path: str, digest: Digest, offset: int) -> Iterator[Iterator[bytes]]:
    try:
        file = os.fdopen(open_named(path), "rb")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"blob {digest} is not in the OCI layout") from None
    except OSError as e:
        raise SourceError(f"can't read {path}: {e.strerror}") from e
    except UnsafePathError as e:
        raise SourceError(f"can't read the OCI layout: {e}") from e
    with file:
        file.seek(offset)
        yield iter(lambda: file.read(_CHUNK), b"")


@contextmanager
def _first(
    client: RegistryClient, repositories: tuple[str, ...], descriptor: Descriptor, offset: int
) -> Iterator[Iterator[bytes]]:
    """Open the blob where it can be had. A repository's refusal shows with its first byte, so that is waited for."""
    from builder.oci.reference import Reference

    failure: SourceError | None = None
    for name in repositories:
        with client.open_blob(Reference.parse(name), descriptor, offset) as chunks:
            try:
                first = next(chunks, b"")
            except SourceError as e:
                failure = failure or e
                continue
            yield _chain(first, chunks)
            return
    raise failure or NotFoundError(f"no repository is known to have blob {descriptor.digest}")


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
