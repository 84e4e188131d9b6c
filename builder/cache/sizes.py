"""Sizes on disk that take long to measure, remembered: walking a big cache mount takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.cache.store import CacheStore


class MeasuredSizes:
    """Thread-safe."""

    def __init__(self, store: CacheStore) -> None:
        self._store = store

    def get(self, name: str, stamp_ns: int, measure: Callable[[], int]) -> int:
        """Bytes of ``name``, measured again only when ``stamp_ns``, a time of its last change, is another."""
        size = self._store.records.size_of(name, stamp_ns)
        if size is None:
            size = measure()
            with self._store.lease.transaction() as c:
                self._store.records.remember_size(c, name, stamp_ns, size)
        return size
