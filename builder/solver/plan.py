"""What a build would execute, found by solving with executions left out.

The same edges and the same rules decide as in a build, and know nothing of plans: what the solver works with is decorated. An op
that would be executed gives placeholders, caches save nothing, the reporter notes what was found. A step that needs content of a
placeholder can't be judged: it would be executed too, unless the content comes out as before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from builder.graph.vertex import Edge, Graph, Vertex
from builder.oci.digest import Digest
from builder.progress.events import ignore
from builder.solver.keycache import CombinedKeyCache, KeyCache
from builder.solver.report import Reporter
from builder.solver.types import CacheMap, CacheMapDep, FileListing, Op, OpContext, Result, UnknownContentError
from builder.values import dataclass, replace

if TYPE_CHECKING:
    from builder.solver.cachekey import CacheKey, FoundRecord
    from builder.solver.explain import Explanations, StepRecord
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


class Placeholder:
    """Stands for what would come of an execution."""

    def __init__(self) -> None:
        self.id = "planned-" + os.urandom(8).hex()

    def clone(self) -> Result:
        return self

    def release(self) -> None:
        pass


class Planner:
    """What is found out while a plan is made, and the decorators that find it out. Thread-safe: workers report here."""

    def __init__(self, targets: Sequence[Edge]) -> None:
        self._graph = Graph(tuple(targets))
        self._lock = threading.Lock()
        self._run: set[Digest] = set()
        self._cached: set[Digest] = set()
        self._uncertain: set[Digest] = set()
        self._outputs: dict[Digest, int] = {e.vertex.digest: e.index + 1 for e in targets}
        for vertex in self._graph:
            for e in vertex.inputs:
                self._outputs[e.vertex.digest] = max(self._outputs.get(e.vertex.digest, 0), e.index + 1)

    def would_execute(self, vertex: Vertex) -> Sequence[Result]:
        """A placeholder for each output that somebody wants."""
        with self._lock:
            self._run.add(vertex.digest)
        return [Placeholder() for _ in range(self._outputs.get(vertex.digest, 1))]

    def cached(self, vertex: Digest) -> None:
        """A record of it was found."""
        with self._lock:
            self._cached.add(vertex)

    def unknown_digest(self, vertex: Vertex) -> Digest:
        """A content digest that nothing can match."""
        with self._lock:
            self._uncertain.add(vertex.digest)
        return Digest("random:" + os.urandom(32).hex())

    def plan(self) -> Plan:
        """The verdicts, once the graph is solved."""
        vertices = list(self._graph)
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


class PlannedOp:
    """An op that is not executed, unless executing is cheap and without effect: a local folder is only looked at. If the content of
    a result would take more than a look, or the result is a placeholder, its digest is one that nothing matches."""

    def __init__(self, op: Op[Result], vertex: Vertex, planner: Planner) -> None:
        self._op, self._vertex, self._planner = op, vertex, planner
        self._ephemeral = True

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Result], bool]:
        found, last = self._op.cache_map(context, index)
        self._ephemeral = self._ephemeral and found.ephemeral
        return replace(found, deps=tuple(self._only_looking(dep) for dep in found.deps)), last

    def exec(self, context: OpContext, inputs: Sequence[Result]) -> Sequence[Result]:
        return self._op.exec(context, inputs) if self._ephemeral else self._planner.would_execute(self._vertex)

    def _only_looking(self, dep: CacheMapDep[Result]) -> CacheMapDep[Result]:
        content, list_files = dep.content, dep.listing

        def look(result: Result, context: OpContext) -> Digest:
            assert content is not None
            if isinstance(result, Placeholder):
                return self._planner.unknown_digest(self._vertex)
            try:
                return content(result, context)
            except UnknownContentError:
                return self._planner.unknown_digest(self._vertex)

        def listing(result: Result, context: OpContext) -> FileListing:
            assert list_files is not None
            return FileListing() if isinstance(result, Placeholder) else list_files(result, context)

        return replace(dep, content=look if content is not None else None, listing=listing if list_files is not None else None)


class PlannedCaches(CombinedKeyCache):
    """Looks up and loads as a build does, and saves nothing: neither what would be executed nor what is imported."""

    def __init__(self, main: KeyCache, imported: Sequence[KeyCache]) -> None:
        super().__init__(_Unsaved(main.keys, main.results, priority=main.priority), imported)

    def load(self, record: FoundRecord) -> Result | None:
        return record.source.results.load(record.id)


class _Unsaved(KeyCache):
    def save(self, keys: Sequence[CacheKey], result: Result, created_ns: int | None = None) -> list[FoundRecord]:
        return []


class PlannedReporter(Reporter):
    """Shows nothing; what was found is noted."""

    def __init__(self, planner: Planner) -> None:
        super().__init__(ignore)
        self._planner = planner

    def at_once(self, state: VertexState, error: BaseException | None = None, *, cached: bool = False) -> None:
        if cached and error is None:
            self._planner.cached(state.vertex.digest)


class PlannedExplanations:
    """Explains what would run, and keeps no record of it."""

    def __init__(self, explanations: Explanations) -> None:
        self._explanations = explanations

    def ran(self, vertex: Digest, step: StepRecord, *, ignored: bool, failed: bool) -> None:
        self._explanations.would_run(vertex, step, ignored=ignored)

    def would_run(self, vertex: Digest, step: StepRecord, *, ignored: bool) -> None:
        self._explanations.would_run(vertex, step, ignored=ignored)
