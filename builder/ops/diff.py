"""DiffOp: what one input adds to another (BuildKit: solver/llbsolver/ops/diff.go)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import StepError
from builder.graph.ops import NO_INPUT, Diff
from builder.ops.llb_json import diff_digest
from builder.ops.refs import owned, release_all
from builder.solver.types import CacheMap, CacheMapDep, OpContext

if TYPE_CHECKING:
    from builder.cache.refs import ImmutableRef
    from builder.graph.vertex import Vertex
    from builder.ops.refs import Ref
    from builder.session import Session
    from builder.worker import Worker


class DiffOp:
    """See ``builder.solver.types.Op``."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        assert isinstance(vertex.op, Diff)
        self._op = vertex.op
        self._count = len(vertex.inputs)
        self._name = vertex.meta.name
        self._worker = worker
        for side in (self._op.lower, self._op.upper):
            if side != NO_INPUT and not 0 <= side < self._count:
                raise StepError(f"invalid input index {side} for diff op with {self._count} inputs")

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Ref], bool]:
        """Which input is which side, and the inputs."""
        by_definition: CacheMapDep[Ref] = CacheMapDep()
        return CacheMap(diff_digest(self._op), (by_definition,) * self._count), True

    def exec(self, context: OpContext, inputs: Sequence[Ref]) -> Sequence[Ref]:
        """Lazy, as a merge is. Nothing against something is that thing; a thing against itself, and nothing at all, is empty."""
        cache = self._worker.cache
        refs: list[ImmutableRef | None] = [
            None if side == NO_INPUT else owned(inputs[side]) for side in (self._op.lower, self._op.upper)
        ]
        try:
            lower, upper = refs
            difference = None if lower is None and upper is None else cache.diff(lower, upper, description=self._name)
        finally:
            release_all(refs)
        return [difference if difference is not None else cache.new(None, description=self._name).commit()]
