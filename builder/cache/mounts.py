"""The folders of RUN --mount=type=cache: writable records that outlive their builds (BuildKit: solver/llbsolver/mounts).

Each record has a lock file, ``mount-ID``. Users of ``shared`` hold it shared, those of ``private`` and ``locked`` exclusively, and
two threads of one process exclude one another as two processes do. The key has a lock, too (``mounts-HEX``): whoever takes or makes
a record for it holds that for the moment, so that two of them do not take the same record or make two.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.cache.record import CACHE_MOUNT, MUTABLE
from builder.cache.refs import ImmutableRef, MutableRef
from builder.errors import UnsupportedError
from builder.oci.digest import Digest
from builder.state import cancel
from builder.state.locks import named_lock, share, try_lock

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager

SHARED, PRIVATE, LOCKED = "shared", "private", "locked"
_POLL_SECONDS = 0.02


def acquire(
    manager: CacheManager,
    key: str,
    sharing: str,
    base: ImmutableRef | None,
    description: str,
) -> MutableRef:
    """A record for ``key`` (and ``base``, the files it begins with). ``release`` gives it back; its files stay.

    shared: everybody who asks at the same time has the same record. private: one that nobody uses, a new one if need be.
    locked: waits until nobody uses it; CancelledError when the work is called off meanwhile. Two mounts of one key in one step
    must be acquired once: a second ``locked`` one would wait for the first.

    On a base ``shared`` is per process: overlayfs can't have two mounts on one upper folder.
    """
    if sharing not in (SHARED, PRIVATE, LOCKED):
        raise UnsupportedError(f"invalid cache sharing option: {sharing}")
    full_key = key if base is None else f"{key}:{base.id}"
    manager.grown = True
    gate = f"mounts-{Digest.of(full_key.encode()).hex[:32]}"
    while True:
        with named_lock(manager.layout.locks, gate):
            ref, busy = _take(manager, full_key, sharing, base)
            if ref is not None:
                return ref
            if not (busy and sharing == LOCKED):
                return _make(manager, full_key, sharing, base, description)
        cancel.sleep(_POLL_SECONDS)


def forget(manager: CacheManager, key: str, *, based: bool) -> None:
    """No build gets the records of ``key`` any more: those without a base, or with ``based`` those on any base. They are deleted,
    but for those in use, which ``prune`` takes later (BuildKit: Worker.PruneCacheMounts)."""
    from builder.cache.gc import delete_records

    with manager.lease.transaction() as c:
        found = manager.records.forget_mounts(c, key, based=based)
    if found:
        delete_records(manager, found)


def lock_path(manager: CacheManager, record_id: str) -> str:
    return manager.layout.path("locks", f"mount-{record_id}")


def _take(manager: CacheManager, key: str, sharing: str, base: ImmutableRef | None) -> tuple[MutableRef | None, bool]:
    """A record that can be used now; and whether there is one that can't. Call with the key's lock."""
    idle: tuple[str, int] | None = None
    busy = False
    try:
        for record in manager.records.by_mount_key(key):
            if record.state != MUTABLE:
                continue
            if sharing == SHARED and base is not None and (joined := _join(manager, record.id)) is not None:
                return joined, busy
            fd = try_lock(lock_path(manager, record.id))
            if fd is not None:
                if idle is None:
                    idle = record.id, fd
                else:
                    os.close(fd)
                continue
            busy = True
            if sharing == SHARED and base is None:
                fd = try_lock(lock_path(manager, record.id), shared=True)
                if fd is not None and (ref := _claim(manager, record.id, fd)) is not None:
                    return ref, busy
        if idle is None:
            return None, busy
        record_id, fd = idle
        idle = None
        return _hold(manager, record_id, fd, sharing, base), busy
    finally:
        if idle is not None:
            os.close(idle[1])


def _make(manager: CacheManager, key: str, sharing: str, base: ImmutableRef | None, description: str) -> MutableRef:
    ref = manager.new(base, description=description or f"cached mount {key}", record_type=CACHE_MOUNT, retain=True, mount_key=key)
    fd = try_lock(lock_path(manager, ref.id))
    assert fd is not None  # nobody else looks for records of this key while we hold its lock
    made = _hold(manager, ref.id, fd, sharing, base)
    assert made is not None  # held by ``ref`` so far
    ref.release()
    return made


def _hold(manager: CacheManager, record_id: str, fd: int, sharing: str, base: ImmutableRef | None) -> MutableRef | None:
    """Keep the exclusive lock, or make it what ``sharing`` wants."""
    if sharing != SHARED:
        return _claim(manager, record_id, fd)
    if base is None:
        share(fd)
        return _claim(manager, record_id, fd)
    joint = SharedLock(fd)
    with manager.shared_locks_guard:
        manager.shared_locks[record_id] = joint
    return _join(manager, record_id)


def _claim(manager: CacheManager, record_id: str, fd: int) -> MutableRef | None:
    """Closes ``fd`` at the end, or now if the record is gone."""
    try:
        manager.claim(record_id, used=True)
        if not manager.snapshotter.exists(manager.record(record_id).snapshot):
            manager.unclaim(record_id)
            manager.damaged(record_id, "its files are gone")
            raise KeyError(record_id)
    except KeyError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return MutableRef(manager, record_id, at_end=_closer(fd))


def _closer(fd: int) -> Callable[[], None]:
    return lambda: os.close(fd)


class SharedLock:
    """An exclusive lock that the threads of this process share."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0


def _join(manager: CacheManager, record_id: str) -> MutableRef | None:
    """The record, if threads of this process share it already."""
    def leave() -> None:
        with manager.shared_locks_guard:
            joint.users -= 1
            if joint.users == 0:
                del manager.shared_locks[record_id]
                os.close(joint.fd)

    with manager.shared_locks_guard:
        found = manager.shared_locks.get(record_id)
        if found is None:
            return None
        joint = found
        joint.users += 1
    try:
        manager.claim(record_id, used=True)
    except BaseException as e:
        leave()
        if isinstance(e, KeyError):
            return None
        raise
    return MutableRef(manager, record_id, at_end=leave)
