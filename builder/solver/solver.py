"""The solver's face: edges in, results out (BuildKit: solver/jobs.go)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, cast

from builder.errors import CancelledError
from builder.graph.vertex import Edge, Vertex
from builder.oci.digest import Digest
from builder.progress.events import Sink, ignore
from builder.solver.flight import Flights
from builder.solver.index import EdgeIndex
from builder.solver.keycache import CombinedKeyCache, KeyCache
from builder.solver.keystore import KeyStore
from builder.solver.report import Reporter
from builder.solver.result import CachedResult, SharedResult
from builder.solver.scheduler import Scheduler
from builder.solver.types import Op, R, Result, ResultStore
from builder.solver.vertexstate import SolverServices, VertexState
from builder.solver.workers import Workers
from builder.state.cancel import current
from builder.values import replace

if TYPE_CHECKING:
    from builder.solver.explain import Explanations
    from builder.solver.plan import Plan


class Solver(Generic[R]):
    """Solves graphs, whose results are of type ``R``. Vertices stay known until ``close``: a second ``build`` gets what the first
    one made, whatever the stores say.

    ``resolve_op`` gives a vertex its behaviour. ``results`` and ``keys`` are the own store; ``imported`` are remote caches.
    ``parallelism`` bounds the executions at one time (None: no bound). ``locks``: folder of the locks between processes (None:
    there are no others). ``explanations`` gives what keeps the parts of the keys of executed steps; it is asked when something was
    executed. One thread at a time may call ``build`` and ``plan``; ``cancel`` may be called from anywhere, also from a signal
    handler.
    """

    def __init__(
        self,
        resolve_op: Callable[[Vertex], Op[R]],
        results: ResultStore[R],
        keys: KeyStore,
        sink: Sink = ignore,
        *,
        parallelism: int | None = None,
        locks: str | None = None,
        imported: Sequence[KeyCache] = (),
        explanations: Callable[[], Explanations] | None = None,
    ) -> None:
        # The engine moves results about and does not look into them: an op is given nothing but what ops of this solver, or its
        # store, have given. So inside there is one type for all of them, and ``R`` is at the door.
        self._resolve_op = cast("Callable[[Vertex], Op[Result]]", resolve_op)
        self._caches = CombinedKeyCache(KeyCache(keys, results), imported)
        self._sink = sink
        self._locks = locks
        self._explanations = explanations
        self._interrupted = threading.Event()
        self._workers = Workers(parallelism)
        self._services = self._make_services()
        self._states: dict[str, VertexState] = {}
        self._finished: tuple[SharedResult[R], ...] = ()

    def __enter__(self) -> Solver[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def steps(self) -> int:
        """Edges looked at so far: what solving cost, without the work."""
        return self._services.scheduler.steps

    def build(self, edges: Sequence[Edge]) -> list[CachedResult[R]]:
        """A result for each edge, the caller's to release. The first error ends it: SolveError with the vertex, or CancelledError.

        What was executed until then stays cached. When this returns or raises, nothing it started is running any more.
        """
        services = self._services
        token = current()
        token.check()
        if self._interrupted.is_set():
            raise CancelledError("the build was cancelled")
        inputs = [(self._load(e.vertex), e.index) for e in edges]
        try:
            with token.calling(self._workers.wake):
                solved = services.scheduler.build(inputs, lambda: token.is_set() or self._interrupted.is_set())
        except BaseException as e:
            self._stop()
            if isinstance(e, KeyboardInterrupt):
                raise CancelledError("the build was cancelled") from None
            raise
        results = []
        for edge in solved:
            assert edge.state.result is not None
            shared = edge.state.result
            results.append(CachedResult(cast("R", shared.result.clone()), shared.keys))
        return results

    @property
    def finished(self) -> tuple[SharedResult[R], ...]:
        """After a ``build`` that failed: what was finished until then, consumers before their inputs. For their keys: the results
        are given back already."""
        return self._finished

    def plan(self, edges: Sequence[Edge]) -> Plan:
        """What ``build`` would execute, without executing it. Keys of sources are asked for, and content of what is there is
        hashed."""
        from builder.solver.plan import PlannedCaches, PlannedExplanations, PlannedOp, PlannedReporter, Planner

        planner = Planner(edges)
        services, states, caches = self._services, self._states, self._caches
        explanations = self._explanations
        self._services, self._states = (
            replace(
                self._make_services(),
                resolve_op=lambda vertex: PlannedOp(self._resolve_op(vertex), vertex, planner),
                caches=PlannedCaches(caches.main, caches.imported),
                reporter=PlannedReporter(planner),
                sink=ignore,
                locks=None,
                explanations=None if explanations is None else lambda: PlannedExplanations(explanations()),
                planning=True,
            ),
            {},
        )
        try:
            for result in self.build(edges):
                result.release()
            return planner.plan()
        finally:
            self.close()
            self._services, self._states = services, states

    def cancel(self) -> None:
        """Stop: a ``build`` under way ends with CancelledError, once what it runs has stopped. Later builds fail at once."""
        self._interrupted.set()
        self._workers.wake()

    def close(self) -> None:
        """Release every result of the builds so far, but those that callers hold."""
        states, self._states = self._states, {}
        for state in states.values():
            state.op.release()
        self._workers.close()

    def _make_services(self) -> SolverServices:
        scheduler = Scheduler(self._workers, EdgeIndex())
        return SolverServices(
            resolve_op=self._resolve_op,
            caches=self._caches,
            scheduler=scheduler,
            flights=Flights(scheduler, self._workers),
            reporter=Reporter(self._sink),
            sink=self._sink,
            locks=self._locks,
            explanations=self._explanations,
        )

    def _stop(self) -> None:
        """Stop what runs, and wait for its end. The edges are left as they are at this moment, and thrown away."""
        self._services.flights.stop()
        self._workers.drain()
        # Nothing may go on from half-done decisions; a later build of this solver starts from the stores.
        states, self._states = self._states, {}
        by_depth = sorted(states.values(), key=lambda s: -s.depth)
        self._finished = tuple(cast("SharedResult[R]", result) for state in by_depth for result in state.results())
        for state in states.values():
            state.op.release()
        self._workers.close()
        self._services = self._make_services()

    def _load(self, vertex: Vertex) -> VertexState:
        """The vertex and all below it, each once by digest.

        Two vertices may have one digest and differ in whether they ignore the cache. If the one that ignores it comes later, it
        takes the other one's place for everything that is loaded from then on. If it was there first, it serves both.
        """
        memo: dict[Digest, VertexState] = {}
        stack: list[tuple[Vertex, bool]] = [(vertex, False)]
        while stack:
            v, expanded = stack.pop()
            if v.digest in memo:
                continue
            if not expanded:
                stack.append((v, True))
                stack += [(e.vertex, False) for e in reversed(v.inputs)]
                continue
            memo[v.digest] = self._state_of(v, [(memo[e.vertex.digest], e.index) for e in v.inputs])
        return memo[vertex.digest]

    def _state_of(self, vertex: Vertex, inputs: list[tuple[VertexState, int]]) -> VertexState:
        forced_key = vertex.digest + "-ignore-cache"
        key: str = vertex.digest
        state = self._states.get(forced_key)
        if state is None:
            state = self._states.get(key)
            if state is not None and vertex.meta.ignore_cache and not state.ignore_cache:
                key, state = forced_key, None
        if state is None:
            state = self._states[key] = VertexState(vertex, inputs, self._services)
            self._services.reporter.known(state)
        return state
