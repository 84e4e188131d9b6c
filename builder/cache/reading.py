"""The bytes of a layer's blob, on their way from whoever has them: verified, and kept in the content store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.cache.damage import BLOB_GONE
from builder.errors import IntegrityError, LayerError, NotFoundError
from builder.oci.digest import Running
from builder.state import cancel

if TYPE_CHECKING:
    from builder.cache.damage import Damage
    from builder.cache.record import LayerBlob
    from builder.cache.store import CacheStore
    from builder.content.store import ContentStore
    from builder.content.types import BlobProvider
    from builder.oci.digest import Digest


class LayerReader:
    """Thread-safe."""

    def __init__(self, store: CacheStore, *, damage: Damage) -> None:
        self._store = store
        self._damage = damage

    def choose(self, record_id: str) -> tuple[LayerBlob, BlobProvider | None]:
        """The blob to read the layer from, and who provides it. One that is here comes first. NotFoundError if nobody provides any:
        the record can't be used then, and is dropped."""
        blobs = self._store.records.blobs(record_id)
        for blob in blobs:
            if self._store.providers.has_blob(blob.descriptor):
                return blob, None
        for blob in blobs:
            provider = self._store.providers.get(blob)
            if provider is not None:
                return blob, provider
        name = blobs[0].descriptor.digest if blobs else "of no digest"
        self._damage.drop(record_id, BLOB_GONE)
        raise NotFoundError(f"layer {name} is not in the content store, and it is not known where it came from", hint="build again")

    @contextmanager
    def open(self, blob: LayerBlob, provider: BlobProvider | None) -> Iterator[Iterator[bytes]]:
        """The blob's bytes, kept in the content store on the way. The store's lock is gone with the block, whatever still refers to
        the iterator (the traceback of an error does)."""
        chunks = self._store.content.tee(blob.descriptor, provider)
        try:
            yield chunks
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()


def verified(blob: Iterator[bytes], diff_id: Digest, digest: Digest) -> Iterator[bytes]:
    """The tar inside the blob. IntegrityError at the end if it does not have the diffID."""
    from builder.content.compression import decompress

    running = Running(diff_id.algorithm)
    try:
        for chunk in decompress(blob):
            cancel.checkpoint()
            running.update(chunk)
            yield chunk
    except LayerError:
        for _ in blob:
            cancel.checkpoint()  # to the end: a digest that does not fit is the better error
        raise
    if running.digest() != diff_id:
        raise IntegrityError(f"layer {digest}: its content has the diffID {running.digest()}, expected {diff_id}")


def is_intact(content: ContentStore, digest: Digest) -> bool:
    """Read the blob and compare its digest. CancelledError."""
    running = Running(digest.algorithm)
    for chunk in content.chunks(digest):
        cancel.checkpoint()
        running.update(chunk)
    return running.digest() == digest
