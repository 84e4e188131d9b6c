"""The folders of RUN --mount=type=cache: writable records that outlive their builds (BuildKit: solver/llbsolver/mounts).

Each record has a lock file, ``mount-ID``. Users of ``shared`` hold it shared, those of ``private`` and ``locked`` exclusively, and
two threads of one process exclude one another as two processes do. The key has a lock, too (``mounts-HEX``): whoever takes or makes
a record for it holds that for the moment, so that two of them do not take the same record or make two.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.cache.damage import FILES_GONE
from builder.cache.locks import mount_key_lock, mount_lock_path
from builder.cache.record import CACHE_MOUNT, MUTABLE
from builder.cache.refs import ImmutableRef, MutableRef
from builder.errors import UnsupportedError
from builder.state import cancel
from builder.state.locks import share, try_lock

if TYPE_CHECKING:
    from builder.cache.access import Access
    from builder.cache.damage import Damage
    from builder.cache.deleting import Deleter
    from builder.cache.locks import SharedLocks
    from builder.cache.refs import RefServices
    from builder.cache.store import CacheStore
    from builder.graph.ops import CacheSharing

_POLL_SECONDS = 0.02


class CacheMounts:
    """Thread-safe."""

    def __init__(
        self,
        store: CacheStore,
        *,
        services: RefServices,
        access: Access,
        damage: Damage,
        deleter: Callable[[], Deleter],
        shared: SharedLocks,
    ) -> None:
        """``deleter`` is called, and loaded, only when something is to be deleted."""
        self._store = store
        self._services = services
        self._access = access
        self._damage = damage
        self._deleter = deleter
        self._shared = shared

    def acquire(self, key: str, sharing: CacheSharing, base: ImmutableRef | None = None, *, description: str = "") -> MutableRef:
        """A record for ``key`` (and ``base``, the files it begins with). ``release`` gives it back; its files stay.

        shared: all who use the key at the same time get the same record. private: a record that nobody else uses, a new one if
        there is none. locked: waits until nobody else uses it; CancelledError if the work is called off meanwhile. A step that
        mounts one key twice must acquire it once, because its second ``locked`` mount would wait for the first one for ever.

        On a base ``shared`` is per process: overlayfs can't have two mounts on one upper folder.
        """
        full_key = key if base is None else f"{key}:{base.id}"
        if sharing not in ("shared", "private", "locked"):
            raise UnsupportedError(f"invalid cache sharing option: {sharing}")
        self._services.changes.has_additions = True
        while True:
            with mount_key_lock(self._store.layout, full_key):
                ref, busy = self._take(full_key, sharing, base)
                if ref is not None:
                    return ref
                if not (busy and sharing == "locked"):
                    return self._make(full_key, sharing, base, description)
            cancel.sleep(_POLL_SECONDS)

    def forget(self, key: str, *, based: bool) -> None:
        """No build gets the records of ``key`` any more: those without a base, or with ``based`` those on any base. They are
        deleted, but for those in use, which ``prune`` takes later (BuildKit: Worker.PruneCacheMounts)."""
        with self._store.lease.transaction() as c:
            found = self._store.records.forget_mounts(c, key, based=based)
        if found:
            self._deleter().delete_records(found)

    def _take(self, key: str, sharing: CacheSharing, base: ImmutableRef | None) -> tuple[MutableRef | None, bool]:
        """(a record that can be used now or None, is there one that somebody else uses?). Call with the key's lock."""
        idle: tuple[str, int] | None = None
        busy = False
        try:
            for record in self._store.records.by_mount_key(key):
                if record.state != MUTABLE:
                    continue
                if sharing == "shared" and base is not None and (joined := self._join(record.id)) is not None:
                    return joined, busy
                fd = try_lock(mount_lock_path(self._store.layout, record.id))
                if fd is not None:
                    if idle is None:
                        idle = record.id, fd
                    else:
                        os.close(fd)
                    continue
                busy = True
                if sharing == "shared" and base is None:
                    fd = try_lock(mount_lock_path(self._store.layout, record.id), shared=True)
                    if fd is not None and (ref := self._claim(record.id, fd)) is not None:
                        return ref, busy
            if idle is None:
                return None, busy
            record_id, fd = idle
            idle = None
            return self._hold(record_id, fd, sharing, base), busy
        finally:
            if idle is not None:
                os.close(idle[1])

    def _make(self, key: str, sharing: CacheSharing, base: ImmutableRef | None, description: str) -> MutableRef:
        text = description or f"cached mount {key}"
        ref = self._access.new(base, description=text, record_type=CACHE_MOUNT, retain=True, mount_key=key)
        fd = try_lock(mount_lock_path(self._store.layout, ref.id))
        assert fd is not None  # nobody else looks for records of this key while we hold its lock
        made = self._hold(ref.id, fd, sharing, base)
        assert made is not None  # held by ``ref`` so far
        ref.release()
        return made

    def _hold(self, record_id: str, fd: int, sharing: CacheSharing, base: ImmutableRef | None) -> MutableRef | None:
        """Keep the exclusive lock, or make it what ``sharing`` wants."""
        if sharing != "shared":
            return self._claim(record_id, fd)
        if base is None:
            share(fd)
            return self._claim(record_id, fd)
        self._shared.add(record_id, fd)
        return self._join(record_id)

    def _claim(self, record_id: str, fd: int) -> MutableRef | None:
        """Closes ``fd`` at the end, or now if the record is gone."""
        services = self._services
        try:
            services.claims.claim(record_id, used=True)
            if not services.snapshotter.exists(services.known.get(record_id).snapshot):
                services.claims.unclaim(record_id)
                self._damage.drop(record_id, FILES_GONE)
                raise KeyError(record_id)
        except KeyError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return MutableRef(services, record_id, at_end=lambda: os.close(fd))

    def _join(self, record_id: str) -> MutableRef | None:
        """The record, if threads of this process share it already."""
        leave = self._shared.join(record_id)
        if leave is None:
            return None
        try:
            self._services.claims.claim(record_id, used=True)
        except BaseException as e:
            leave()
            if isinstance(e, KeyError):
                return None
            raise
        return MutableRef(self._services, record_id, at_end=leave)
