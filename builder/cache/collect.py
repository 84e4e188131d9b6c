"""Collecting: when it is time, and on demand. What it takes to find out what may go is loaded when somebody asks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.errors import DamagedStoreError
from builder.state.locks import try_lock

if TYPE_CHECKING:
    from builder.cache.changes import RecordChanges
    from builder.cache.claims import Claims
    from builder.cache.prune import Pruner
    from builder.cache.types import PrunePolicy, UsageRecord
    from builder.cache.usage import Usage
    from builder.state.layout import Layout

_PACE_NS = 60 * 10**9


class Collector:
    """Thread-safe."""

    def __init__(
        self,
        *,
        claims: Claims,
        changes: RecordChanges,
        usage: Callable[[], Usage],
        pruner: Callable[[], Pruner],
        layout: Layout,
    ) -> None:
        self._claims = claims
        self._changes = changes
        self._usage = usage
        self._pruner = pruner
        self._layout = layout

    def disk_usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """What there is, oldest first; ``filters``: see ``filters``."""
        self._claims.flush_uses()
        return self._usage().disk_usage(filters)

    def collect(self, policies: Sequence[PrunePolicy], *, seconds: float) -> list[UsageRecord]:
        """``prune`` after a build. Nothing to do for a process that added nothing, within a minute of the last collection
        (buildkitd's pace), or while another process collects. CancelledError."""
        if not self._changes.has_additions:
            return []
        self._changes.has_additions = False
        lock = try_lock(self._layout.path("locks", "collect"))
        if lock is None:
            return []
        try:
            status = os.fstat(lock)
            if status.st_size and 0 <= time.time_ns() - status.st_mtime_ns < _PACE_NS:
                return []
            removed = self.prune(policies, seconds=seconds)
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
