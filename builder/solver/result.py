"""Results with their keys."""

from __future__ import annotations

from typing import Generic

from builder.solver.cachekey import ExportableKey
from builder.solver.types import R
from builder.values import dataclass


@dataclass(frozen=True, slots=True)
class CachedResult(Generic[R]):
    """A result, the caller's to release, and the keys it can be found by again (with the exporters of the chain below)."""

    result: R
    keys: tuple[ExportableKey, ...]

    @property
    def id(self) -> str:
        return self.result.id

    def release(self) -> None:
        self.result.release()


@dataclass(frozen=True, slots=True)
class SharedResult(Generic[R]):
    """A result that an edge holds until the solver is closed; others clone it.

    ``outdates_records``: it comes of a step that was forced to run, or is made of such a result. Its definition leads to records of
    what was before it, so nothing that is made of it may be looked up by definition.
    """

    result: R
    keys: tuple[ExportableKey, ...]
    outdates_records: bool = False
