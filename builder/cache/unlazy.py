"""Making lazy records mountable: layers are downloaded, verified and unpacked side by side; then merges and diffs are laid out.

A layer becomes a snapshot only if the bytes of its tar, to the last one, have the diffID that its image's config names, and the
bytes of its blob the digest that its manifest names. Otherwise nothing is left of it.

Steps that must not be done twice run under the record's file lock, and look at the row again once they have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from builder.cache.locks import step_lock
from builder.cache.reading import is_intact, verified
from builder.cache.record import COMMITTED, LAYER, LAZY, MERGE, CacheRecord, LayerBlob
from builder.errors import DamagedBlobError, IntegrityError, LayerError, PybuildError
from builder.files.types import NeedsParent
from builder.state import cancel, trace
from builder.state.threads import ahead, run, start

if TYPE_CHECKING:
    from builder.cache.changes import RecordChanges
    from builder.cache.damage import Damage
    from builder.cache.reading import LayerReader
    from builder.cache.store import CacheStore
    from builder.cache.types import UnlazyProgress


class LayerUnpacker:
    """Makes the snapshot of one lazy layer. Thread-safe."""

    def __init__(self, store: CacheStore, *, changes: RecordChanges, reader: LayerReader, damage: Damage) -> None:
        self._store = store
        self._changes = changes
        self._reader = reader
        self._damage = damage

    def unpack(self, record: CacheRecord, progress: UnlazyProgress | None) -> None:
        """NeedsParent if the layer links into the one below, which is not there yet. SourceError, IntegrityError, LayerError."""
        with step_lock(self._store.layout, record.snapshot):
            record = self._store.known.reread(record.id)
            if record.state != LAZY:
                return  # another thread or process was faster
            if self._store.snapshotter.exists(record.snapshot):
                self._changes.set_ready(record)  # its process was killed before it could say so
                return
            try:
                with trace.span("cache", "unpack layer", record=record.id, diff_id=record.diff_id):
                    self._apply(record, progress)
            except (IntegrityError, LayerError) as e:
                if isinstance(e, NeedsParent) or not self._drop_damaged_blob(record, e):
                    raise
                self._apply(record, progress)
            self._changes.set_ready(record)

    def fetch(self, record: CacheRecord) -> None:
        """Download the layer's blob. An error is ignored here: unpacking the layer runs into the same one, and raises it."""
        try:
            blob, provider = self._reader.choose(record.id)
            if provider is not None:
                self._store.content.fetch(blob.descriptor, provider)
        except PybuildError:
            pass

    def _apply(self, record: CacheRecord, progress: UnlazyProgress | None) -> None:
        blob, provider = self._reader.choose(record.id)
        assert record.diff_id is not None
        parent = None if record.parent is None else self._store.known.get(record.parent).snapshot
        report = progress or self._store.providers.progress_of(blob.descriptor.digest)
        with self._reader.open(blob, provider) as blob_chunks:
            source = verified(_told(blob_chunks, blob, report), record.diff_id, blob.descriptor.digest)
            try:
                with ahead(source) as chunks:
                    self._store.snapshotter.apply(record.snapshot, parent, chunks)
            except LayerError as e:
                if not isinstance(e, NeedsParent):
                    for _ in blob_chunks:
                        cancel.checkpoint()  # to the end: a digest that does not fit is the better error
                raise
        if report is not None:
            report(blob.descriptor, blob.descriptor.size, blob.descriptor.size, True)

    def _drop_damaged_blob(self, record: CacheRecord, error: Exception) -> bool:
        """After a failure: was a stored blob damaged, and can it be downloaded again? DamagedBlobError if it can't."""
        for blob in self._store.records.blobs(record.id):
            digest = blob.descriptor.digest
            if not self._store.content.has(digest) or is_intact(self._store.content, digest):
                continue
            self._store.warn(f"blob {digest} is damaged in the content store: deleted")
            self._store.content.delete(digest)
            if self._store.providers.get(blob) is not None:
                return True
            self._damage.drop(record.id, f"its blob {digest} does not have that digest")
            raise DamagedBlobError(f"blob {digest} was damaged in the content store", hint="it was deleted: build again") from error
        return False


class Unlazier:
    """Makes records mountable. Thread-safe."""

    def __init__(self, store: CacheStore, *, changes: RecordChanges, unpacker: LayerUnpacker) -> None:
        self._store = store
        self._changes = changes
        self._unpacker = unpacker

    def make_mountable(self, record_id: str, progress: UnlazyProgress | None = None) -> None:
        """Everything that the record needs before it can be mounted, itself last; the caller holds it. SourceError, IntegrityError,
        LayerError; GoneError if the record is gone."""
        if self._store.known.is_mountable(record_id):
            return
        unready = self._store.known.unready(record_id)
        self._unpack([r for r in unready if r.state == LAZY and r.kind == LAYER], progress)
        for record in unready:
            cancel.checkpoint()
            if record.state == COMMITTED:
                self.finalize(record.id)
            elif record.state == LAZY and record.kind != LAYER:
                self._lay_out(record)
        self._store.known.set_mountable(record_id)

    def finalize(self, record_id: str) -> None:
        """Commit the snapshot of a record that was only committed in the database so far. GoneError."""
        with step_lock(self._store.layout, record_id):
            record = self._store.known.reread(record_id)
            if record.state == COMMITTED:
                self._store.snapshotter.commit(record.snapshot)
                self._changes.set_ready(record)

    def _unpack(self, layers: list[CacheRecord], progress: UnlazyProgress | None) -> None:
        """``layers``: parents before children."""
        in_order = layers
        if self._store.snapshotter.parallel_apply:
            needed_parents = self._unpack_beside(layers, progress)
            in_order = [r for r in layers if r.id in needed_parents]
        else:
            # Layers that must be unpacked one by one are downloaded meanwhile.
            for record in layers[1:]:
                start(partial(self._unpacker.fetch, record), "layer-fetch")
        for record in in_order:
            cancel.checkpoint()
            self._unpacker.unpack(record, progress)

    def _unpack_beside(self, layers: list[CacheRecord], progress: UnlazyProgress | None) -> set[str]:
        """Unpack all, several at once. Gives those that can't be unpacked before their parents are."""
        needed_parents: set[str] = set()

        def unpack(record: CacheRecord) -> None:
            try:
                self._unpacker.unpack(record, progress)
            except NeedsParent:
                needed_parents.add(record.id)  # of several threads: adding to a set is one step of the interpreter

        run([partial(unpack, record) for record in layers])
        return needed_parents

    def _lay_out(self, record: CacheRecord) -> None:
        """A merge or a diff whose parents are READY."""
        with step_lock(self._store.layout, record.snapshot):
            record = self._store.known.reread(record.id)
            if record.state != LAZY:
                return
            if not self._store.snapshotter.exists(record.snapshot):
                parents = [self._store.known.get(p) for p in record.parents]
                if record.kind == MERGE:
                    self._store.snapshotter.merge(record.snapshot, [p.snapshot for p in parents])
                elif parents[1].parent == parents[0].id:
                    self._store.snapshotter.own(record.snapshot, parents[1].snapshot)
                else:
                    self._compare(record.snapshot, parents[0].snapshot, parents[1].snapshot)
            self._changes.set_ready(record)

    def _compare(self, key: str, lower: str, upper: str) -> None:
        """The difference of two trees as a layer on nothing."""
        import tempfile

        with tempfile.TemporaryFile(dir=self._store.layout.tmp) as spool:
            self._store.snapshotter.diff(upper, lower, spool.write)
            spool.seek(0)
            self._store.snapshotter.apply(key, None, iter(lambda: spool.read(1 << 20), b""))


def _told(chunks: Iterator[bytes], blob: LayerBlob, report: UnlazyProgress | None) -> Iterator[bytes]:
    """``chunks``, and ``report`` hears of each."""
    done = 0
    for chunk in chunks:  # and not "yield from": ``chunks`` is read on where this ends early
        done += len(chunk)
        if report is not None:
            report(blob.descriptor, done, blob.descriptor.size, False)
        yield chunk
