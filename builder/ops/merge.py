"""MergeOp: inputs laid over one another without running or copying anything (BuildKit: solver/llbsolver/ops/merge.go)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import StepError
from builder.graph.ops import Merge
from builder.ops.llb_json import merge_digest
from builder.ops.refs import owned, release_all
from builder.solver.types import CacheMap, CacheMapDep, OpContext

if TYPE_CHECKING:
    from builder.graph.vertex import Vertex
    from builder.ops.refs import Ref
    from builder.session import Session
    from builder.worker import Worker


class MergeOp:
    """See ``builder.solver.types.Op``."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        assert isinstance(vertex.op, Merge)
        if not vertex.inputs:
            raise StepError("invalid merge op with no inputs")
        self._count = len(vertex.inputs)
        self._name = vertex.meta.name
        self._worker = worker

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Ref], bool]:
        """Nothing but the inputs, in their order."""
        by_definition: CacheMapDep[Ref] = CacheMapDep()
        return CacheMap(merge_digest(self._count), (by_definition,) * self._count), True

    def exec(self, context: OpContext, inputs: Sequence[Ref]) -> Sequence[Ref]:
        """Lazy: the files are laid together when somebody mounts the result."""
        cache = self._worker.cache
        refs = [owned(i) for i in inputs]
        try:
            merged = cache.merge(refs, description=self._name)
        finally:
            release_all(refs)
        return [merged if merged is not None else cache.new(None, description=self._name).commit()]
