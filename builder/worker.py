"""The worker: everything that lies under one state root, opened once a process (BuildKit: worker/base)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager
    from builder.config import Config
    from builder.content.store import ContentStore
    from builder.snapshots.types import Snapshotter
    from builder.state.database import Database
    from builder.state.layout import Layout
    from runtime.executor import Executor


@dataclass(slots=True)
class Worker:
    """Parts that ops and exporters share. ``executor`` looks for the sandbox runtime at the first RUN that is not cached."""

    layout: Layout
    database: Database
    content: ContentStore
    snapshotter: Snapshotter
    cache: CacheManager
    config: Config
    runtime: str | None = None
    _executor: Executor | None = None

    @property
    def executor(self) -> Executor:
        if self._executor is None:
            from runtime.executor import select

            self._executor = select(self.runtime)
        return self._executor
