"""A vertex within a solve: its place in the graph and its edges (BuildKit: solver/jobs.go)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.graph.vertex import Vertex
from builder.solver.edge import ActiveEdge
from builder.solver.sharedop import SharedOp
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.progress.events import Sink
    from builder.solver.explain import Explanations
    from builder.solver.flight import Flights
    from builder.solver.keycache import CombinedKeyCache
    from builder.solver.report import Reporter
    from builder.solver.result import SharedResult
    from builder.solver.scheduler import Scheduler
    from builder.solver.types import Op, Result


@dataclass(frozen=True, slots=True)
class SolverServices:
    """What the vertices of one solver share. While a plan is made, ``resolve_op``, ``caches``, ``reporter`` and ``explanations``
    are decorated ones (``plan``): edges and ops are solved as in a build, and only these know that nothing may be executed.

    ``locks``: the folder of locks between processes, None where no other process matters. ``planning`` is told to ops: they may
    look at what is there, and must not mount, unpack or fetch.
    """

    resolve_op: Callable[[Vertex], Op[Result]]
    caches: CombinedKeyCache
    scheduler: Scheduler
    flights: Flights
    reporter: Reporter
    sink: Sink
    locks: str | None
    explanations: Callable[[], Explanations] | None
    planning: bool = False


class VertexState:
    """A vertex with its op and its edges, one for each output that somebody asked for. ``inputs`` are (vertex, output index).

    ``depth`` counts the vertices on the longest way down, this one included. Everything below a vertex is less deep than the
    vertex. So a search for a vertex X stops at vertices that are not deeper than X."""

    def __init__(self, vertex: Vertex, inputs: Sequence[tuple[VertexState, int]], services: SolverServices) -> None:
        self.vertex = vertex
        self.inputs = tuple(inputs)
        self.ignore_cache = vertex.meta.ignore_cache
        self.depth: int = 1 + max((s.depth for s, _ in self.inputs), default=0)
        self.caches = services.caches
        self.op = SharedOp(self, services)
        self._edges: dict[int, ActiveEdge] = {}

    @property
    def name(self) -> str:
        """For people."""
        return self.vertex.meta.name or self.vertex.op.kind

    def edge(self, index: int) -> ActiveEdge:
        """The edge of an output, or the one it was merged into."""
        edge = self._edges.get(index)
        if edge is None:
            edge = self._edges[index] = ActiveEdge(self, index)
        while edge.owner is not None:
            edge = edge.owner
        return edge

    def results(self) -> list[SharedResult[Result]]:
        """The results of those own edges that are complete."""
        return [e.state.result for e in self._edges.values() if e.owner is None and e.state.result is not None]

    def depends_on(self, other: VertexState) -> bool:
        """Is ``other`` this vertex, or anywhere below it?"""
        seen: set[VertexState] = set()
        stack = [self]
        while stack:
            state = stack.pop()
            if state is other:
                return True
            if state.depth > other.depth and state not in seen:
                seen.add(state)
                stack += [s for s, _ in state.inputs]
        return False

    def has_owner(self, other: VertexState) -> bool:
        """Was an edge of this vertex merged into one of ``other``, directly or by steps?"""
        seen: set[VertexState] = set()
        stack: list[VertexState] = [self]
        while stack:
            state = stack.pop()
            owners = [e.owner.vertex for e in state._edges.values() if e.owner is not None]
            if other in owners:
                return True
            stack += [o for o in owners if o not in seen]
            seen.update(owners)
        return False
