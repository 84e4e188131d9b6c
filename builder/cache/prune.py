"""Garbage collection by buildkitd's rules (cache/manager.go: prune, calculateKeepBytes)."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.cache.filters import Matcher, compile_filters
from builder.cache.leases import Leases, sweep
from builder.cache.record import FRONTEND, INTERNAL
from builder.cache.types import PrunePolicy, UsageRecord
from builder.errors import DamagedStoreError
from builder.state import cancel
from builder.state.disk import store_errors

if TYPE_CHECKING:
    from builder.cache.deleting import Deleter
    from builder.cache.store import CacheStore
    from builder.cache.usage import Census, Usage

_BATCH = 16


class Pruner:
    """Carries out gc rules."""

    def __init__(self, store: CacheStore, *, usage: Usage, deleter: Deleter) -> None:
        self._store = store
        self._usage = usage
        self._deleter = deleter

    def prune(
        self, policies: Sequence[PrunePolicy], *, seconds: float | None, removed: Callable[[UsageRecord], None] | None
    ) -> list[UsageRecord]:
        """See ``Collector.prune``. DamagedStoreError if the database is damaged: what is needed can't be said then."""
        deadline_ns = None if seconds is None else time.monotonic_ns() + int(seconds * 1e9)
        sweep(self._store.layout, self._store.database, self._store.lease.id)
        with self._store.lease.transaction() as c:
            Leases(self._store.database).forget_unlocked(self._store.layout, c)
            self._store.lease.begin(c)
        out: list[UsageRecord] = []
        census: Census | None = None
        for policy in policies:
            census = census or self._usage.census()
            if self._store.database.is_suspect:
                raise DamagedStoreError("the metadata database is damaged: nothing may be removed before it is written anew")
            pruning = _Pruning(self._usage, self._deleter, policy, census, deadline_ns=deadline_ns, removed=removed)
            gone = pruning.run(self._free_bytes())
            if gone:
                out += gone
                census = None
            if deadline_ns is not None and time.monotonic_ns() > deadline_ns:
                return out
        self._deleter.sweep_leftovers()
        return out

    def _free_bytes(self) -> int:
        with store_errors("can't read the state folder"):
            status = os.statvfs(self._store.layout.root)
        return status.f_bfree * status.f_frsize


class _Pruning:
    """One policy. Candidates are taken least used and longest unused first; a parent becomes one with its last child gone."""

    def __init__(
        self,
        usage: Usage,
        deleter: Deleter,
        policy: PrunePolicy,
        census: Census,
        *,
        deadline_ns: int | None,
        removed: Callable[[UsageRecord], None] | None,
    ) -> None:
        self._deleter = deleter
        self._policy = policy
        self._matches: Matcher = compile_filters(policy.filters)
        self._deadline_ns = deadline_ns
        self._removed = removed
        self._lines = {line.id: line for line in usage.lines(census)}
        self._children: dict[str, int] = {}
        for record in census.records.values():
            for parent in set(record.parents):
                self._children[parent] = self._children.get(parent, 0) + 1

    def run(self, free_bytes: int) -> list[UsageRecord]:
        """What was removed; ``free_bytes``: on the disk. CancelledError: what went until then is gone."""
        total = sum(line.size for line in self._lines.values() if not line.shared)
        keep = keep_bytes(self._policy, total, free_bytes)
        out: list[UsageRecord] = []
        if keep and total <= keep:
            return out
        cutoff_ns = time.time_ns() - self._policy.keep_duration_ns
        eligible = [line for line in self._lines.values() if self._may_go(line, cutoff_ns)]
        rank = order(eligible)
        heap = [(rank[line.id], line.id) for line in eligible if not self._children.get(line.id)]
        heapq.heapify(heap)
        while heap and not (keep and total <= keep):
            cancel.checkpoint()
            batch: list[UsageRecord] = []
            while heap and len(batch) < _BATCH and not (keep and total <= keep):
                line = self._lines[heapq.heappop(heap)[1]]
                batch.append(line)
                total -= 0 if line.shared else line.size
                for parent in set(line.parents):
                    self._children[parent] -= 1
                    if not self._children[parent] and parent in rank:
                        heapq.heappush(heap, (rank[parent], parent))
            gone = self._deleter.delete_records([line.id for line in batch])
            for line in batch:
                if line.id in gone:
                    out.append(line)
                    if self._removed is not None:
                        self._removed(line)
                else:
                    total += 0 if line.shared else line.size
            if self._deadline_ns is not None and time.monotonic_ns() > self._deadline_ns:
                break
        return out

    def _may_go(self, line: UsageRecord, cutoff_ns: int) -> bool:
        if line.in_use:
            return False
        if not self._policy.all and (line.record_type in (INTERNAL, FRONTEND) or line.shared):
            return False
        if self._policy.keep_duration_ns and line.last_used_at_ns is not None and line.last_used_at_ns > cutoff_ns:
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
    by_time = _ranks(sorted(lines, key=lambda x: (x.last_used_at_ns or 0, x.id)), lambda x: x.last_used_at_ns or 0)
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
