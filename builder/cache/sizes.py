"""Sizes on disk that take long to measure, remembered: walking a big cache mount takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.cache.leases import Lease
    from builder.cache.records import Records


class MeasuredSizes:
    """Thread-safe."""

    def __init__(self, *, records: Records, lease: Lease) -> None:
        self._records = records
        self._lease = lease

    def get(self, name: str, stamp: float, measure: Callable[[], int]) -> int:
        """Bytes of ``name``, measured again only when ``stamp``, a time of its last change, is another."""
        size = self._records.size_of(name, stamp)
        if size is None:
            size = measure()
            with self._lease.transaction() as c:
                self._records.remember_size(c, name, stamp, size)
        return size
