"""placeholder"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.solver.cachekey import CacheKey, CacheRecord
    from builder.solver.edge import ActiveEdge


@dataclass(frozen=True, slots=True, eq=False)
class Exporter:
    """Can write down ``key`` with what leads to it. ``record`` is what was loaded or saved, ``records`` what could have been."""

    key: CacheKey
    records: tuple[CacheRecord, ...] = ()
    record: CacheRecord | None = None
    edge: ActiveEdge | None = None
