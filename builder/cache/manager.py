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
from builder.cache.store import CacheStore

if TYPE_CHECKING:
    from builder.cache.blobs import LayerBlobs
    from builder.cache.deleting import Deleter
    from builder.cache.fsck import StoreCheck
    from builder.cache.gitrepos import GitRepositories
    from builder.cache.mounts import CacheMounts
    from builder.cache.prune import Pruner
    from builder.cache.reading import LayerReader
    from builder.cache.record import RecordType
    from builder.cache.refs import ImmutableRef, MutableRef
    from builder.cache.repair import Repair
    from builder.cache.sizes import MeasuredSizes
    from builder.cache.types import GCRoot
    from builder.cache.unlazy import Unlazier
    from builder.cache.usage import Usage
    from builder.content.store import ContentStore
    from builder.oci.digest import Digest
    from builder.snapshots.types import Snapshotter
    from builder.state.database import Database
    from builder.state.layout import Layout


class CacheManager:
    """Thread-safe. ``close`` when done; what a killed process leaves is swept by the next one.

    ``providers`` say where lazy layers come from, ``mounts`` are the folders of RUN --mount=type=cache, ``collector`` tells what
    there is and removes what may go, ``check`` tells what is damaged, ``known`` has the records that this process knows.

    ``get``, ``get_by_blob``, ``merge`` and ``diff`` are those of ``Access``. ``save``, ``load`` and ``exists`` are those of
    ``Results``, by which the manager is the solver's ``ResultStore``.
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
        self._store = store = CacheStore(
            layout=layout,
            database=database,
            content=content,
            snapshotter=snapshotter,
            records=records,
            known=known,
            lease=lease,
            leases=self.leases,
            providers=providers,
            gc_roots=self.gc_roots,
            warn=self.warn,
        )
        checksums = Checksums(database)
        self._claims = claims = Claims(store)
        self._changes = changes = RecordChanges(store, checksums=checksums)
        self._damage = damage = Damage(store, changes=changes)
        self._services = services = RefServices(
            known=known,
            claims=claims,
            changes=changes,
            unlazier=lambda: self._unlazier,
            blobs=lambda: self._blobs,
            checksums=checksums,
            snapshotter=snapshotter,
        )
        self._access = access = Access(store, services=services, damage=damage)
        results = Results(store, access=access, damage=damage)
        self.get = access.get
        self.get_by_blob = access.get_by_blob
        self.merge = access.merge
        self.diff = access.diff
        self.save = results.save
        self.load = results.load
        self.exists = results.exists
        self._shared_locks = SharedLocks()
        self.collector = Collector(
            store, claims=claims, changes=changes, usage=lambda: self._usage, pruner=lambda: self._pruner
        )
        self._copied = CopiedStore(store, changes=changes, deleter=lambda: self.deleter)
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

    def use_snapshots(self, *, repair: bool = True, asked_for: bool = False) -> None:
        """Look at the store before anything of it is used: has its folder been copied with a loss, or is it another snapshotter's?
        See ``CopiedStore.enter``."""
        self._snapshots_lock = self._copied.enter(repair=repair, asked_for=asked_for)

    def new(
        self, parent: ImmutableRef | None, *, description: str = "", record_type: RecordType = REGULAR
    ) -> MutableRef:
        """See ``Access.new``, whose other arguments are for cache mounts alone."""
        return self._access.new(parent, description=description, record_type=record_type)

    def hold_blobs(self, digests: Iterable[Digest]) -> None:
        """See ``Lease.keep_blobs``."""
        self.lease.keep_blobs(digests)

    # Parts that few builds need are loaded for those that do. Two threads may make two of one: they have no state.
    @cached_property
    def mounts(self) -> CacheMounts:
        from builder.cache.mounts import CacheMounts

        return CacheMounts(
            self._store,
            services=self._services,
            access=self._access,
            damage=self._damage,
            deleter=lambda: self.deleter,
            shared=self._shared_locks,
        )

    @cached_property
    def _reader(self) -> LayerReader:
        from builder.cache.reading import LayerReader

        return LayerReader(self._store, damage=self._damage)

    @cached_property
    def _unlazier(self) -> Unlazier:
        from builder.cache.unlazy import LayerUnpacker, Unlazier

        unpacker = LayerUnpacker(self._store, changes=self._changes, reader=self._reader, damage=self._damage)
        return Unlazier(self._store, changes=self._changes, unpacker=unpacker)

    @cached_property
    def _blobs(self) -> LayerBlobs:
        from builder.cache.blobs import LayerBlobs

        return LayerBlobs(self._store, reader=self._reader, unlazier=lambda: self._unlazier)

    @cached_property
    def check(self) -> StoreCheck:
        from builder.cache.fsck import StoreCheck

        return StoreCheck(self._store, copied=self._copied)

    @cached_property
    def repair(self) -> Repair:
        from builder.cache.repair import Repair

        return Repair(self._store, deleter=self.deleter)

    @cached_property
    def deleter(self) -> Deleter:
        from builder.cache.deleting import Deleter

        return Deleter(self._store, changes=self._changes, git=self._git)

    @cached_property
    def _usage(self) -> Usage:
        from builder.cache.usage import Usage

        return Usage(self._store, git=self._git, measured=self._measured)

    @cached_property
    def _pruner(self) -> Pruner:
        from builder.cache.prune import Pruner

        return Pruner(self._store, usage=self._usage, deleter=self.deleter)

    @cached_property
    def _git(self) -> GitRepositories:
        from builder.cache.gitrepos import GitRepositories

        return GitRepositories(self._store, measured=self._measured)

    @cached_property
    def _measured(self) -> MeasuredSizes:
        from builder.cache.sizes import MeasuredSizes

        return MeasuredSizes(self._store)
