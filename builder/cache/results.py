"""Records as results of the solver (``solver.types.ResultStore``): ids in its keys, refs in its hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cache.record import MUTABLE

if TYPE_CHECKING:
    from builder.cache.access import Access
    from builder.cache.damage import Damage
    from builder.cache.refs import ImmutableRef
    from builder.cache.store import CacheStore
    from builder.solver.types import Result


class Results:
    """Thread-safe."""

    def __init__(self, store: CacheStore, *, access: Access, damage: Damage) -> None:
        self._store = store
        self._access = access
        self._damage = damage

    def save(self, result: Result) -> str:
        """Records are kept anyway: the id is all."""
        return result.id

    def load(self, result_id: str) -> ImmutableRef | None:
        """A ref; None if the record is gone or damaged."""
        try:
            return self._access.get(result_id)
        except KeyError:
            return None

    def exists(self, result_id: str) -> bool:
        """Is the record there and sound? Nothing is held: it may be gone by the time it is loaded."""
        record = self._store.known.look_up(result_id)
        return record is not None and record.state != MUTABLE and self._damage.is_sound(result_id)
