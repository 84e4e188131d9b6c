"""The records that this process knows: what it has read of the database, and what it found out about them.

What is true is what the database says, since several processes share it. This table saves asking again: a record that this process
holds can't be collected, so that its parents and layers stay what they were. What other processes do change (a lazy record becomes
ready, a blob is made anew) is read again under the lock of the step that cares.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.cache.record import READY, CacheRecord, GoneError, contradiction, walk_up
from builder.values import dataclass, replace

if TYPE_CHECKING:
    from builder.cache.records import Records
    from builder.state.database import Database


@dataclass(slots=True)
class Entry:
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


class KnownRecords:
    """Thread-safe. ``lock`` is held over short looks and changes, and over reading a record for the first time; never over work."""

    def __init__(self, records: Records, database: Database) -> None:
        self._records = records
        self._database = database
        self._entries: dict[str, Entry] = {}
        self.lock = threading.RLock()

    def get(self, record_id: str) -> CacheRecord:
        """As this process knows it. GoneError (a KeyError) if it is gone."""
        known = self._entries.get(record_id)
        if known is None:
            with self.lock:
                known = self.entry(record_id)
                if known is None:
                    raise GoneError(record_id)
        return known.record

    def entry(self, record_id: str) -> Entry | None:
        """The record's entry, read from the database with its ancestors if need be; None if it is gone. Call with the lock."""
        known = self._entries.get(record_id)
        if known is not None:
            return None if known.gone else known
        found = self._records.load(record_id, self._entries)
        if record_id not in found or any(p not in found and p not in self._entries for r in found.values() for p in r.parents):
            return None
        if not self._agree(found):
            return None
        for at, record in found.items():
            self._entries.setdefault(at, Entry(record))
        return self._entries[record_id]

    def known_entry(self, record_id: str) -> Entry | None:
        """The entry, also of a record that is gone; None if this process knows nothing of it. Call with the lock."""
        return self._entries.get(record_id)

    def look_up(self, record_id: str) -> CacheRecord | None:
        """The record if it is there now: one that no ref of this process holds may have been collected by another."""
        with self.lock:
            known = self.entry(record_id)
            if known is None:
                return None
            if known.refs == 0 and self._records.get(record_id) is None:
                self.forget([record_id])
                return None
            return known.record

    def enter(self, record: CacheRecord) -> None:
        """A record that was just made, with its first ref."""
        with self.lock:
            self._entries[record.id] = Entry(record, refs=1, used=True, sound=True)

    def reread(self, record_id: str) -> CacheRecord:
        """The record as the database has it now. GoneError if it is gone."""
        record = self._records.get(record_id)
        if record is None:
            raise GoneError(record_id)
        self.replace(record)
        return record

    def replace(self, record: CacheRecord) -> None:
        """What the database says of the record now."""
        with self.lock:
            self._entries.setdefault(record.id, Entry(record)).record = record

    def refresh(self, record_ids: Iterable[str]) -> None:
        """Read records again that this process knows: their rows have changed."""
        for record_id in record_ids:
            record = self._records.get(record_id) if record_id in self._entries else None
            with self.lock:
                if record is not None and record_id in self._entries:
                    self._entries[record_id].record = record

    def snapshot_is_ready(self, snapshot: str) -> None:
        """Note that every record which shares the snapshot is READY."""
        with self.lock:
            for known in self._entries.values():
                if known.record.snapshot == snapshot:
                    known.record = replace(known.record, state=READY)

    def drop(self, record_id: str) -> None:
        """Forget a record on which no other one stands."""
        with self.lock:
            self._entries.pop(record_id, None)

    def forget(self, record_ids: Iterable[str]) -> None:
        """Forget records that are gone, and those that stand on them as far as this process knows."""
        with self.lock:
            gone = set(record_ids)
            size = -1
            while size != len(gone):
                size = len(gone)
                gone.update(e.record.id for e in self._entries.values() if not gone.isdisjoint(e.record.parents))
            for at in gone:
                known = self._entries.get(at)
                if known is not None:
                    known.gone = True
                    if known.refs == 0:
                        del self._entries[at]

    # ----------------------------------------------------------------------------------------- what was found out about them
    def unready(self, record_id: str) -> list[CacheRecord]:
        """What has to be made READY before this record can be mounted, parents before children."""
        return [r for r in walk_up(self.get(record_id), self.get, lambda r: self.is_mountable(r.id)) if r.state != READY]

    def is_mountable(self, record_id: str) -> bool:
        known = self._entries.get(record_id)
        return known is not None and known.mountable

    def set_mountable(self, record_id: str) -> None:
        with self.lock:
            known = self._entries.get(record_id)
            if known is not None:
                known.mountable = True

    def unchecked(self, record_id: str) -> list[CacheRecord]:
        """Of the record and its ancestors those whose files or blobs were not looked for yet, parents before children."""
        with self.lock:
            return walk_up(self.get(record_id), self.get, self._is_sound)

    def set_sound(self, record_id: str) -> None:
        with self.lock:
            known = self._entries.get(record_id)
            if known is not None:
                known.sound = True

    def _is_sound(self, record: CacheRecord) -> bool:
        known = self._entries.get(record.id)
        return known is not None and known.sound

    def _agree(self, found: dict[str, CacheRecord]) -> bool:
        """Do the records agree with their parents on the layers? If one does not, its row is damaged, and it counts as gone."""
        for record in found.values():
            below = record.parent
            if contradiction(record, None if below is None else found.get(below) or self._entries[below].record):
                # The parent may have been read before another process made its blob anew.
                below_now = None if below is None else self._records.get(below)
                now = self._records.get(record.id)
                why = "" if now is None else contradiction(now, below_now)
                if why:
                    self._database.suspect(f"cache record {record.id}: {why}")
                if why or now is None:
                    return False
                found[record.id] = now
        return True
