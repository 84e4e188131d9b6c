"""Looking over a store whose database has lost rows: records that can't stand without them are dropped at once, so that no build
meets them one by one. It warns of nothing: the loss was told already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cache.record import DIFF, LAYER, LAZY, MERGE, CacheRecord, contradiction

if TYPE_CHECKING:
    from builder.cache.deleting import Deleter
    from builder.cache.store import CacheStore

_PARENTS = {LAYER: (0, 1), MERGE: (1, 1 << 30), DIFF: (2, 2)}
"""By kind of record, how many parents it may have."""


class Repair:
    """For the process that opens such a store first. It runs before there are any refs."""

    def __init__(self, store: CacheStore, *, deleter: Deleter) -> None:
        self._store = store
        self._deleter = deleter

    def look_over(self) -> None:
        """Drop the records that can't be used, make the tables that repeat the others anew, and sweep what nothing names any
        more."""
        with self._store.lease.transaction() as c:
            records = self._store.records.all()
            keep = self._standing(records)
            for record_id in records.keys() - keep.keys():
                self._store.records.delete(c, record_id)
            self._store.records.repeat(c, keep.values())
        self._deleter.sweep_leftovers()

    def _standing(self, records: dict[str, CacheRecord]) -> dict[str, CacheRecord]:
        """The records that can be used: they have sound parents, and files or a blob that somebody may provide."""
        held = self._store.leases.records()  # held by living processes, which may be making what is missing
        keep = {record_id: records[record_id] for record_id in held & records.keys()}
        gone: set[str] = set()
        todo = [record for record in records.values() if record.id not in keep]
        while todo:
            later: list[CacheRecord] = []
            for record in todo:
                if any(p in gone or p not in records for p in record.parents) or (
                    all(p in keep for p in record.parents) and not self._stands(record, keep)
                ):
                    gone.add(record.id)
                elif all(p in keep for p in record.parents):
                    keep[record.id] = record
                else:
                    later.append(record)
            if len(later) == len(todo):
                break  # they stand on one another
            todo = later
        return keep

    def _stands(self, record: CacheRecord, keep: dict[str, CacheRecord]) -> bool:
        fewest, most = _PARENTS.get(record.kind, (1, 0))
        if not fewest <= len(record.parents) <= most or contradiction(record, keep.get(record.parent or "")):
            return False
        if record.state != LAZY:
            return self._store.snapshotter.exists(record.snapshot)
        if record.kind == LAYER:
            return any(b.source or self._store.content.has(b.descriptor.digest) for b in record.blobs)
        return True
