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
    from builder.cache.sizes import MeasuredSizes
    from builder.cache.store import CacheStore

GIT_PREFIX = "git-"


class GitRepositories:
    """Thread-safe."""

    def __init__(self, store: CacheStore, *, measured: MeasuredSizes) -> None:
        self._store = store
        self._measured = measured

    def lines(self) -> list[UsageRecord]:
        """One for each repository; its last use is its last fetch."""
        with store_errors("can't read the state folder"), os.scandir(self._store.layout.git) as entries:
            folders = sorted((e.name, e.path) for e in entries if e.is_dir(follow_symlinks=False))
        out: list[UsageRecord] = []
        for name, path in folders:
            times = [_mtime_ns(path), _mtime_ns(os.path.join(path, "FETCH_HEAD"))]
            used_ns = max(times)
            out.append(
                UsageRecord(
                    id=GIT_PREFIX + name,
                    parents=(),
                    size=self._measure(name, path, used_ns),
                    mutable=True,
                    in_use=self._is_locked(name),
                    created_at_ns=min(t for t in times if t),
                    last_used_at_ns=used_ns,
                    usage_count=1,
                    description="shared git repository",
                    record_type="regular",
                    shared=False,
                )
            )
        return out

    def remove(self, line_id: str) -> bool:
        """Delete the repository; False if somebody uses it."""
        from builder.snapshots.catalog import delete_tree

        name = line_id.removeprefix(GIT_PREFIX)
        lock = try_lock(self._lock_path(name))
        if lock is None:
            return False
        try:
            # Set aside first: a half-deleted repository must not be found under its name.
            aside = os.path.join(self._store.layout.tmp, f"gone-{os.urandom(6).hex()}")
            try:
                os.rename(os.path.join(self._store.layout.git, name), aside)
            except FileNotFoundError:
                return False
            except OSError as e:
                raise store_error("can't remove a git repository", e) from e
            delete_tree(aside)
            return True
        finally:
            os.close(lock)

    def _measure(self, name: str, path: str, used_ns: int) -> int:
        from builder.snapshots.catalog import disk_usage

        def walk() -> int:
            try:
                return disk_usage(path).size
            except FileNotFoundError:  # git is at work in there
                return 0

        return self._measured.get(GIT_PREFIX + name, used_ns, walk)

    def _is_locked(self, name: str) -> bool:
        lock = try_lock(self._lock_path(name))
        if lock is None:
            return True
        os.close(lock)
        return False

    def _lock_path(self, name: str) -> str:
        return os.path.join(self._store.layout.locks, GIT_PREFIX + name)


def _mtime_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
