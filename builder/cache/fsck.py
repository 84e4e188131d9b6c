"""Checks of the whole store; nothing is changed.

Damage is what a step of the store's own making could never lead to. Garbage is no damage: blobs of an image whose name went to
another one, and what a killed process left. The next collection takes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.cache import copied
from builder.cache.record import DIFF, LAYER, LAZY, MUTABLE, CacheRecord, contradiction
from builder.cache.unpack import is_intact
from builder.errors import PybuildError
from builder.oci.digest import Digest

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager


def fsck(manager: CacheManager, *, verify: bool) -> list[str]:
    """A line for each piece of damage, sorted. While other processes work, what they are making looks unfinished."""
    # What else a damaged database says would be read for nothing.
    return _integrity(manager) or sorted([*copied.problems(manager), *_records(manager), *_blobs(manager, verify)])


def garbage(manager: CacheManager) -> list[str]:
    """A line for each thing that nothing needs, sorted."""
    return sorted([*_stray_snapshots(manager), *_unnamed_blobs(manager)])


def _integrity(manager: CacheManager) -> list[str]:
    """What a damaged database has to say; the next command writes it anew without what is damaged."""
    from builder.state.salvage import unsound

    why = unsound(manager.database.path)
    if why:
        manager.database.suspect(why)
    return [f"metadata database: {why}"] if why else []


def _records(manager: CacheManager) -> list[str]:
    with manager.database.reading():
        records = manager.records.all()
        held = manager.leases.records()
        repeated = manager.records.contradictions(records)
    out = [f"record {r.id}: its parent {p} is missing" for r in records.values() for p in r.parents if p not in records]
    for record in records.values():
        if record.kind == DIFF and len(record.parents) != 2:
            out.append(f"record {record.id}: a diff of {len(record.parents)} parents")
        if record.kind == LAYER and len(record.parents) > 1:
            out.append(f"record {record.id}: a layer on {len(record.parents)} parents")
        if record.state == MUTABLE and not record.retained and record.id not in held:
            out.append(f"record {record.id}: writable, and nobody writes it")
        known = record.parent is None or record.parent in records
        if known and (why := contradiction(record, records.get(record.parent or ""))):
            out.append(f"record {record.id}: {why}")
        out += _files(manager, record)
    out += [f"metadata database: {table} does not fit the records" for table in repeated]
    return out


def _files(manager: CacheManager, record: CacheRecord) -> list[str]:
    if record.state != LAZY:
        return [] if manager.snapshotter.exists(record.snapshot) else [f"record {record.id}: snapshot {record.snapshot} is missing"]
    if record.kind != LAYER:
        return []
    if not record.blobs:
        return [f"record {record.id}: it has neither files nor a blob"]
    if any(manager.content.has(b.descriptor.digest) or b.source for b in record.blobs):
        return []
    return [f"record {record.id}: its blob is not here, and it is not known where it came from"]


def _stray_snapshots(manager: CacheManager) -> list[str]:
    keys = set(manager.snapshotter.keys())
    known = manager.records.snapshots()
    out = [f"snapshot {key}: no record names it" for key in keys - known]
    with os.scandir(manager.layout.snapshots) as entries:
        names = {e.name for e in entries if not e.name.startswith(".")}
    return out + [f"snapshot folder {name}: no snapshot" for name in names - keys]


def _unnamed_blobs(manager: CacheManager) -> list[str]:
    roots = {d for root in manager.gc_roots for d in root()}
    named = roots | manager.records.named_blobs() | manager.leases.blobs()
    return [f"blob {digest}: nothing names it" for digest, _, _ in manager.content.walk() if digest not in named]


def _blobs(manager: CacheManager, verify: bool) -> list[str]:
    out: list[str] = []
    sizes = {b.descriptor.digest: b.descriptor.size for r in manager.records.all().values() for b in r.blobs}
    for digest, size, _ in manager.content.walk():
        if sizes.get(digest, size) != size:
            out.append(f"blob {digest}: {size} bytes, expected {sizes[digest]}")
        elif verify and not _intact(manager, digest):
            out.append(f"blob {digest}: its bytes have another digest")
    return out


def _intact(manager: CacheManager, digest: Digest) -> bool:
    try:
        return is_intact(manager, digest)
    except PybuildError:
        return False
