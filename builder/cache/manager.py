"""The cache manager: the door to cache records that the other rooms hold (BuildKit: cache/manager.go).

It puts the parts together, and hands on what is asked most. What is true is what the database says: several processes share one
root. A record that this process has refs of is held by its lease, so that no other process collects it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from builder.cache.access import Access
from builder.cache.changes import RecordChanges
from builder.cache.checksums import Checksums
from builder.cache.claims import Claims
from builder.cache.collect import Collector
from builder.cache.copied import CopiedStore
from builder.cache.damage import Damage
from builder.cache.known import KnownRecords
from builder.cache.leases import Lease, Leases, sweep
from builder.cache.locks import SharedLocks
from builder.cache.providers import Providers
from builder.cache.record import REGULAR
from builder.cache.records import Records
from builder.cache.refs import RefServices
from builder.cache.results import Results

if TYPE_CHECKING:
    from builder.cache.blobs import LayerBlobs
    from builder.cache.deleting import Deleter
    from builder.cache.fsck import StoreCheck
    from builder.cache.gitrepos import GitRepositories
    from builder.cache.mounts import CacheMounts
    from builder.cache.prune import Pruner
    from builder.cache.reading import LayerReader
    from builder.cache.refs import ImmutableRef, MutableRef
    from builder.cache.repair import Repair
    from builder.cache.sizes import MeasuredSizes
    from builder.cache.types import GCRoot, UnlazyProgress
    from builder.cache.unlazy import Unlazier
    from builder.cache.usage import Usage
    from builder.content.store import ContentStore
    from builder.content.types import Layer
    from builder.oci.digest import Digest
    from builder.snapshots.types import Snapshotter
    from builder.solver.types import Result
    from builder.state.database import Database
    from builder.state.layout import Layout


class CacheManager:
    """Thread-safe. ``close`` when done; what a killed process leaves is swept by the next one.

    ``providers`` say where lazy layers come from, ``mounts`` are the folders of RUN --mount=type=cache, ``collector`` tells what
    there is and removes what may go, ``check`` tells what is damaged, ``known`` has the records that this process knows.
    """

    def __init__(
        self,
        layout: Layout,
        database: Database,
        content: ContentStore,
        snapshotter: Snapshotter,
        *,
        roots: Sequence[GCRoot] = (),
        warn: Callable[[str], None] | None = None,
        look_over: bool = False,
    ) -> None:
        """``roots`` give the blobs that something else than records needs: manifests, configs and layers of stored images. They
        are called inside a write transaction: they may read the database, and must not write. ``look_over``: rows may
        have been lost, see ``repair``."""
        self.layout = layout
        self.database = database
        self.content = content
        self.snapshotter = snapshotter
        self.warn = warn or (lambda text: print(f"warning: {text}", file=sys.stderr))
        self.gc_roots: list[GCRoot] = list(roots)
        self.records = records = Records(database)
        self.lease = lease = Lease(layout, database)
        self.leases = Leases(database)
        self.known = known = KnownRecords(records, database)
        self.providers = providers = Providers(content, self.warn)
        checksums = Checksums(database)
        claims = Claims(known=known, records=records, lease=lease)
        self._changes = changes = RecordChanges(
            known=known, records=records, lease=lease, checksums=checksums, snapshotter=snapshotter
        )
        self._damage = damage = Damage(
            known=known,
            changes=changes,
            records=records,
            lease=lease,
            leases=self.leases,
            providers=providers,
            snapshotter=snapshotter,
            database=database,
            warn=self.warn,
        )
        self._services = services = RefServices(
            known=known,
            claims=claims,
            changes=changes,
            unlazier=lambda: self._unlazier,
            blobs=lambda: self._blobs,
            checksums=checksums,
            snapshotter=snapshotter,
        )
        self._access = access = Access(
            services=services,
            records=records,
            lease=lease,
            providers=providers,
            damage=damage,
            content=content,
            snapshotter=snapshotter,
        )
        self._results = Results(access=access, known=known, damage=damage)
        self._claims = claims
        self._shared_locks = SharedLocks()
        self.collector = Collector(
            claims=claims, changes=changes, usage=lambda: self._usage, pruner=lambda: self._pruner, layout=layout
        )
        self._copied = CopiedStore(
            changes=changes,
            records=records,
            lease=lease,
            providers=providers,
            deleter=lambda: self.deleter,
            snapshotter=snapshotter,
            layout=layout,
            warn=self.warn,
        )
        self._snapshots_lock = -1
        self._begin(look_over)

    def _begin(self, look_over: bool) -> None:
        """Clear away what killed processes left."""
        left = sweep(self.layout, self.database, self.lease.id)
        if look_over:
            self.repair.look_over()
        elif left:
            self.deleter.sweep_leftovers()

    def close(self) -> None:
        """Write what is still in memory and end the lease. Refs are worthless afterwards."""
        self._claims.flush_uses()
        self.lease.close()
        if self._snapshots_lock >= 0:
            os.close(self._snapshots_lock)
            self._snapshots_lock = -1

    def use_snapshots(self, *, repair: bool = True) -> None:
        """Look at the store before anything of it is used: has its folder been copied with a loss? See ``CopiedStore.enter``."""
        self._snapshots_lock = self._copied.enter(repair=repair)

    def new(
        self,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        record_type: str = REGULAR,
    ) -> MutableRef:
        """See ``Access.new``."""
        return self._access.new(parent, description=description, record_type=record_type)

    def get(self, record_id: str, *, used: bool = True) -> ImmutableRef:
        """See ``Access.get``."""
        return self._access.get(record_id, used=used)

    def get_by_blob(
        self,
        layer: Layer,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        created_at: float | None = None,
        progress: UnlazyProgress | None = None,
    ) -> ImmutableRef:
        """See ``Access.get_by_blob``."""
        return self._access.get_by_blob(layer, parent, description=description, created_at=created_at, progress=progress)

    def merge(self, refs: Sequence[ImmutableRef | None], *, description: str = "") -> ImmutableRef | None:
        """See ``Access.merge``."""
        return self._access.merge(refs, description=description)

    def diff(self, lower: ImmutableRef | None, upper: ImmutableRef | None, *, description: str = "") -> ImmutableRef | None:
        """See ``Access.diff``."""
        return self._access.diff(lower, upper, description=description)

    def save(self, result: Result) -> str:
        """See ``solver.types.ResultStore``."""
        return self._results.save(result)

    def load(self, result_id: str) -> ImmutableRef | None:
        """See ``Results.load``."""
        return self._results.load(result_id)

    def exists(self, result_id: str) -> bool:
        """See ``Results.exists``."""
        return self._results.exists(result_id)

    def hold_blobs(self, digests: Iterable[Digest]) -> None:
        """See ``Lease.keep_blobs``."""
        self.lease.keep_blobs(digests)

    # Parts that few builds need are loaded for those that do. Two threads may make two of one: they have no state.
    @cached_property
    def mounts(self) -> CacheMounts:
        from builder.cache.mounts import CacheMounts

        return CacheMounts(
            services=self._services,
            access=self._access,
            records=self.records,
            lease=self.lease,
            damage=self._damage,
            deleter=lambda: self.deleter,
            shared=self._shared_locks,
            layout=self.layout,
        )

    @cached_property
    def _reader(self) -> LayerReader:
        from builder.cache.reading import LayerReader

        return LayerReader(records=self.records, content=self.content, providers=self.providers, damage=self._damage)

    @cached_property
    def _unlazier(self) -> Unlazier:
        from builder.cache.unlazy import LayerUnpacker, Unlazier

        unpacker = LayerUnpacker(
            known=self.known,
            changes=self._changes,
            records=self.records,
            reader=self._reader,
            providers=self.providers,
            damage=self._damage,
            content=self.content,
            snapshotter=self.snapshotter,
            layout=self.layout,
            warn=self.warn,
        )
        return Unlazier(
            known=self.known, changes=self._changes, unpacker=unpacker, snapshotter=self.snapshotter, layout=self.layout
        )

    @cached_property
    def _blobs(self) -> LayerBlobs:
        from builder.cache.blobs import LayerBlobs

        return LayerBlobs(
            known=self.known,
            records=self.records,
            lease=self.lease,
            providers=self.providers,
            reader=self._reader,
            unlazier=lambda: self._unlazier,
            content=self.content,
            snapshotter=self.snapshotter,
            layout=self.layout,
        )

    @cached_property
    def check(self) -> StoreCheck:
        from builder.cache.fsck import StoreCheck

        return StoreCheck(
            copied=self._copied,
            records=self.records,
            leases=self.leases,
            gc_roots=self.gc_roots,
            content=self.content,
            snapshotter=self.snapshotter,
            database=self.database,
            layout=self.layout,
        )

    @cached_property
    def repair(self) -> Repair:
        from builder.cache.repair import Repair

        return Repair(
            records=self.records,
            lease=self.lease,
            leases=self.leases,
            deleter=self.deleter,
            content=self.content,
            snapshotter=self.snapshotter,
        )

    @cached_property
    def deleter(self) -> Deleter:
        from builder.cache.deleting import Deleter

        return Deleter(
            changes=self._changes,
            records=self.records,
            lease=self.lease,
            leases=self.leases,
            git=self._git,
            gc_roots=self.gc_roots,
            content=self.content,
            snapshotter=self.snapshotter,
            database=self.database,
            layout=self.layout,
        )

    @cached_property
    def _usage(self) -> Usage:
        from builder.cache.usage import Usage

        return Usage(
            records=self.records,
            leases=self.leases,
            git=self._git,
            measured=self._measured,
            gc_roots=self.gc_roots,
            content=self.content,
            snapshotter=self.snapshotter,
            database=self.database,
            layout=self.layout,
        )

    @cached_property
    def _pruner(self) -> Pruner:
        from builder.cache.prune import Pruner

        return Pruner(usage=self._usage, deleter=self.deleter, lease=self.lease, database=self.database, layout=self.layout)

    @cached_property
    def _git(self) -> GitRepositories:
        from builder.cache.gitrepos import GitRepositories

        return GitRepositories(measured=self._measured, layout=self.layout)

    @cached_property
    def _measured(self) -> MeasuredSizes:
        from builder.cache.sizes import MeasuredSizes

        return MeasuredSizes(records=self.records, lease=self.lease)
