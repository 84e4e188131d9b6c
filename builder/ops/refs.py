"""Results as the refs they are in a build."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from builder.sources.local import LocalRef

if TYPE_CHECKING:
    from builder.cache.refs import ImmutableRef
    from builder.solver.types import Result


def owned(result: Result) -> ImmutableRef:
    """A ref of the cache manager with the result's files, the caller's to release; of a context read in place a private copy."""
    return result.materialize().clone() if isinstance(result, LocalRef) else cast("ImmutableRef", result.clone())


def release_all(refs: Iterable[ImmutableRef | None]) -> None:
    for ref in refs:
        if ref is not None:
            ref.release()
