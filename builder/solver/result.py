"""Results with their keys."""

from __future__ import annotations

from builder.graph.values import dataclass
from builder.solver.cachekey import ExportableKey
from builder.solver.types import Result


@dataclass(frozen=True, slots=True)
class CachedResult:
    """A result, the caller's to release, and the keys it can be found by again (with the exporters of the chain below)."""

    result: Result
    keys: tuple[ExportableKey, ...]

    @property
    def id(self) -> str:
        return self.result.id

    def release(self) -> None:
        self.result.release()


@dataclass(frozen=True, slots=True)
class SharedResult:
    """A result that an edge holds until the solver is closed; others clone it."""

    result: Result
    keys: tuple[ExportableKey, ...]

    def clone(self) -> CachedResult:
        return CachedResult(self.result.clone(), self.keys)
