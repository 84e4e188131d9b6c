"""Looking over a store whose database has lost rows: records that can't stand without them are dropped at once, so that no build
meets them one by one. It warns of nothing: the loss was told already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cache.gc import sweep_leftovers
from builder.cache.record import DIFF, LAYER, LAZY, MERGE, CacheRecord, contradiction

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager

_PARENTS = {LAYER: (0, 1), MERGE: (1, 1 << 30), DIFF: (2, 2)}
"""By kind of record, how many parents it may have."""


def look_over(manager: CacheManager) -> None:
    """Drop the records that do not stand, make the tables that repeat the others anew, and sweep what nothing names any more."""
    with manager.lease.transaction() as c:
        records = manager.records.all()
        keep = _standing(manager, records)
        for record_id in records.keys() - keep.keys():
            manager.records.delete(c, record_id)
        manager.records.repeat(c, keep.values())
    sweep_leftovers(manager)


def _standing(manager: CacheManager, records: dict[str, CacheRecord]) -> dict[str, CacheRecord]:
    """Those with sound parents and with their files, or a blob that may be had. A parent is older than what stands on it."""
    held = manager.leases.records()  # of living processes: they know what they do
    keep = {record_id: records[record_id] for record_id in held & records.keys()}
    gone: set[str] = set()
    todo = [record for record in records.values() if record.id not in keep]
    while todo:
        later: list[CacheRecord] = []
        for record in todo:
            if any(p in gone or p not in records for p in record.parents) or (
                all(p in keep for p in record.parents) and not _stands(manager, record, keep)
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


def _stands(manager: CacheManager, record: CacheRecord, keep: dict[str, CacheRecord]) -> bool:
    fewest, most = _PARENTS.get(record.kind, (1, 0))
    if not fewest <= len(record.parents) <= most or contradiction(record, keep.get(record.parent or "")):
        return False
    if record.state != LAZY:
        return manager.snapshotter.exists(record.snapshot)
    if record.kind == LAYER:
        return any(b.source or manager.content.has(b.descriptor.digest) for b in record.blobs)
    return True
