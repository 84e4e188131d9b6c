"""Checks of the whole store; nothing is changed.

Damage is what a step of the store's own making could never lead to. Garbage is no damage: blobs of an image whose name went to
another one, and what a killed process left. The next collection takes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.cache.reading import is_intact
from builder.cache.record import DIFF, LAYER, LAZY, MUTABLE, CacheRecord, contradiction
from builder.errors import CancelledError, PybuildError
from builder.oci.digest import Digest
from builder.state import cancel

if TYPE_CHECKING:
    from builder.cache.copied import CopiedStore
    from builder.cache.store import CacheStore


class StoreCheck:
    """Looks, and changes nothing."""

    def __init__(self, store: CacheStore, *, copied: CopiedStore) -> None:
        self._store = store
        self._copied = copied

    def damage(self, *, verify: bool = False) -> list[str]:
        """What is damaged in the store, a line each, sorted; ``verify``: every blob is read and its digest compared, and the
        files of the layers that have one with what is in it. While other processes work, what they are making looks unfinished.
        CancelledError."""
        # What else a damaged database says would be read for nothing.
        if broken := self._integrity():
            return broken
        found = [*self._copied.problems(), *self._record_damage(), *self._blob_damage(verify)]
        return sorted([*found, *self._changed_snapshots()] if verify else found)

    def garbage(self) -> list[str]:
        """What nothing needs and the next ``prune`` takes, a line each, sorted."""
        return sorted([*self._stray_snapshots(), *self._unnamed_blobs()])

    def _integrity(self) -> list[str]:
        """What a damaged database has to say; the next command writes it anew without what is damaged."""
        from builder.state.salvage import unsound

        why = unsound(self._store.database.path)
        if why:
            self._store.database.suspect(why)
        return [f"metadata database: {why}"] if why else []

    def _record_damage(self) -> list[str]:
        with self._store.database.reading():
            records = self._store.records.all()
            held = self._store.leases.records()
            repeated = self._store.records.contradictions(records)
        out = [f"record {r.id}: its parent {p} is missing" for r in records.values() for p in r.parents if p not in records]
        for record in records.values():
            cancel.checkpoint()
            if record.kind == DIFF and len(record.parents) != 2:
                out.append(f"record {record.id}: a diff of {len(record.parents)} parents")
            if record.kind == LAYER and len(record.parents) > 1:
                out.append(f"record {record.id}: a layer on {len(record.parents)} parents")
            if record.state == MUTABLE and not record.retained and record.id not in held:
                out.append(f"record {record.id}: writable, and nobody writes it")
            known = record.parent is None or record.parent in records
            if known and (why := contradiction(record, records.get(record.parent or ""))):
                out.append(f"record {record.id}: {why}")
            out += self._file_damage(record)
        out += [f"metadata database: {table} does not fit the records" for table in repeated]
        return out

    def _file_damage(self, record: CacheRecord) -> list[str]:
        if record.state != LAZY:
            there = self._store.snapshotter.exists(record.snapshot)
            return [] if there else [f"record {record.id}: snapshot {record.snapshot} is missing"]
        if record.kind != LAYER:
            return []
        if not record.blobs:
            return [f"record {record.id}: it has neither files nor a blob"]
        if any(self._store.content.has(b.descriptor.digest) or b.source for b in record.blobs):
            return []
        return [f"record {record.id}: its blob is not here, and it is not known where it came from"]

    def _stray_snapshots(self) -> list[str]:
        keys = set(self._store.snapshotter.keys())
        known = self._store.records.snapshots()
        out = [f"snapshot {key}: no record names it" for key in keys - known]
        with os.scandir(self._store.layout.snapshots) as entries:
            names = {e.name for e in entries if not e.name.startswith(".")}
        return out + [f"snapshot folder {name}: no snapshot" for name in names - keys]

    def _unnamed_blobs(self) -> list[str]:
        roots = {d for root in self._store.gc_roots for d in root()}
        named = roots | self._store.records.named_blobs() | self._store.leases.blobs()
        return [f"blob {digest}: nothing names it" for digest, _, _ in self._store.content.walk() if digest not in named]

    def _blob_damage(self, verify: bool) -> list[str]:
        out: list[str] = []
        sizes = {b.descriptor.digest: b.descriptor.size for r in self._store.records.all().values() for b in r.blobs}
        for digest, size, _ in self._store.content.walk():
            cancel.checkpoint()
            if sizes.get(digest, size) != size:
                out.append(f"blob {digest}: {size} bytes, expected {sizes[digest]}")
            elif verify and not self._is_intact(digest):
                out.append(f"blob {digest}: its bytes have another digest")
        return out

    def _changed_snapshots(self) -> list[str]:
        """Layers whose files are not those of their blobs any more. Only what has a sound blob here can be told."""
        from builder.cache.reading import verified
        from builder.cache.verify import difference
        from builder.snapshots.overlay import MAX_LAYERS

        out: list[str] = []
        records = self._store.records.all()

        def has_files(record: CacheRecord | None) -> bool:
            return record is not None and record.state not in (LAZY, MUTABLE) and self._store.snapshotter.exists(record.snapshot)

        def is_mountable(record: CacheRecord | None) -> bool:
            """Layers are unpacked side by side: one may be there while one below it is not yet. And what a COPY --link put on top
            of all the layers that fit is never mounted."""
            for _ in range(MAX_LAYERS):
                if not has_files(record):
                    return False
                assert record is not None
                if record.parent is None:
                    return True
                record = records.get(record.parent)
            return False

        for record in records.values():
            cancel.checkpoint()
            blob = next((b.descriptor.digest for b in record.blobs if self._store.content.has(b.descriptor.digest)), None)
            if blob is None or record.diff_id is None or record.kind != LAYER or not is_mountable(record):
                continue
            if not self._is_intact(blob):
                continue
            try:
                with self._store.snapshotter.mount(record.snapshot) as folder:
                    path = difference(verified(self._store.content.chunks(blob), record.diff_id, blob), folder)
            except (PybuildError, OSError) as e:
                if isinstance(e, CancelledError):
                    raise
                out.append(f"record {record.id}: its files can't be compared with blob {blob}: {e}")
                continue
            if path is not None:
                out.append(f"record {record.id}: /{path} is not what blob {blob} has there")
        return out

    def _is_intact(self, digest: Digest) -> bool:
        try:
            return is_intact(self._store.content, digest)
        except PybuildError:
            return False
