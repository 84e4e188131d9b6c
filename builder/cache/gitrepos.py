"""The shared bare repositories of git sources as lines of ``du`` that can be pruned (in BuildKit they are cache records).

A repository belongs to whoever holds its lock ROOT/locks/git-NAME; git sources hold it while they use it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.cache.types import UsageRecord
from builder.state.disk import store_error, store_errors
from builder.state.locks import try_lock

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager
    from builder.state.layout import Layout

PREFIX = "git-"


def lines(manager: CacheManager) -> list[UsageRecord]:
    """One for each repository; its last use is its last fetch."""
    with store_errors("can't read the state folder"), os.scandir(manager.layout.git) as entries:
        folders = sorted((e.name, e.path) for e in entries if e.is_dir(follow_symlinks=False))
    out: list[UsageRecord] = []
    for name, path in folders:
        times = [_mtime(path), _mtime(os.path.join(path, "FETCH_HEAD"))]
        used = max(times)
        out.append(
            UsageRecord(
                id=PREFIX + name,
                parents=(),
                size=_measured(manager, name, path, used),
                mutable=True,
                in_use=_is_locked(manager.layout, name),
                created_at=min(t for t in times if t),
                last_used_at=used,
                usage_count=1,
                description="shared git repository",
                record_type="regular",
                shared=False,
            )
        )
    return out


def remove(layout: Layout, line_id: str) -> bool:
    """Delete the repository; False if somebody uses it."""
    from builder.snapshots.catalog import delete_tree

    name = line_id.removeprefix(PREFIX)
    lock = try_lock(_lock(layout, name))
    if lock is None:
        return False
    try:
        # Set aside first: a half-deleted repository must not be found under its name.
        aside = os.path.join(layout.tmp, f"gone-{os.urandom(6).hex()}")
        try:
            os.rename(os.path.join(layout.git, name), aside)
        except FileNotFoundError:
            return False
        except OSError as e:
            raise store_error("can't remove a git repository", e) from e
        delete_tree(aside)
        return True
    finally:
        os.close(lock)


def _measured(manager: CacheManager, name: str, path: str, used: float) -> int:
    from builder.snapshots.catalog import disk_usage

    def walk() -> int:
        try:
            return disk_usage(path).size
        except FileNotFoundError:  # git is at work in there
            return 0

    return manager.measured(PREFIX + name, used, walk)


def _is_locked(layout: Layout, name: str) -> bool:
    lock = try_lock(_lock(layout, name))
    if lock is None:
        return True
    os.close(lock)
    return False


def _lock(layout: Layout, name: str) -> str:
    return os.path.join(layout.locks, PREFIX + name)


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0
