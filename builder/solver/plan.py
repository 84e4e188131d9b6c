"""What a build would execute, found by solving with executions left out.

The same edges and the same rules decide as in a build; only, what would be executed gives a placeholder. A step that needs
content of a placeholder can't be judged: it would be executed too, unless the content comes out as before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from builder.graph.vertex import Graph, Vertex
from builder.oci.digest import Digest
from builder.solver.types import CacheMap, Result
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.solver.vertexstate import VertexState

Verdict = Literal["cached", "run", "maybe", "unused"]


@dataclass(frozen=True, slots=True)
class PlannedVertex:
    """``cached``: a result is there (or none is needed, as the vertex above has one). ``run``: will be executed. ``maybe``: will be
    executed unless content of a step that runs comes out as before. ``unused``: not looked at."""

    vertex: Vertex
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Plan:
    """Every vertex, inputs first."""

    vertices: tuple[PlannedVertex, ...]

    @property
    def all_cached(self) -> bool:
        return not any(v.verdict in ("run", "maybe") for v in self.vertices)

    @property
    def to_run(self) -> tuple[Vertex, ...]:
        return tuple(v.vertex for v in self.vertices if v.verdict in ("run", "maybe"))


class _Placeholder:
    def __init__(self) -> None:
        self.id = "planned-" + os.urandom(8).hex()

    def clone(self) -> Result:
        return self

    def release(self) -> None:
        pass


class Planner:
    """Stands in for executions while a plan is made. Thread-safe: workers report here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: set[Digest] = set()
        self._cached: set[Digest] = set()
        self._uncertain: set[Digest] = set()

    def may_execute(self, maps: Sequence[CacheMap]) -> bool:
        """Is it cheap and without effect? (a local folder: nothing is made, its content is looked at)"""
        return all(m.ephemeral for m in maps)

    def would_execute(self, state: VertexState, output: int) -> list[Result]:
        with self._lock:
            self._run.add(state.vertex.digest)
        return [_Placeholder() for _ in range(output + 1)]

    def cached(self, state: VertexState) -> None:
        with self._lock:
            self._cached.add(state.vertex.digest)

    def is_unknown(self, result: Result) -> bool:
        return isinstance(result, _Placeholder)

    def unknown_digest(self, state: VertexState) -> Digest:
        """A content digest that nothing can match."""
        with self._lock:
            self._uncertain.add(state.vertex.digest)
        return Digest("random:" + os.urandom(32).hex())

    def plan(self, targets: Sequence[Vertex]) -> Plan:
        from builder.graph.vertex import Edge

        vertices = list(Graph(tuple(Edge(t) for t in targets)))
        unsure: set[Digest] = set()
        verdicts: dict[Digest, Verdict] = {}
        for v in vertices:
            below_unsure = v.digest in self._uncertain or any(e.vertex.digest in unsure for e in v.inputs)
            if v.digest in self._run:
                if below_unsure:
                    unsure.add(v.digest)
                verdicts[v.digest] = "maybe" if below_unsure else "run"
            elif v.digest in self._cached:
                verdicts[v.digest] = "cached"
        # What lies below something cached, and was not looked at itself, is served by that.
        needed: set[Digest] = set()
        for v in reversed(vertices):
            verdict = verdicts.get(v.digest)
            if verdict is None:
                verdicts[v.digest] = "cached" if v.digest in needed else "unused"
            if verdicts[v.digest] != "unused":
                needed.update(e.vertex.digest for e in v.inputs)
        return Plan(tuple(PlannedVertex(v, verdicts[v.digest]) for v in vertices))
