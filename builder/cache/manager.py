"""The cache manager: the one door to cache records (BuildKit: cache/manager.go).

What is true is what the database says: several processes share one root. Each process keeps the records it has read, and counts
its refs; a record it has refs of is held by its lease, so that no other process collects it. Steps that must not be done twice
(unpacking a layer, making a blob, finalizing) run under a file lock and look at the row again once they have it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from builder.cache.leases import Lease, Leases, sweep
from builder.cache.record import (
    COMMITTED,
    DIFF,
    LAYER,
    LAZY,
    MERGE,
    MUTABLE,
    READY,
    REGULAR,
    CacheRecord,
    GoneError,
    LayerBlob,
    chains,
    contradiction,
    walk_up,
)
from builder.cache.records import Records
from builder.cache.refs import ImmutableRef, MutableRef
from builder.errors import DamagedStoreError, NotFoundError, StoreError
from builder.oci.digest import Digest
from builder.state.locks import named_lock, try_lock
from builder.values import dataclass, replace

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager

    from builder.cache.mounts import SharedLock
    from builder.cache.types import PrunePolicy, UnlazyProgress, UsageRecord
    from builder.content.store import ContentStore
    from builder.content.types import BlobProvider, Compression, Layer
    from builder.files.types import ChecksumOptions
    from builder.oci.descriptor import Descriptor
    from builder.snapshots.types import Snapshotter
    from builder.solver.types import Result
    from builder.state.database import Database
    from builder.state.layout import Layout

GCRoot = Callable[[], Iterable[Digest]]
ProviderResolver = Callable[[str, "Descriptor"], "BlobProvider | None"]
_PACE_SECONDS = 60.0
_NO_BLOB = "its blob is gone"


@dataclass(slots=True)
class _Entry:
    """A record as this process knows it. ``refs`` counts its refs, ``used`` says that one of them counts as a use.

    ``mountable``: this record and all it stands on are READY. ``sound``: its files or blobs were found to be there. ``gone``: its
    row was deleted under a ref.
    """

    record: CacheRecord
    refs: int = 0
    used: bool = False
    mountable: bool = False
    sound: bool = False
    gone: bool = False


class CacheManager:
    """Thread-safe. ``close`` when done; what a killed process leaves is swept by the next one."""

    def __init__(
        self,
        layout: Layout,
        database: Database,
        content: ContentStore,
        snapshotter: Snapshotter,
        *,
        roots: Sequence[GCRoot] = (),
        warn: Callable[[str], None] | None = None,
        look_over: bool = False,
    ) -> None:
        """``roots`` give the blobs that something else than records needs: manifests, configs and layers of stored images. They
        are called inside a write transaction: they may read the database, and must not write. ``look_over``: rows may
        have been lost, see ``repair``."""
        self.layout = layout
        self.database = database
        self.content = content
        self.snapshotter = snapshotter
        self.warn = warn or (lambda text: print(f"warning: {text}", file=sys.stderr))
        self.records = Records(database)
        self.lease = Lease(layout, database)
        self.leases = Leases(database)
        self.gc_roots: list[GCRoot] = list(roots)
        self._lock = threading.RLock()
        self._snapshots_lock = -1
        self._entries: dict[str, _Entry] = {}
        self.grown = False  # did this process add anything that ``collect`` should look at?
        self._uses: dict[str, tuple[float, int]] = {}
        self._providers: dict[Digest, tuple[BlobProvider, UnlazyProgress | None]] = {}
        self._resolver: ProviderResolver | None = None
        self.shared_locks: dict[str, SharedLock] = {}
        self.shared_locks_guard = threading.Lock()
        left = sweep(layout, database, self.lease.id)
        if look_over:
            from builder.cache.repair import look_over as mend

            mend(self)
        elif left:
            from builder.cache.gc import sweep_leftovers

            sweep_leftovers(self)

    def close(self) -> None:
        """Write what is still in memory and end the lease. Refs are worthless afterwards."""
        self._flush_uses()
        self.lease.close()
        if self._snapshots_lock >= 0:
            os.close(self._snapshots_lock)
            self._snapshots_lock = -1

    def use_snapshots(self, *, repair: bool = True) -> None:
        """Look at the store before anything of it is used: has its folder been copied with a loss? See ``copied.enter``."""
        from builder.cache.copied import enter

        self._snapshots_lock = enter(self, repair=repair)

    # -------------------------------------------------------------------------------------------------- making records
    def new(
        self,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        record_type: str = REGULAR,
        retain: bool = False,
        mount_key: str | None = None,
    ) -> MutableRef:
        """A writable record on ``parent``, which is unpacked and finalized first; on nothing for None."""
        if parent is not None:
            parent.unlazy()
        parents = () if parent is None else (parent.id,)
        record = self._record(
            LAYER, MUTABLE, parents, description=description, record_type=record_type, retained=retain, mount_key=mount_key
        )
        self._insert(record)
        try:
            # The row comes first: a snapshot without a row is garbage to everybody.
            self.snapshotter.prepare(record.snapshot, None if parent is None else parent.record.snapshot)
        except BaseException:
            self._discard(record.id)
            raise
        return MutableRef(self, record.id)

    def commit(self, record_id: str) -> ImmutableRef:
        """For MutableRef: the claim goes over to the new ref."""
        with self.lease.transaction() as c:
            record = self.records.update(c, record_id, state=COMMITTED, created_at=time.time())
        with self._lock:
            self._entries[record_id].record = record
        return ImmutableRef(self, record_id)

    def drop_mutable(self, record_id: str) -> None:
        """For MutableRef: give up an uncommitted record, or the claim on a retained one."""
        if self.record(record_id).retained:
            self.unclaim(record_id)
        else:
            self._discard(record_id)

    def get(self, record_id: str, *, used: bool = True) -> ImmutableRef:
        """A ref of a committed record. KeyError if it is gone, or was found damaged (then it is gone now, with a warning).

        ``used`` False: this is no use that keeps it from being pruned.
        """
        ref = self.claim(record_id, used=used)
        try:
            if ref.record.state == MUTABLE:
                raise GoneError(record_id)
            if not self._check(record_id):
                raise GoneError(record_id)
        except BaseException:
            ref.release()
            raise
        return ref

    def get_by_blob(
        self,
        layer: Layer,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        created_at: float | None = None,
        progress: UnlazyProgress | None = None,
    ) -> ImmutableRef:
        """The record of ``layer`` on ``parent``. One of the same blobChainID is the record; one of the same chainID lends its
        snapshot to a new record; else the new record is blob-only: nothing is downloaded. ``created_at``: when the layer was made,
        if that is known; it was now otherwise.

        StoreError if the parent's layers have no digests yet. NotFoundError if nobody can provide the blob.
        """
        self.offer([layer], progress)
        digest, diff_id = layer.descriptor.digest, layer.diff_id
        if layer.provider is None and not self.content.has(digest):
            raise NotFoundError(f"blob {digest} is not in the content store")
        if parent is not None and (parent.chain_id is None or parent.blob_chain_id is None):
            raise StoreError(f"record {parent.id} has no layer digests yet, no layer can be put on it")
        chain, blob_chain = chains([(diff_id, digest)], None if parent is None else parent.record)
        record = self._record(
            LAYER,
            LAZY,
            () if parent is None else (parent.id,),
            description=description,
            diff_id=diff_id,
            chain_id=chain,
            blob_chain_id=blob_chain,
            blobs=(LayerBlob(layer.descriptor, layer.source),),
        )
        if created_at is not None:
            record = replace(record, created_at=created_at)
        missed: set[str] = set()
        while True:
            for found in self.records.by_blob_chain(blob_chain):
                try:
                    return self.get(found.id)
                except KeyError:
                    missed.add(found.id)
            with self.lease.transaction() as c:
                # Asked again now that nobody else can add one: two processes that pull the same image share its records.
                if all(r.id in missed for r in self.records.by_blob_chain(blob_chain)):
                    record = self._linked(record, self.records.by_chain(chain))
                    self._add(c, record)
                    break
        self._enter(record)
        return ImmutableRef(self, record.id)

    def merge(self, refs: Sequence[ImmutableRef | None], *, description: str = "") -> ImmutableRef | None:
        """The inputs' layers over one another, first lowest. Nothing is laid anywhere before a mount. None for no inputs;
        one input is its own merge; merges of merges are made flat."""
        parents: list[str] = []
        for ref in refs:
            if ref is not None:
                parents += ref.record.parents if ref.record.kind == MERGE else (ref.id,)
        if not parents:
            return None
        if len(parents) == 1:
            return self.claim(parents[0])
        record = self._record(MERGE, LAZY, tuple(parents), description=description)
        self._insert(record)
        return ImmutableRef(self, record.id)

    def diff(self, lower: ImmutableRef | None, upper: ImmutableRef | None, *, description: str = "") -> ImmutableRef | None:
        """What ``upper`` adds to and deletes from ``lower``. If lower's layers are the first of upper's it is the rest of them
        (docs/dev/merge-diff.md of BuildKit), else the trees are compared once somebody needs it. None for an empty difference."""
        if lower is None:
            return None if upper is None else upper.clone()
        if upper is None:
            return self._diff(lower.id, self._nothing(), description)
        if lower.id == upper.id:
            return None
        below, above = [[r.id for r in self.layer_chain(x.id)] for x in (lower, upper)]
        if len(above) <= len(below) + 1 or above[: len(below)] != below:
            return self._diff(lower.id, upper.id, description)
        parts: list[ImmutableRef] = []
        try:
            for layer_id in above[len(below) :]:
                step = self.record(layer_id)
                if step.parent is None:
                    parts.append(self.claim(layer_id))
                else:
                    parts.append(self._diff(step.parent, layer_id, f'diff "{step.parent}" -> "{layer_id}"'))
            return self.merge(parts, description=description)
        finally:
            for part in parts:
                part.release()

    def cache_mount(
        self,
        key: str,
        sharing: str,
        base: ImmutableRef | None = None,
        *,
        description: str = "",
    ) -> MutableRef:
        """The persistent folder of a RUN --mount=type=cache, see ``mounts.acquire``."""
        from builder.cache.mounts import acquire

        return acquire(self, key, sharing, base, description)

    def forget_cache_mounts(self, key: str, *, based: bool) -> None:
        """Later cache mounts of the key begin anew, see ``mounts.forget``."""
        from builder.cache.mounts import forget

        forget(self, key, based=based)

    # ------------------------------------------------------------------------------------------------ the solver's results
    def save(self, result: Result) -> str:
        """solver.types.ResultStore: records are kept anyway."""
        return result.id

    def load(self, result_id: str) -> ImmutableRef | None:
        try:
            return self.get(result_id)
        except KeyError:
            return None

    def exists(self, result_id: str) -> bool:
        """Is the record there and sound? Nothing is held: it may be gone by the time it is loaded."""
        with self._lock:
            if not self._know(result_id):
                return False
            entry = self._entries[result_id]
            if entry.refs == 0 and self.records.get(result_id) is None:
                self._forget([result_id])
                return False
        return entry.record.state != MUTABLE and self._check(result_id)

    # ----------------------------------------------------------------------------------------------------- what refs ask
    def record(self, record_id: str) -> CacheRecord:
        """As this process knows it; KeyError if it is gone."""
        entry = self._entries.get(record_id)
        if entry is None:
            with self._lock:
                if not self._know(record_id):
                    raise GoneError(record_id)
                entry = self._entries[record_id]
        return entry.record

    def claim(self, record_id: str, *, used: bool = False) -> ImmutableRef:
        """One more ref. KeyError if the record is gone."""
        with self._lock:
            known = self._know(record_id)
            if known:
                entry = self._entries[record_id]
                entry.refs += 1
                entry.used |= used
                if self.lease.holds(record_id):
                    return ImmutableRef(self, record_id)
        if not known:
            raise GoneError(record_id)
        try:
            with self.lease.transaction() as c:
                if self.records.get(record_id) is None:
                    raise GoneError(record_id)
                self.lease.hold(c, record_id)
        except BaseException:
            with self._lock:
                entry.refs -= 1
                self._forget([record_id])
            raise
        return ImmutableRef(self, record_id)

    def unclaim(self, record_id: str) -> None:
        """One ref less."""
        with self._lock:
            entry = self._entries.get(record_id)
            if entry is None:
                return
            entry.refs -= 1
            if entry.refs == 0:
                if entry.used:
                    self._uses[record_id] = (time.time(), self._uses.get(record_id, (0.0, 0))[1] + 1)
                    entry.used = False
                self.lease.let_go(record_id)
                if entry.gone:
                    del self._entries[record_id]

    def layer_chain(self, record_id: str) -> list[CacheRecord]:
        """The records that are layers of this one, bottom first (BuildKit: layerWalk)."""
        out: list[CacheRecord] = []
        stack = [(self.record(record_id), False)]
        while stack:
            record, is_layer = stack.pop()
            if is_layer:
                out.append(record)
            elif record.kind == MERGE:
                stack += [(self.record(p), False) for p in reversed(record.parents)]
            elif record.kind == DIFF:
                lower, upper = (self.record(p) for p in record.parents)
                # One layer more than lower: that layer's blob is the difference.
                out.append(upper if upper.parent == lower.id else record)
            else:
                chain = [record]
                while (below := chain[-1].parent) is not None and self.record(below).kind == LAYER:
                    chain.append(self.record(below))
                stack += [(layer, True) for layer in chain]
                if below is not None:
                    # A layer on a merge or a diff: those layers first, then these again.
                    stack.append((self.record(below), False))
        return out

    def pending(self, record_id: str) -> list[CacheRecord]:
        """What has to be made READY before this record can be mounted, parents before children."""
        if self._entries[record_id].mountable:
            return []
        order = walk_up(self.record(record_id), self.record, lambda r: self._entries[r.id].mountable)
        return [r for r in order if r.state != READY]

    def finalize(self, record_id: str) -> None:
        with self.step_lock(record_id):
            record = self.reread(record_id)
            if record.state == COMMITTED:
                self.snapshotter.commit(record.snapshot)
                self.set_ready(record)

    def unlazy(self, record_id: str, progress: UnlazyProgress | None = None) -> None:
        if not self._entries[record_id].mountable:
            from builder.cache.unpack import make_ready

            make_ready(self, record_id, progress)
            with self._lock:
                self._entries[record_id].mountable = True

    def remote(self, record_id: str, compression: Compression, *, create: bool) -> tuple[Layer, ...]:
        from builder.cache.blobs import remote

        return remote(self, record_id, compression, create=create)

    def checksum(self, ref: ImmutableRef, path: str, options: ChecksumOptions) -> Digest:
        """Computed once: a ref's files never change."""
        known = self.known_checksum(ref, path, options)
        if known is not None:
            return known
        from builder.files import checksum as contenthash
        from builder.files.statcache import RefChecksums

        with ref.mount() as folder:
            digest = contenthash.checksum(folder, path, options)
        RefChecksums(self.database).put(ref.id, path, options, digest)
        return digest

    def known_checksum(self, ref: ImmutableRef, path: str, options: ChecksumOptions) -> Digest | None:
        """One that was computed before."""
        from builder.files.statcache import RefChecksums

        return RefChecksums(self.database).get(ref.id, path, options)

    def size(self, record_id: str) -> int:
        record = self.record(record_id)
        own = 0 if record.state == LAZY else self.snapshotter.usage(record.snapshot).size
        return own + sum(b.descriptor.size for b in self.records.blobs(record_id) if self.has_blob(b.descriptor))

    # --------------------------------------------------------------------------------------------- where blobs come from
    def offer(self, layers: Iterable[Layer], progress: UnlazyProgress | None = None) -> None:
        """Providers for lazy layers: of records that are made, and of those that this process finds in the cache."""
        with self._lock:
            for layer in layers:
                if layer.provider is not None:
                    self._providers[layer.descriptor.digest] = (layer.provider, progress)

    def set_provider_resolver(self, resolver: ProviderResolver) -> None:
        """How to make a provider of a remembered ``Layer.source``; it may answer None, and should not touch the network yet."""
        self._resolver = resolver

    def provider(self, blob: LayerBlob) -> BlobProvider | None:
        """Who can bring the blob, or None."""
        with self._lock:
            known = self._providers.get(blob.descriptor.digest)
            if known is not None:
                return known[0]
            if not blob.source or self._resolver is None:
                return None
            resolved = self._resolver(blob.source, blob.descriptor)
            if resolved is not None:
                self._providers[blob.descriptor.digest] = (resolved, None)
            return resolved

    def progress_of(self, digest: Digest) -> UnlazyProgress | None:
        known = self._providers.get(digest)
        return known[1] if known else None

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Is the blob in the content store, whole? A truncated one is deleted."""
        try:
            size = self.content.size(descriptor.digest)
        except NotFoundError:
            return False
        if size != descriptor.size:
            self.warn(f"blob {descriptor.digest} has {size} bytes instead of {descriptor.size}: deleted")
            self.content.delete(descriptor.digest)
            return False
        return True

    def obtainable(self, blob: LayerBlob) -> bool:
        """Is it here, or does somebody provide it?"""
        return self.has_blob(blob.descriptor) or self.provider(blob) is not None

    # ------------------------------------------------------------------------------------------------------- collecting
    def hold_blobs(self, digests: Iterable[Digest]) -> None:
        """Keep blobs from being collected while this process lives. Call it before blobs are put that no record will name:
        then ``put`` either finds them safe or writes them anew."""
        with self.lease.transaction() as c:
            self.lease.hold_blobs(c, digests)

    def disk_usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """What there is, oldest first; ``filters``: see ``filters``."""
        from builder.cache.gc import disk_usage

        self._flush_uses()
        return disk_usage(self, filters)

    def collect(self, policies: Sequence[PrunePolicy], *, seconds: float) -> list[UsageRecord]:
        """``prune`` after a build. Nothing to do for a process that added nothing, within a minute of the last collection
        (buildkitd's pace), or while another process collects."""
        if not self.grown:
            return []
        self.grown = False
        path = self.layout.path("locks", "collect")
        lock = try_lock(path)
        if lock is None:
            return []
        try:
            status = os.fstat(lock)
            if status.st_size and 0 <= time.time() - status.st_mtime < _PACE_SECONDS:
                return []
            removed = self.prune(policies, seconds=seconds)
            os.pwrite(lock, b"collected\n", 0)
            return removed
        except DamagedStoreError:
            return []  # not before the database is written anew: nothing else has to wait for that
        finally:
            os.close(lock)

    def prune(
        self,
        policies: Sequence[PrunePolicy],
        *,
        seconds: float | None = None,
        removed: Callable[[UsageRecord], None] | None = None,
    ) -> list[UsageRecord]:
        """Carry out gc rules one after the other; what was removed. ``seconds``: stop after about that long."""
        from builder.cache.gc import prune

        self._flush_uses()
        return prune(self, policies, seconds, removed)

    def fsck(self, *, verify: bool = False) -> list[str]:
        """What is damaged in the store, a line each; nothing is changed. ``verify``: read every blob and compare its digest."""
        from builder.cache.fsck import fsck

        return fsck(self, verify=verify)

    def garbage(self) -> list[str]:
        """What nothing needs and the next ``prune`` takes, a line each."""
        from builder.cache.fsck import garbage

        return garbage(self)

    def removed(self, record_ids: Iterable[str]) -> None:
        """For gc: these rows are gone."""
        from builder.files.statcache import RefChecksums

        ids = list(record_ids)
        with self._lock:
            self._forget(ids)
        RefChecksums(self.database).forget(ids)

    # ---------------------------------------------------------------------------------------------------- for neighbours
    def step_lock(self, record_id: str) -> AbstractContextManager[bool]:
        """Exclusive between threads and processes, for one piece of work on the record: unpacking it, making a blob of it. It
        may be held over a download, so each record has a lock of its own."""
        return named_lock(self.layout.locks, f"record-{record_id}")

    def reread(self, record_id: str) -> CacheRecord:
        """The record as the database has it now. KeyError if it is gone."""
        record = self.records.get(record_id)
        if record is None:
            raise GoneError(record_id)
        with self._lock:
            entry = self._entries.setdefault(record_id, _Entry(record))
            entry.record = record
        return record

    def set_ready(self, record: CacheRecord) -> None:
        """The record's snapshot is committed now."""
        self.grown = True
        with self.lease.transaction() as c:
            self.records.set_state(c, record.snapshot, READY)
        with self._lock:
            for entry in self._entries.values():
                if entry.record.snapshot == record.snapshot:
                    entry.record = replace(entry.record, state=READY)

    def refresh(self, record_ids: Iterable[str]) -> None:
        """Read records again that this process knows: their rows have changed."""
        for record_id in record_ids:
            record = self.records.get(record_id) if record_id in self._entries else None
            with self._lock:
                if record is not None and record_id in self._entries:
                    self._entries[record_id].record = record

    def measured(self, name: str, stamp: float, measure: Callable[[], int]) -> int:
        """A size that is measured again only when ``stamp`` is another: walking a big cache mount takes seconds."""
        size = self.records.size_of(name, stamp)
        if size is None:
            size = measure()
            with self.lease.transaction() as c:
                self.records.remember_size(c, name, stamp, size)
        return size

    def damaged(self, record_id: str, reason: str) -> None:
        """Drop a record that can't be used, and all that stands on it: they are cache misses from now on."""
        doomed = self.records.descendants(record_id)
        snapshots: list[str] = []
        with self.lease.transaction() as c:
            for at in doomed:
                snapshots += self.records.delete(c, at)[0]
        self._lost(f"cache record {record_id} is damaged ({reason}): it and {len(doomed) - 1} that stand on it were dropped")
        self.removed(doomed)
        for snapshot in snapshots:
            self.snapshotter.remove(snapshot)

    # ----------------------------------------------------------------------------------------------------------- inside
    def _record(self, kind: str, state: str, parents: tuple[str, ...], **more: Any) -> CacheRecord:
        """A record that begins now, with a snapshot of its own name; ``more``: its other fields."""
        new = os.urandom(12).hex()
        now = time.time()
        return CacheRecord(id=new, kind=kind, state=state, snapshot=new, parents=parents, created_at=now, last_used=now, **more)

    def _linked(self, record: CacheRecord, twins: list[CacheRecord]) -> CacheRecord:
        """Share the snapshot of a record with the same chainID. Its parent must share its snapshot too: whoever is deleted
        first must not take away what the other one's snapshot stands on."""
        mine = None if record.parent is None else self.record(record.parent).snapshot
        for twin in twins:
            theirs = None if twin.parent is None else self.record(twin.parent).snapshot
            if twin.kind == LAYER and twin.state in (LAZY, READY) and mine == theirs:
                return replace(record, snapshot=twin.snapshot, state=twin.state)
        return record

    def _diff(self, lower: str, upper: str, description: str) -> ImmutableRef:
        record = self._record(DIFF, LAZY, (lower, upper), description=description)
        self._insert(record)
        return ImmutableRef(self, record.id)

    def _nothing(self) -> str:
        """An empty committed record, for a diff whose upper is nothing."""
        empty = self.new(None, description="empty")
        ref = empty.commit()
        try:
            return ref.id
        finally:
            ref.release()

    def _insert(self, record: CacheRecord) -> None:
        with self.lease.transaction() as c:
            self._add(c, record)
        self._enter(record)

    def _add(self, c: sqlite3.Connection, record: CacheRecord) -> None:
        self.records.insert(c, record)
        self.lease.hold(c, record.id)

    def _enter(self, record: CacheRecord) -> None:
        with self._lock:
            self.grown = True
            self._entries[record.id] = _Entry(record, refs=1, used=True, sound=True)

    def _discard(self, record_id: str) -> None:
        with self.lease.transaction() as c:
            snapshots, _ = self.records.delete(c, record_id)
        with self._lock:
            self.lease.let_go(record_id)
            self._entries.pop(record_id, None)
        for snapshot in snapshots:
            self.snapshotter.remove(snapshot)

    def _know(self, record_id: str) -> bool:
        """Read the record and its ancestors if need be. Call with the lock."""
        entry = self._entries.get(record_id)
        if entry is not None:
            return not entry.gone
        found = self.records.load(record_id, self._entries)
        if record_id not in found or any(p not in found and p not in self._entries for r in found.values() for p in r.parents):
            return False
        if not self._agree(found):
            return False
        for at, record in found.items():
            self._entries.setdefault(at, _Entry(record))
        return True

    def _agree(self, found: dict[str, CacheRecord]) -> bool:
        """Does what records say of their layers fit what their parents say? Those of a store that lies are gone."""
        for record in found.values():
            below = record.parent
            if contradiction(record, None if below is None else found.get(below) or self._entries[below].record):
                # The parent may have been read before another process made its blob anew.
                below_now = None if below is None else self.records.get(below)
                now = self.records.get(record.id)
                why = "" if now is None else contradiction(now, below_now)
                if why:
                    self.database.suspect(f"cache record {record.id}: {why}")
                if why or now is None:
                    return False
                found[record.id] = now
        return True

    def _forget(self, record_ids: Iterable[str]) -> None:
        """Know nothing of records that are gone, nor of what this process believes to stand on them."""
        gone = set(record_ids)
        size = -1
        while size != len(gone):
            size = len(gone)
            gone.update(e.record.id for e in self._entries.values() if not gone.isdisjoint(e.record.parents))
        for at in gone:
            entry = self._entries.get(at)
            if entry is not None:
                entry.gone = True
                if entry.refs == 0:
                    del self._entries[at]

    def _check(self, record_id: str) -> bool:
        """Are the files or blobs of the record and of all it stands on there? Looked at once a process."""
        with self._lock:
            order = walk_up(self.record(record_id), self.record, lambda r: self._entries[r.id].sound)
        for record in order:
            reason = self._unsound(record)
            if reason:
                if reason != _NO_BLOB or not self._held_elsewhere(record.id):
                    self.damaged(record.id, reason)
                return False
            self._entries[record.id].sound = True
        return True

    def _unsound(self, record: CacheRecord) -> str:
        """Why the record is of no use, or "". One that lost its snapshot but has its blob is blob-only again."""
        if record.state != LAZY:
            if self.snapshotter.exists(record.snapshot):
                return ""
            if record.kind == LAYER and not any(self.obtainable(b) for b in self.records.blobs(record.id)):
                return "its files are gone"
            self._lost(f"the files of cache record {record.id} are gone: made anew when needed")
            self.snapshotter.remove(record.snapshot)
            with self.lease.transaction() as c:
                self.records.set_state(c, record.snapshot, LAZY)
            self.reread(record.id)
            return ""
        if record.kind == LAYER and not any(self.obtainable(b) for b in self.records.blobs(record.id)):
            return _NO_BLOB
        return ""

    def _lost(self, text: str) -> None:
        """A warning, unless it only tells what follows from damage that was told."""
        if not self.database.is_suspect:
            self.warn(text)

    def _held_elsewhere(self, record_id: str) -> bool:
        """Does another process hold the record, or one on it? It may know somebody to get the blob from."""
        held = self.leases.records(but=self.lease.id)
        return bool(held) and not held.isdisjoint(self.records.descendants(record_id))

    def _flush_uses(self) -> None:
        with self._lock:
            uses, self._uses = self._uses, {}
        if uses:
            with self.lease.transaction() as c:
                self.records.count_uses(c, uses)
