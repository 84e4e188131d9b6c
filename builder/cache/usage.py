"""Disk usage by buildkitd's rules (cache/manager.go: DiskUsage)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from builder.cache.filters import compile_filters
from builder.cache.record import INTERNAL, LAZY, MUTABLE, CacheRecord
from builder.cache.types import UsageRecord
from builder.errors import StoreError
from builder.files import trees
from builder.oci.digest import Digest
from builder.snapshots import canary
from builder.state import cancel
from builder.state.database import ASIDE, SUSPECT
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.cache.gitrepos import GitRepositories
    from builder.cache.leases import Leases
    from builder.cache.records import Records
    from builder.cache.sizes import MeasuredSizes
    from builder.cache.store import CacheStore
    from builder.state.database import Database

METADATA, IMAGES = "metadata", "images"
"""Ids of two lines of ``du`` that are no records: the store itself, and blobs that only stored images name."""


@dataclass(slots=True)
class Census:
    """Everything there is, read at once. ``held``: by living processes; ``roots``: blobs that images need; ``sizes``: bytes by
    record."""

    records: dict[str, CacheRecord]
    held: frozenset[str]
    roots: frozenset[Digest]
    sizes: dict[str, int]

    def layer_digests(self, record: CacheRecord) -> set[Digest]:
        """First blobs of all layers; for ``shared``."""
        out: set[Digest] = set()
        stack = [record]
        while stack:
            at = stack.pop()
            if at.blobs:
                out.add(at.blobs[0].descriptor.digest)
            stack += [self.records[p] for p in at.parents if p in self.records]
        return out


def take_stock(records: Records, leases: Leases, database: Database) -> tuple[dict[str, CacheRecord], set[str]]:
    """(all records, ids of those that are held), read so that damage is noticed: see ``Database.is_suspect``."""
    with database.reading():
        found = records.all()
        for table in records.contradictions(found):
            database.suspect(f"its table {table} does not fit the records")
        return found, leases.records()


class Usage:
    """What takes room in the store."""

    def __init__(self, store: CacheStore, *, git: GitRepositories, measured: MeasuredSizes) -> None:
        self._store = store
        self._git = git
        self._measured = measured

    def census(self) -> Census:
        """Everything there is."""
        records, leased = take_stock(self._store.records, self._store.leases, self._store.database)
        held = leased & records.keys()
        roots = frozenset(d for root in self._store.gc_roots for d in root())
        return Census(records, frozenset(held), roots, self._sizes(records, held))

    def disk_usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """What there is, oldest first; ``filters``: see ``filters``. The lines for the store itself and for images' blobs come
        last."""
        matches = compile_filters(filters)
        census = self.census()
        lines = self.lines(census)
        lines.append(_internal(METADATA, "database, locks and folders of the store", self._overhead()))
        named = {b.descriptor.digest for record in census.records.values() for b in record.blobs}
        others = sum(_bytes(self._store.content.path(d)) for d, _, _ in self._store.content.walk() if d not in named)
        if others:
            lines.append(_internal(IMAGES, "blobs of stored images", others, shared=True))
        return [line for line in lines if matches(line)]

    def lines(self, census: Census) -> list[UsageRecord]:
        """Of records, oldest first, then of git repositories."""
        in_use = _with_ancestors(census.records, census.held)
        return [_line(census, r, in_use) for r in census.records.values()] + self._git.lines()

    def _sizes(self, records: dict[str, CacheRecord], held: set[str]) -> dict[str, int]:
        """Bytes on disk by record. What several records share counts for the oldest, so that the sum is what the disk holds."""
        snapshots: set[str] = set()
        digests: set[Digest] = set()
        sizes: dict[str, int] = {}
        for record in records.values():
            cancel.checkpoint()
            size = 0
            changing = record.state == MUTABLE and record.id in held
            if record.state != LAZY and not changing and record.snapshot not in snapshots:
                snapshots.add(record.snapshot)
                size += self._snapshot_size(record)
            for blob in record.blobs:
                if blob.descriptor.digest not in digests:
                    digests.add(blob.descriptor.digest)
                    size += _bytes(self._store.content.path(blob.descriptor.digest))
            sizes[record.id] = size
        return sizes

    def _snapshot_size(self, record: CacheRecord) -> int:
        def usage() -> int:
            try:
                return self._store.snapshotter.usage(record.snapshot).size
            except StoreError:
                return 0  # lost, or just removed by another process

        if record.state == MUTABLE and record.last_used_ns is not None:
            return self._measured.get(record.id, record.last_used_ns, usage)
        return usage()

    def _overhead(self) -> int:
        """Bytes on disk of the store itself: what its root holds beside snapshots' files, blobs and git repositories."""
        layout = self._store.layout
        parts = ("", "-wal", "-shm")
        size = sum(_bytes(layout.database + suffix) for suffix in (*parts, SUSPECT, *(ASIDE + part for part in parts)))
        size += _bytes(layout.path("reserve")) + _bytes(layout.path("images.json"))
        folders = (layout.root, layout.path("tmp"), layout.tmp, layout.content, layout.path("content", "sha256"))
        size += sum(_bytes(folder) for folder in folders)
        for folder in (layout.locks, layout.ingest, layout.snapshots):
            with os.scandir(folder) as entries:
                size += _bytes(folder) + sum(_entry_bytes(entry) for entry in entries)
        return size


def _line(census: Census, record: CacheRecord, in_use: set[str]) -> UsageRecord:
    digests = census.layer_digests(record) if census.roots else set()
    return UsageRecord(
        id=record.id,
        parents=record.parents,
        size=census.sizes[record.id],
        mutable=record.state == MUTABLE,
        in_use=record.id in in_use,
        created_at_ns=record.created_at_ns,
        last_used_at_ns=record.last_used_ns,
        usage_count=record.usage_count,
        description=record.description,
        record_type=record.record_type,
        shared=bool(digests) and digests <= census.roots,
    )


def _internal(name: str, description: str, size: int, *, shared: bool = False) -> UsageRecord:
    return UsageRecord(name, (), size, True, True, 0, None, 0, description, INTERNAL, shared)


def _with_ancestors(records: dict[str, CacheRecord], start: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    stack = list(start)
    while stack:
        at = stack.pop()
        if at not in seen and at in records:
            seen.add(at)
            stack += records[at].parents
    return seen


def _entry_bytes(entry: os.DirEntry[str]) -> int:
    if not entry.name.startswith(canary.PREFIX):
        return _bytes(entry.path)
    try:
        return trees.disk_usage(entry.path)[0]
    except FileNotFoundError:
        return 0  # just made anew


def _bytes(path: str) -> int:
    """On disk; 0 if it is not there."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
