"""Making lazy records mountable: layers are downloaded, verified and unpacked side by side; then merges and diffs are laid out.

A layer becomes a snapshot only if the bytes of its tar, to the last one, have the diffID that its image's config names, and the
bytes of its blob the digest that its manifest names. Otherwise nothing is left of it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from builder.cache.record import COMMITTED, LAYER, LAZY, MERGE, CacheRecord, LayerBlob
from builder.errors import IntegrityError, LayerError, NotFoundError, PybuildError
from builder.files.types import NeedsParent
from builder.oci.digest import Digest
from builder.state import trace
from builder.state.threads import ahead, run, start

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager
    from builder.cache.types import UnlazyProgress
    from builder.content.types import BlobProvider


def make_ready(manager: CacheManager, record_id: str, progress: UnlazyProgress | None) -> None:
    """Everything that ``record_id`` needs before it can be mounted, itself last."""
    pending = manager.pending(record_id)
    layers = [r for r in pending if r.state == LAZY and r.kind == LAYER]
    _Unpacking(manager, progress).layers(layers)
    for record in pending:
        if record.state == COMMITTED:
            manager.finalize(record.id)
        elif record.state == LAZY and record.kind != LAYER:
            _lay_out(manager, record)


class _Unpacking:
    """The lazy layers of one ref."""

    def __init__(self, manager: CacheManager, progress: UnlazyProgress | None) -> None:
        self._manager = manager
        self._progress = progress
        self._late: list[CacheRecord] = []
        self._lock = threading.Lock()

    def layers(self, records: list[CacheRecord]) -> None:
        """``records``: parents before children."""
        if self._manager.snapshotter.parallel_apply:
            run([lambda r=record: self._beside(r) for record in records])  # type: ignore[misc]
            late = {r.id for r in self._late}
            in_order = [r for r in records if r.id in late]
        else:
            self._fetch_ahead(records[1:])
            in_order = records
        for record in in_order:
            self._unpack(record)

    def _beside(self, record: CacheRecord) -> None:
        try:
            self._unpack(record)
        except NeedsParent:
            with self._lock:
                self._late.append(record)

    def _fetch_ahead(self, records: list[CacheRecord]) -> None:
        """Layers that must be unpacked one by one are downloaded meanwhile. Errors show again where the layer is unpacked."""

        def fetch(record: CacheRecord) -> None:
            try:
                blob, provider = choose_blob(self._manager, record)
                if provider is not None:
                    self._manager.content.fetch(blob.descriptor, provider)
            except PybuildError:
                pass

        for record in records:
            start(partial(fetch, record), "layer-fetch")

    def _unpack(self, record: CacheRecord) -> None:
        manager = self._manager
        with manager.step_lock(record.snapshot):
            record = manager.reread(record.id)
            if record.state != LAZY:
                return  # another thread or process was faster
            if manager.snapshotter.exists(record.snapshot):
                manager.set_ready(record)  # its process was killed before it could say so
                return
            try:
                with trace.span("cache", "unpack layer", record=record.id, diff_id=record.diff_id):
                    self._apply(record)
            except (IntegrityError, LayerError) as e:
                if isinstance(e, NeedsParent) or not self._drop_damaged_blob(record):
                    raise
                self._apply(record)
            manager.set_ready(record)

    def _apply(self, record: CacheRecord) -> None:
        manager = self._manager
        blob, provider = choose_blob(manager, record)
        assert record.diff_id is not None
        parent = None if record.parent is None else manager.record(record.parent).snapshot
        report = self._progress or manager.progress_of(blob.descriptor.digest)
        with opened(manager, blob, provider) as blob_chunks:
            source = verified(_told(blob_chunks, blob, report), record.diff_id, blob.descriptor.digest)
            with ahead(source) as chunks:
                manager.snapshotter.apply(record.snapshot, parent, chunks)
        if report is not None:
            report(blob.descriptor, blob.descriptor.size, blob.descriptor.size, True)

    def _drop_damaged_blob(self, record: CacheRecord) -> bool:
        """After a failure: was it a stored blob that has rotten, and can it be had again?"""
        manager = self._manager
        for blob in manager.records.blobs(record.id):
            digest = blob.descriptor.digest
            if not manager.content.has(digest) or is_intact(manager, digest):
                continue
            manager.warn(f"blob {digest} is damaged in the content store: deleted")
            manager.content.delete(digest)
            if manager.provider(blob) is not None:
                return True
            manager.damaged(record.id, f"its blob {digest} does not have that digest")
        return False


def choose_blob(manager: CacheManager, record: CacheRecord) -> tuple[LayerBlob, BlobProvider | None]:
    """The blob to unpack from, one that is here if there is, and who provides it otherwise. NotFoundError if nobody can."""
    blobs = manager.records.blobs(record.id)
    for blob in blobs:
        if manager.has_blob(blob.descriptor):
            return blob, None
    for blob in blobs:
        provider = manager.provider(blob)
        if provider is not None:
            return blob, provider
    name = blobs[0].descriptor.digest if blobs else "of no digest"
    manager.damaged(record.id, "its blob is gone")
    raise NotFoundError(f"layer {name} is not in the content store, and it is not known where it came from", hint="build again")


@contextmanager
def opened(manager: CacheManager, blob: LayerBlob, provider: BlobProvider | None) -> Iterator[Iterator[bytes]]:
    """The blob's bytes, kept in the content store on the way. The store's lock is gone with the block, whatever still refers to
    the iterator (the traceback of an error does)."""
    chunks = manager.content.tee(blob.descriptor, provider)
    try:
        yield chunks
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def verified(blob: Iterator[bytes], diff_id: Digest, digest: Digest) -> Iterator[bytes]:
    """The tar inside the blob. IntegrityError at the end if it does not have the diffID."""
    from builder.content.compression import decompress

    h = hashlib.new(diff_id.algorithm)
    try:
        for chunk in decompress(blob):
            h.update(chunk)
            yield chunk
    except LayerError:
        for _ in blob:
            pass  # to the end: if these are not the blob's bytes that is the error to tell
        raise
    if h.hexdigest() != diff_id.hex:
        raise IntegrityError(f"layer {digest}: its content has the diffID {diff_id.algorithm}:{h.hexdigest()}, expected {diff_id}")


def is_intact(manager: CacheManager, digest: Digest) -> bool:
    """Read the blob and compare its digest."""
    h = hashlib.new(digest.algorithm)
    for chunk in manager.content.chunks(digest):
        h.update(chunk)
    return h.hexdigest() == digest.hex


def _told(chunks: Iterator[bytes], blob: LayerBlob, report: UnlazyProgress | None) -> Iterator[bytes]:
    if report is None:
        yield from chunks
        return
    done = 0
    for chunk in chunks:
        done += len(chunk)
        report(blob.descriptor, done, blob.descriptor.size, False)
        yield chunk


def _lay_out(manager: CacheManager, record: CacheRecord) -> None:
    """A merge or a diff whose parents are READY."""
    with manager.step_lock(record.snapshot):
        record = manager.reread(record.id)
        if record.state != LAZY:
            return
        if not manager.snapshotter.exists(record.snapshot):
            parents = [manager.record(p) for p in record.parents]
            if record.kind == MERGE:
                manager.snapshotter.merge(record.snapshot, [p.snapshot for p in parents])
            elif parents[1].parent == parents[0].id:
                manager.snapshotter.own(record.snapshot, parents[1].snapshot)
            else:
                _compare(manager, record.snapshot, parents[0].snapshot, parents[1].snapshot)
        manager.set_ready(record)


def _compare(manager: CacheManager, key: str, lower: str, upper: str) -> None:
    """The difference of two trees as a layer on nothing."""
    import tempfile

    with tempfile.TemporaryFile(dir=manager.layout.tmp) as spool:
        manager.snapshotter.diff(upper, lower, spool.write)
        spool.seek(0)
        manager.snapshotter.apply(key, None, iter(lambda: spool.read(1 << 20), b""))
