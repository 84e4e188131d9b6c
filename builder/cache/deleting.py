"""Deleting what nobody holds and nothing needs.

A record goes in one transaction that makes sure that nobody holds it and nothing stands on it; then its snapshot, then blobs that
nothing names any more. A crash in between leaves a snapshot or blobs without a record: garbage that the next sweep finds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from builder.cache.gitrepos import GIT_PREFIX
from builder.cache.locks import SWEPT_PREFIXES, mount_lock_path
from builder.cache.record import MUTABLE
from builder.cache.usage import take_stock
from builder.oci.digest import Digest
from builder.state import cancel, locks
from builder.text.times import NS

if TYPE_CHECKING:
    from builder.cache.changes import RecordChanges
    from builder.cache.gitrepos import GitRepositories
    from builder.cache.store import CacheStore

_SWEEP_BLOBS_AFTER_NS = 24 * 3600 * NS
"""A living process may have put a blob and not named it yet."""


class Deleter:
    """Thread-safe."""

    def __init__(self, store: CacheStore, *, changes: RecordChanges, git: GitRepositories) -> None:
        self._store = store
        self._changes = changes
        self._git = git

    def delete_records(self, record_ids: Sequence[str]) -> set[str]:
        """Delete those of the records (children before parents) that nobody holds and nothing stands on, and git repositories;
        gives their ids."""
        gone: set[str] = set()
        snapshots: list[str] = []
        blobs: list[Digest] = []
        with self._store.lease.transaction() as c:
            for record_id in record_ids:
                needed = self._store.records.is_needed(record_id) or self._store.leases.holds(record_id)
                if record_id.startswith(GIT_PREFIX) or needed:
                    continue
                s, b = self._store.records.delete(c, record_id)
                snapshots += s
                blobs += b
                gone.add(record_id)
            self._store.records.forget_sizes(c, record_ids)
        self._changes.removed(gone)
        gone.update(r for r in record_ids if r.startswith(GIT_PREFIX) and self._git.remove(r))
        for snapshot in snapshots:
            self._store.snapshotter.remove(snapshot)
        self.delete_blobs(blobs)
        for record_id in gone:
            path = mount_lock_path(self._store.layout, record_id)
            if os.path.exists(path):
                os.unlink(path)  # of a cache mount: its row is gone, so whoever still finds the file finds no record
        return gone

    def delete_blobs(self, digests: Iterable[Digest]) -> None:
        """Delete those that no record, lease or root names. Inside the transaction: who adds a row afterwards sees that the blob is
        gone, and makes it again."""
        wanted = set(digests)
        if not wanted:
            return
        with self._store.lease.transaction():
            roots = {d for root in self._store.gc_roots for d in root()}
            if self._store.database.is_suspect:
                return
            for digest in sorted(wanted - roots):
                if not (self._store.records.names_blob(digest) or self._store.leases.holds_blob(digest)):
                    self._store.content.delete(digest)

    def sweep_leftovers(self) -> None:
        """What killed processes left: writable records nobody holds, snapshots without a record, blobs that nothing names, locks.
        CancelledError: the next sweep does the rest."""
        locks.sweep(self._store.layout.locks, SWEPT_PREFIXES)
        records, held = take_stock(self._store.records, self._store.leases, self._store.database)
        if self._store.database.is_suspect:
            return  # what no row names may be what a damaged row named
        orphans = [r.id for r in records.values() if r.state == MUTABLE and not r.retained and r.id not in held]
        if orphans:
            self.delete_records(orphans)
        # A row comes before its snapshot: what has none, seen in this order, never will have one.
        keys = list(self._store.snapshotter.keys())
        known = self._store.records.snapshots()
        for key in keys:
            cancel.checkpoint()
            if key not in known:
                self._store.snapshotter.remove(key)
        self._store.snapshotter.sweep()
        now_ns = time.time_ns()
        self._store.content.sweep(now_ns)
        started = self._store.leases.started_ns(but=self._store.lease.id)
        # Blobs that a living process may have just put, or found there: without a row yet.
        before_ns = min([*started, now_ns]) - (_SWEEP_BLOBS_AFTER_NS if started else 0)
        named = self._store.records.named_blobs() | self._store.leases.blobs()
        self.delete_blobs([d for d, _, mtime_ns in self._store.content.walk() if d not in named and mtime_ns < before_ns])
