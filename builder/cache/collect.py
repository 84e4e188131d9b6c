"""Collecting: when it is time, and on demand. What it takes to find out what may go is loaded when somebody asks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.errors import CancelledError, DamagedStoreError
from builder.state.locks import try_lock

if TYPE_CHECKING:
    from builder.cache.changes import RecordChanges
    from builder.cache.claims import Claims
    from builder.cache.prune import Pruner
    from builder.cache.store import CacheStore
    from builder.cache.types import PrunePolicy, UsageRecord
    from builder.cache.usage import Usage

_PACE_NS = 60 * 10**9


class Collector:
    """Thread-safe."""

    def __init__(
        self,
        store: CacheStore,
        *,
        claims: Claims,
        changes: RecordChanges,
        usage: Callable[[], Usage],
        pruner: Callable[[], Pruner],
    ) -> None:
        self._store = store
        self._claims = claims
        self._changes = changes
        self._usage = usage
        self._pruner = pruner

    def disk_usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """What there is, oldest first; ``filters``: see ``filters``."""
        self._claims.flush_uses()
        return self._usage().disk_usage(filters)

    def collect(self, policies: Sequence[PrunePolicy], *, seconds: float) -> list[UsageRecord]:
        """``prune`` after a build. Nothing to do for a process that added nothing, within a minute of the last collection
        (buildkitd's pace), or while another process collects.

        CancelledError says how far it came. Each record goes in one transaction, so the store is valid then; what is left is taken
        by the next collection, which need not wait for the minute to be over.
        """
        if not self._changes.has_additions:
            return []
        self._changes.has_additions = False
        lock = try_lock(self._store.layout.path("locks", "collect"))
        if lock is None:
            return []
        try:
            status = os.fstat(lock)
            if status.st_size and 0 <= time.time_ns() - status.st_mtime_ns < _PACE_NS:
                return []
            done: list[UsageRecord] = []
            try:
                removed = self.prune(policies, seconds=seconds, removed=done.append)
            except CancelledError as e:
                self._changes.has_additions = True
                raise CancelledError(
                    f"removing unused cache was cancelled: {len(done)} records are removed, the rest stays for a later build",
                    hint="the build itself is done",
                ) from e
            os.pwrite(lock, b"collected\n", 0)
            return removed
        except DamagedStoreError:
            return []  # not before the database is written anew: nothing else has to wait for that
        finally:
            os.close(lock)

    def prune(
        self,
        policies: Sequence[PrunePolicy],
        *,
        seconds: float | None = None,
        removed: Callable[[UsageRecord], None] | None = None,
    ) -> list[UsageRecord]:
        """Carry out gc rules one after the other; what was removed. ``seconds``: stop after about that long. ``removed`` hears of
        each while it goes on. DamagedStoreError, CancelledError."""
        self._claims.flush_uses()
        return self._pruner().prune(policies, seconds=seconds, removed=removed)
