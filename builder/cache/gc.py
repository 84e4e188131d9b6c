"""Disk usage and garbage collection, by buildkitd's rules (cache/manager.go: DiskUsage, prune, calculateKeepBytes).

A record goes in one transaction that makes sure that nobody holds it and nothing stands on it; then its snapshot, then blobs that
nothing names any more. A crash in between leaves a snapshot or blobs without a record: garbage that the next run finds.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from builder.cache import gitrepos
from builder.cache.filters import Matcher, compile_filters
from builder.cache.leases import sweep
from builder.cache.mounts import lock_path
from builder.cache.record import FRONTEND, INTERNAL, LAZY, MUTABLE, CacheRecord
from builder.cache.types import PrunePolicy, UsageRecord
from builder.errors import DamagedStoreError, StoreError
from builder.oci.digest import Digest
from builder.state import locks
from builder.state.database import ASIDE, SUSPECT
from builder.state.disk import store_errors
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager

METADATA, IMAGES = "metadata", "images"
"""Ids of two lines of ``du`` that are no records: the store itself, and blobs that only stored images name."""
_BATCH = 16
_SWEEP_BLOBS_AFTER = 24 * 3600
_NAMED_LOCKS = ("step-", "record-", "mounts-")


# ------------------------------------------------------------------------------------------------------------ usage
@dataclass(slots=True)
class _Census:
    """Everything there is, read at once."""

    records: dict[str, CacheRecord]
    held: frozenset[str]
    roots: frozenset[Digest]
    sizes: dict[str, int]

    def layer_digests(self, record: CacheRecord) -> set[Digest]:
        """First blobs of all layers; for ``shared``."""
        out: set[Digest] = set()
        stack = [record]
        while stack:
            at = stack.pop()
            if at.blobs:
                out.add(at.blobs[0].descriptor.digest)
            stack += [self.records[p] for p in at.parents if p in self.records]
        return out


def _take_census(manager: CacheManager) -> _Census:
    records, leased = _take_stock(manager)
    held = leased & records.keys()
    roots = frozenset(d for root in manager.gc_roots for d in root())
    return _Census(records, frozenset(held), roots, _sizes(manager, records, held))


def _take_stock(manager: CacheManager) -> tuple[dict[str, CacheRecord], set[str]]:
    """(all records, ids of those that are held), read so that damage is noticed: see ``Database.is_suspect``."""
    with manager.database.reading():
        records = manager.records.all()
        for table in manager.records.contradictions(records):
            manager.database.suspect(f"its table {table} does not fit the records")
        return records, manager.leases.records()


def _sizes(manager: CacheManager, records: dict[str, CacheRecord], held: set[str]) -> dict[str, int]:
    """Bytes on disk by record. What several records share counts for the oldest, so that the sum is what the disk holds."""
    snapshots: set[str] = set()
    digests: set[Digest] = set()
    sizes: dict[str, int] = {}
    for record in records.values():
        size = 0
        changing = record.state == MUTABLE and record.id in held
        if record.state != LAZY and not changing and record.snapshot not in snapshots:
            snapshots.add(record.snapshot)
            size += _snapshot_size(manager, record)
        for blob in record.blobs:
            if blob.descriptor.digest not in digests:
                digests.add(blob.descriptor.digest)
                size += _bytes(manager.content.path(blob.descriptor.digest))
        sizes[record.id] = size
    return sizes


def _snapshot_size(manager: CacheManager, record: CacheRecord) -> int:
    def usage() -> int:
        try:
            return manager.snapshotter.usage(record.snapshot).size
        except StoreError:
            return 0  # lost, or just removed by another process

    if record.state == MUTABLE and record.last_used is not None:
        return manager.measured(record.id, record.last_used, usage)
    return usage()


def disk_usage(manager: CacheManager, filters: Sequence[str] = ()) -> list[UsageRecord]:
    """See ``CacheManager.disk_usage``. The lines for the store itself and for images' blobs come last."""
    matches = compile_filters(filters)
    census = _take_census(manager)
    in_use = _with_ancestors(census.records, census.held)
    lines = [_line(census, r, in_use) for r in census.records.values()] + gitrepos.lines(manager)
    lines.append(_internal(METADATA, "database, locks and folders of the store", _overhead(manager)))
    named = {b.descriptor.digest for record in census.records.values() for b in record.blobs}
    others = sum(_bytes(manager.content.path(d)) for d, _, _ in manager.content.walk() if d not in named)
    if others:
        lines.append(_internal(IMAGES, "blobs of stored images", others, shared=True))
    return [line for line in lines if matches(line)]


def _line(census: _Census, record: CacheRecord, in_use: set[str]) -> UsageRecord:
    digests = census.layer_digests(record) if census.roots else set()
    return UsageRecord(
        id=record.id,
        parents=record.parents,
        size=census.sizes[record.id],
        mutable=record.state == MUTABLE,
        in_use=record.id in in_use,
        created_at=record.created_at,
        last_used_at=record.last_used,
        usage_count=record.usage_count,
        description=record.description,
        record_type=record.record_type,
        shared=bool(digests) and digests <= census.roots,
    )


def _internal(name: str, description: str, size: int, *, shared: bool = False) -> UsageRecord:
    return UsageRecord(name, (), size, True, True, 0.0, None, 0, description, INTERNAL, shared)


def _with_ancestors(records: dict[str, CacheRecord], start: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    stack = list(start)
    while stack:
        at = stack.pop()
        if at not in seen and at in records:
            seen.add(at)
            stack += records[at].parents
    return seen


def _overhead(manager: CacheManager) -> int:
    """Bytes on disk of the store itself: what its root holds beside snapshots' files, blobs and git repositories."""
    layout = manager.layout
    parts = ("", "-wal", "-shm")
    size = sum(_bytes(layout.database + suffix) for suffix in (*parts, SUSPECT, *(ASIDE + part for part in parts)))
    size += _bytes(layout.path("reserve")) + _bytes(layout.path("images.json"))
    folders = (layout.root, layout.path("tmp"), layout.tmp, layout.content, layout.path("content", "sha256"))
    size += sum(_bytes(folder) for folder in folders)
    for folder in (layout.locks, layout.ingest, layout.snapshots):
        with os.scandir(folder) as entries:
            size += _bytes(folder) + sum(_bytes(entry.path) for entry in entries)
    return size


def _bytes(path: str) -> int:
    """On disk; 0 if it is not there."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


# ------------------------------------------------------------------------------------------------------------ prune
def prune(
    manager: CacheManager,
    policies: Sequence[PrunePolicy],
    seconds: float | None,
    removed: Callable[[UsageRecord], None] | None,
) -> list[UsageRecord]:
    """See ``CacheManager.prune``."""
    deadline = None if seconds is None else time.monotonic() + seconds
    sweep(manager.layout, manager.database, manager.lease.id)
    with manager.lease.transaction() as c:
        manager.leases.forget_unlocked(manager.layout, c)
        manager.lease.begin(c)
    out: list[UsageRecord] = []
    census: _Census | None = None
    for policy in policies:
        census = census or _take_census(manager)
        if manager.database.is_suspect:
            raise DamagedStoreError("the metadata database is damaged: nothing may be removed before it is written anew")
        gone = _Pruning(manager, policy, census, deadline, removed).run()
        if gone:
            out += gone
            census = None
        if deadline is not None and time.monotonic() > deadline:
            return out
    sweep_leftovers(manager)
    return out


class _Pruning:
    """One policy. Candidates are taken least used and longest unused first; a parent becomes one with its last child gone."""

    def __init__(
        self,
        manager: CacheManager,
        policy: PrunePolicy,
        census: _Census,
        deadline: float | None,
        removed: Callable[[UsageRecord], None] | None,
    ) -> None:
        self._manager = manager
        self._policy = policy
        self._matches: Matcher = compile_filters(policy.filters)
        self._deadline = deadline
        self._removed = removed
        in_use = _with_ancestors(census.records, census.held)
        self._lines = {r.id: _line(census, r, in_use) for r in census.records.values()}
        self._lines.update((line.id, line) for line in gitrepos.lines(manager))
        self._children: dict[str, int] = {}
        for record in census.records.values():
            for parent in set(record.parents):
                self._children[parent] = self._children.get(parent, 0) + 1

    def run(self) -> list[UsageRecord]:
        total = sum(line.size for line in self._lines.values() if not line.shared)
        keep = keep_bytes(self._policy, total, _free(self._manager))
        out: list[UsageRecord] = []
        if keep and total <= keep:
            return out
        cutoff = time.time() - self._policy.keep_duration
        eligible = [line for line in self._lines.values() if self._may_go(line, cutoff)]
        rank = order(eligible)
        heap = [(rank[line.id], line.id) for line in eligible if not self._children.get(line.id)]
        heapq.heapify(heap)
        while heap and not (keep and total <= keep):
            batch: list[UsageRecord] = []
            while heap and len(batch) < _BATCH and not (keep and total <= keep):
                line = self._lines[heapq.heappop(heap)[1]]
                batch.append(line)
                total -= 0 if line.shared else line.size
                for parent in set(line.parents):
                    self._children[parent] -= 1
                    if not self._children[parent] and parent in rank:
                        heapq.heappush(heap, (rank[parent], parent))
            gone = delete_records(self._manager, [line.id for line in batch])
            for line in batch:
                if line.id in gone:
                    out.append(line)
                    if self._removed is not None:
                        self._removed(line)
                else:
                    total += 0 if line.shared else line.size
            if self._deadline is not None and time.monotonic() > self._deadline:
                break
        return out

    def _may_go(self, line: UsageRecord, cutoff: float) -> bool:
        if line.in_use:
            return False
        if not self._policy.all and (line.record_type in (INTERNAL, FRONTEND) or line.shared):
            return False
        if self._policy.keep_duration and line.last_used_at is not None and line.last_used_at > cutoff:
            return False
        return self._matches(line)


def keep_bytes(policy: PrunePolicy, total: int, free: int) -> int:
    """How many bytes may stay; 0: no bound, everything that may go goes.

    ``min_free_space`` alone on a disk that has as much leaves everything: BuildKit says so too, and takes one record at a time."""
    if not (policy.max_used_space or policy.reserved_space or policy.min_free_space):
        return 0
    keep = policy.max_used_space
    excess = policy.min_free_space - free
    if policy.min_free_space and excess > 0:
        keep = total - excess if keep == 0 else min(keep, total - excess)
    elif policy.min_free_space and keep == 0:
        keep = total
    return max(keep, policy.reserved_space)


def order(lines: Sequence[UsageRecord]) -> dict[str, float]:
    """Rank by id, lowest goes first: how long unused and how seldom used count alike (BuildKit: sortDeleteRecords)."""
    by_time = _ranks(sorted(lines, key=lambda x: (x.last_used_at or 0.0, x.id)), lambda x: x.last_used_at or 0.0)
    by_count = _ranks(sorted(lines, key=lambda x: (x.usage_count, x.id)), lambda x: float(x.usage_count))
    return {line.id: by_time[line.id] + by_count[line.id] for line in lines}


def _ranks(lines: list[UsageRecord], value: Callable[[UsageRecord], float]) -> dict[str, float]:
    """Position among the distinct values, between 0 and 1."""
    at, last = 1.0, 0.0
    positions: dict[str, float] = {}
    for line in lines:
        if value(line) != last:
            last = value(line)
            at += 1
        positions[line.id] = at
    return {name: position / at for name, position in positions.items()}


def _free(manager: CacheManager) -> int:
    with store_errors("can't read the state folder"):
        status = os.statvfs(manager.layout.root)
    return status.f_bfree * status.f_frsize


# -------------------------------------------------------------------------------------------------------- deleting
def delete_records(manager: CacheManager, record_ids: Sequence[str]) -> set[str]:
    """Delete those of the records (children before parents) that nobody holds and nothing stands on, and git repositories; gives
    their ids."""
    gone: set[str] = set()
    snapshots: list[str] = []
    blobs: list[Digest] = []
    with manager.lease.transaction() as c:
        for record_id in record_ids:
            needed = manager.records.is_needed(record_id) or manager.leases.holds(record_id)
            if record_id.startswith(gitrepos.PREFIX) or needed:
                continue
            s, b = manager.records.delete(c, record_id)
            snapshots += s
            blobs += b
            gone.add(record_id)
        manager.records.forget_sizes(c, record_ids)
    manager.removed(gone)
    gone.update(r for r in record_ids if r.startswith(gitrepos.PREFIX) and gitrepos.remove(manager.layout, r))
    for snapshot in snapshots:
        manager.snapshotter.remove(snapshot)
    delete_blobs(manager, blobs)
    for record_id in gone:
        path = lock_path(manager, record_id)
        if os.path.exists(path):
            os.unlink(path)  # of a cache mount: its row is gone, so whoever still finds the file finds no record
    return gone


def delete_blobs(manager: CacheManager, digests: Iterable[Digest]) -> None:
    """Delete those that no record, lease or root names. Inside the transaction: who adds a row afterwards sees that the blob is
    gone, and makes it again."""
    wanted = set(digests)
    if not wanted:
        return
    with manager.lease.transaction():
        roots = {d for root in manager.gc_roots for d in root()}
        if manager.database.is_suspect:
            return
        for digest in sorted(wanted - roots):
            if not (manager.records.names_blob(digest) or manager.leases.holds_blob(digest)):
                manager.content.delete(digest)


def sweep_leftovers(manager: CacheManager) -> None:
    """What killed processes left: writable records nobody holds, snapshots without a record, blobs that nothing names, locks."""
    locks.sweep(manager.layout.locks, _NAMED_LOCKS)
    records, held = _take_stock(manager)
    if manager.database.is_suspect:
        return  # what no row names may be what a damaged row named
    orphans = [r.id for r in records.values() if r.state == MUTABLE and not r.retained and r.id not in held]
    if orphans:
        delete_records(manager, orphans)
    # A row comes before its snapshot: what has none, seen in this order, never will have one.
    keys = list(manager.snapshotter.keys())
    known = manager.records.snapshots()
    for key in keys:
        if key not in known:
            manager.snapshotter.remove(key)
    sweep_folders = getattr(manager.snapshotter, "sweep", None)
    if sweep_folders is not None:
        sweep_folders()
    now = time.time()
    manager.content.sweep(now)
    started = manager.leases.started(but=manager.lease.id)
    # Blobs that a living process may have just put, or found there: without a row yet.
    before = min([*started, now]) - (_SWEEP_BLOBS_AFTER if started else 0)
    named = manager.records.named_blobs() | manager.leases.blobs()
    delete_blobs(manager, [d for d, _, mtime in manager.content.walk() if d not in named and mtime < before])
