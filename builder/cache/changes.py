"""Changes of records: the row in the database and what this process knows of it, one after the other.

The row comes first. A process that dies in between leaves a valid store; one that lives sees the change in both.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.cache.record import COMMITTED, LAZY, READY, CacheRecord
from builder.errors import StoreError

if TYPE_CHECKING:
    import sqlite3

    from builder.cache.checksums import Checksums
    from builder.cache.store import CacheStore


class RecordChanges:
    """Thread-safe. ``has_additions``: did this process add anything that a collection should look at?"""

    def __init__(self, store: CacheStore, *, checksums: Checksums) -> None:
        self._store = store
        self._checksums = checksums
        self.has_additions = False

    def add(self, record: CacheRecord) -> None:
        """A new record with one ref. GoneError if one of its parents is gone."""
        with self._store.lease.transaction() as c:
            self.insert(c, record)
        self.enter(record)

    def insert(self, c: sqlite3.Connection, record: CacheRecord) -> None:
        """The first half of ``add``, within a transaction of the lease. GoneError."""
        self._store.records.insert(c, record)
        self._store.lease.hold(c, record.id)

    def enter(self, record: CacheRecord) -> None:
        """The second half of ``add``, after the transaction."""
        self.has_additions = True
        self._store.known.enter(record)

    def commit(self, record_id: str) -> None:
        """MUTABLE becomes COMMITTED: metadata only. GoneError."""
        with self._store.lease.transaction() as c:
            record = self._store.records.update(c, record_id, state=COMMITTED, created_at_ns=time.time_ns())
        self._store.known.replace(record)

    def set_ready(self, record: CacheRecord) -> None:
        """The record's snapshot is committed now, for all records that share it."""
        self.has_additions = True
        with self._store.lease.transaction() as c:
            self._store.records.set_state(c, record.snapshot, READY)
        self._store.known.snapshot_is_ready(record.snapshot)

    def set_lazy(self, record: CacheRecord) -> None:
        """The record lost its files, and can be made again of its blob or its parents."""
        self._store.snapshotter.remove(record.snapshot)
        with self._store.lease.transaction() as c:
            self._store.records.set_state(c, record.snapshot, LAZY)
        self._store.known.reread(record.id)

    def discard(self, record_id: str) -> None:
        """Delete a record that nobody but this process has seen."""
        try:
            snapshots = self._delete(record_id)
        except StoreError:
            # The disk may be full of the record's own files: they make room for the transaction. What fails, or is killed, from
            # here on leaves a writable record, with or without files, to the sweep of the next process.
            self._store.lease.leave()
            self._store.snapshotter.remove(self._store.known.get(record_id).snapshot)
            snapshots = self._delete(record_id)
        with self._store.known.lock:
            self._store.lease.let_go(record_id)
            self._store.known.drop(record_id)
        for snapshot in snapshots:
            self._store.snapshotter.remove(snapshot)

    def _delete(self, record_id: str) -> list[str]:
        """Delete the row; gives the snapshots that no other record needs."""
        with self._store.lease.transaction() as c:
            return self._store.records.delete(c, record_id)[0]

    def removed(self, record_ids: Iterable[str]) -> None:
        """Their rows are gone: forget them, and what stands on them."""
        ids = list(record_ids)
        self._store.known.forget(ids)
        self._checksums.forget(ids)
