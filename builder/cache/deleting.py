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

if TYPE_CHECKING:
    from builder.cache.changes import RecordChanges
    from builder.cache.gitrepos import GitRepositories
    from builder.cache.leases import Lease, Leases
    from builder.cache.records import Records
    from builder.cache.types import GCRoot
    from builder.content.store import ContentStore
    from builder.snapshots.types import Snapshotter
    from builder.state.database import Database
    from builder.state.layout import Layout

_SWEEP_BLOBS_AFTER = 24 * 3600
"""Seconds. A living process may have put a blob and not named it yet."""


class Deleter:
    """Thread-safe."""

    def __init__(
        self,
        *,
        changes: RecordChanges,
        records: Records,
        lease: Lease,
        leases: Leases,
        git: GitRepositories,
        gc_roots: Sequence[GCRoot],
        content: ContentStore,
        snapshotter: Snapshotter,
        database: Database,
        layout: Layout,
    ) -> None:
        self._changes = changes
        self._records = records
        self._lease = lease
        self._leases = leases
        self._git = git
        self._gc_roots = gc_roots
        self._content = content
        self._snapshotter = snapshotter
        self._database = database
        self._layout = layout

    def delete_records(self, record_ids: Sequence[str]) -> set[str]:
        """Delete those of the records (children before parents) that nobody holds and nothing stands on, and git repositories;
        gives their ids."""
        gone: set[str] = set()
        snapshots: list[str] = []
        blobs: list[Digest] = []
        with self._lease.transaction() as c:
            for record_id in record_ids:
                needed = self._records.is_needed(record_id) or self._leases.holds(record_id)
                if record_id.startswith(GIT_PREFIX) or needed:
                    continue
                s, b = self._records.delete(c, record_id)
                snapshots += s
                blobs += b
                gone.add(record_id)
            self._records.forget_sizes(c, record_ids)
        self._changes.removed(gone)
        gone.update(r for r in record_ids if r.startswith(GIT_PREFIX) and self._git.remove(r))
        for snapshot in snapshots:
            self._snapshotter.remove(snapshot)
        self.delete_blobs(blobs)
        for record_id in gone:
            path = mount_lock_path(self._layout, record_id)
            if os.path.exists(path):
                os.unlink(path)  # of a cache mount: its row is gone, so whoever still finds the file finds no record
        return gone

    def delete_blobs(self, digests: Iterable[Digest]) -> None:
        """Delete those that no record, lease or root names. Inside the transaction: who adds a row afterwards sees that the blob is
        gone, and makes it again."""
        wanted = set(digests)
        if not wanted:
            return
        with self._lease.transaction():
            roots = {d for root in self._gc_roots for d in root()}
            if self._database.is_suspect:
                return
            for digest in sorted(wanted - roots):
                if not (self._records.names_blob(digest) or self._leases.holds_blob(digest)):
                    self._content.delete(digest)

    def sweep_leftovers(self) -> None:
        """What killed processes left: writable records nobody holds, snapshots without a record, blobs that nothing names, locks.
        CancelledError: the next sweep does the rest."""
        locks.sweep(self._layout.locks, SWEPT_PREFIXES)
        records, held = take_stock(self._records, self._leases, self._database)
        if self._database.is_suspect:
            return  # what no row names may be what a damaged row named
        orphans = [r.id for r in records.values() if r.state == MUTABLE and not r.retained and r.id not in held]
        if orphans:
            self.delete_records(orphans)
        # A row comes before its snapshot: what has none, seen in this order, never will have one.
        keys = list(self._snapshotter.keys())
        known = self._records.snapshots()
        for key in keys:
            cancel.checkpoint()
            if key not in known:
                self._snapshotter.remove(key)
        self._snapshotter.sweep()
        now = time.time()
        self._content.sweep(now)
        started = self._leases.started(but=self._lease.id)
        # Blobs that a living process may have just put, or found there: without a row yet.
        before = min([*started, now]) - (_SWEEP_BLOBS_AFTER if started else 0)
        named = self._records.named_blobs() | self._leases.blobs()
        self.delete_blobs([d for d, _, mtime in self._content.walk() if d not in named and mtime < before])
