"""Damage of records: one whose files or blobs are lost is dropped with all that stands on it, as a cache miss with a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cache.record import LAYER, LAZY, CacheRecord

if TYPE_CHECKING:
    from builder.cache.changes import RecordChanges
    from builder.cache.store import CacheStore

FILES_GONE = "its files are gone"
BLOB_GONE = "its blob is gone"


class Damage:
    """Thread-safe. Looks at files at most once a process for each record."""

    def __init__(self, store: CacheStore, *, changes: RecordChanges) -> None:
        self._store = store
        self._changes = changes

    def is_sound(self, record_id: str) -> bool:
        """Are the files or blobs of the record and of all it stands on there? If not they are dropped. GoneError."""
        for record in self._store.known.unchecked(record_id):
            reason = self._lack(record)
            if reason:
                if reason != BLOB_GONE or not self._is_held_elsewhere(record.id):
                    self.drop(record.id, reason)
                return False
            self._store.known.set_sound(record.id)
        return True

    def drop(self, record_id: str, reason: str) -> None:
        """Drop a record that can't be used, and all that stands on it: they are cache misses from now on."""
        doomed = self._store.records.descendants(record_id)
        snapshots: list[str] = []
        with self._store.lease.transaction() as c:
            for at in doomed:
                snapshots += self._store.records.delete(c, at)[0]
        self._tell(f"cache record {record_id} is damaged ({reason}): it and {len(doomed) - 1} that stand on it were dropped")
        self._changes.removed(doomed)
        for snapshot in snapshots:
            self._store.snapshotter.remove(snapshot)

    def _lack(self, record: CacheRecord) -> str:
        """Why the record is of no use, or "". One that lost its snapshot but has its blob is blob-only again."""
        if record.state != LAZY and self._store.snapshotter.exists(record.snapshot):
            return ""
        if record.kind == LAYER and not self._can_have_blob(record):
            return BLOB_GONE if record.state == LAZY else FILES_GONE
        if record.state != LAZY:
            self._tell(f"the files of cache record {record.id} are gone: made anew when needed")
            self._changes.set_lazy(record)
        return ""

    def _can_have_blob(self, record: CacheRecord) -> bool:
        return any(self._store.providers.can_have(blob) for blob in self._store.records.blobs(record.id))

    def _tell(self, text: str) -> None:
        """Warn, unless this only follows from damage that the user was warned of already."""
        if not self._store.database.is_suspect:
            self._store.warn(text)

    def _is_held_elsewhere(self, record_id: str) -> bool:
        """Does another process hold the record, or one that stands on it? That process may have a provider of the blob."""
        held = self._store.leases.records(but=self._store.lease.id)
        return bool(held) and not held.isdisjoint(self._store.records.descendants(record_id))
