"""Results with their keys."""

from __future__ import annotations

from builder.solver.cachekey import ExportableKey
from builder.solver.types import Result
from builder.values import dataclass


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
    """A result that an edge holds until the solver is closed; others clone it.

    ``novel``: it comes of a step that ignored the cache, so that its definition leads to records of what was before it: nothing
    that is made of it may be looked up by definition.
    """

    result: Result
    keys: tuple[ExportableKey, ...]
    novel: bool = False

    def clone(self) -> CachedResult:
        return CachedResult(self.result.clone(), self.keys)
