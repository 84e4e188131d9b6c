"""What all parts of a cache stand on: folders, tables, this process's lease."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.values import dataclass

if TYPE_CHECKING:
    from builder.cache.known import KnownRecords
    from builder.cache.leases import Lease, Leases
    from builder.cache.providers import Providers
    from builder.cache.records import Records
    from builder.cache.types import GCRoot
    from builder.content.store import ContentStore
    from builder.snapshots.types import Snapshotter
    from builder.state.database import Database
    from builder.state.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStore:
    """One for all parts of a ``CacheManager``. A part takes it, and beside it those other parts that it calls: what a class depends
    on is in its ``__init__``, and what everything depends on is here.

    ``records`` are the rows, ``known`` those that this process has read. ``lease`` is that of this process, ``leases`` are all.
    ``gc_roots`` give the blobs that something else than records needs. ``warn`` tells the user something that ends no build.
    """

    layout: Layout
    database: Database
    content: ContentStore
    snapshotter: Snapshotter
    records: Records
    known: KnownRecords
    lease: Lease
    leases: Leases
    providers: Providers
    gc_roots: Sequence[GCRoot]
    warn: Callable[[str], None]
