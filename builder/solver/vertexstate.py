"""A vertex within a solve: its edges, and its op, shared by them, so that each piece of work is done once (BuildKit:
solver/jobs.go)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from builder.errors import CancelledError, PybuildError
from builder.graph.vertex import Vertex
from builder.oci.digest import Digest, digest_parts
from builder.progress.events import Sink, Warned
from builder.solver.cachekey import CacheKey, CacheRecord, ExportableKey
from builder.solver.edge import ActiveEdge
from builder.solver.errors import wrap
from builder.solver.exporter import Exporter
from builder.solver.requests import Work
from builder.solver.result import SharedResult
from builder.solver.types import CacheMap, Manifest, Op, OpContext, Result, UnknownContentError
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.solver.explain import Explanations, StepRecord
    from builder.solver.keycache import CombinedKeyCache
    from builder.solver.plan import Planner
    from builder.solver.report import Reporter
    from builder.solver.scheduler import Scheduler
    from builder.solver.workers import Workers


@dataclass(slots=True)
class Surroundings:
    """What the vertices of one solver share."""

    resolve_op: Callable[[Vertex], Op]
    caches: CombinedKeyCache
    scheduler: Scheduler
    workers: Workers
    reporter: Reporter
    sink: Sink
    locks: str | None
    explanations: Callable[[], Explanations] | None
    planner: Planner | None
    flights: set[Flight] = field(default_factory=set)


class VertexState:
    """``inputs`` are (vertex, output index). ``depth`` is the longest way down: a vertex never depends on one as deep as itself."""

    def __init__(self, vertex: Vertex, inputs: Sequence[tuple[VertexState, int]], around: Surroundings) -> None:
        self.vertex = vertex
        self.inputs = tuple(inputs)
        self.ignore_cache = vertex.meta.ignore_cache
        self.depth: int = 1 + max((s.depth for s, _ in self.inputs), default=0)
        self.caches = around.caches
        self.op = SharedOp(self, around)
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

    def results(self) -> list[SharedResult]:
        """Of the own edges that are complete."""
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


@dataclass(eq=False, slots=True)
class Flight:
    """A piece of work under way and who waits for it. It is stopped when nobody does any more."""

    waiters: list[tuple[Work, Callable[[Work], None]]]
    late: list[tuple[Work, Callable[[Work], None]]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class _Executed:
    """What came of executing: results of all outputs, or (``results`` None) one that another process had made meanwhile."""

    results: Sequence[Result] | None
    shared: dict[int, SharedResult]


class SharedOp:
    """The op of a vertex. Methods belong to the scheduler's loop and finish ``work`` later, or at once where the answer is
    known."""

    def __init__(self, state: VertexState, around: Surroundings) -> None:
        self._state = state
        self._around = around
        self._op: Op | None = None
        self._op_lock = threading.Lock()
        self._flights: dict[tuple[str, int], Flight] = {}
        self._maps: list[CacheMap] = []
        self._maps_done = False
        self._map_error: Exception | None = None
        self._slow: dict[int, Digest] = {}
        self._slow_errors: dict[int, Exception] = {}
        self._results: Sequence[Result] | None = None
        self._exec_error: Exception | None = None
        self._held: list[Result] = []

    # -------------------------------------------------------------------------------------------- keys
    def cache_map(self, work: Work, index: int) -> None:
        """Value: (CacheMap, was it the last)."""
        if index < len(self._maps):
            last = self._maps_done and index == len(self._maps) - 1
            self._around.scheduler.finish(work, (self._maps[index], last), None)
        elif self._map_error is not None:
            self._around.scheduler.finish(work, None, self._map_error)
        else:

            def remember(value: tuple[CacheMap, bool] | None, error: Exception | None) -> None:
                if value is not None:
                    self._maps.append(value[0])
                    self._maps_done = value[1]
                self._map_error = error

            inline = bool(self._state.inputs)
            self._fly(
                ("map", index), work, lambda w: self.cache_map(w, index), lambda c: self._ask_cache_map(c, index), remember, inline
            )

    def _ask_cache_map(self, cancelled: threading.Event, index: int) -> tuple[CacheMap, bool]:
        if self._state.inputs:
            return self._checked_map(cancelled, index)
        # For a source the key is where the work begins: a tag is resolved, a commit is looked up.
        self._around.reporter.started(self._state)
        try:
            answer = self._checked_map(cancelled, index)
        except Exception as e:
            self._around.reporter.completed(self._state, CancelledError("canceled") if cancelled.is_set() else e)
            raise
        self._around.reporter.completed(self._state)
        return answer

    def _checked_map(self, cancelled: threading.Event, index: int) -> tuple[CacheMap, bool]:
        try:
            op = self.op
        except Exception as e:
            raise wrap(self._state.vertex, e) from e
        try:
            cache_map, last = op.cache_map(self._context(cancelled), index)
        except Exception as e:
            raise wrap(self._state.vertex, e, doing="failed to load cache key") from e
        if len(cache_map.deps) != len(self._state.inputs):
            raise RuntimeError(
                f"{self._state.vertex.op.kind}: a cache map of {len(cache_map.deps)} deps for {len(self._state.inputs)} inputs"
            )
        return cache_map, last

    def slow_key(self, work: Work, index: int, result: SharedResult) -> None:
        """Value: the content digest of what counts of input ``index``."""
        if index in self._slow:
            self._around.scheduler.finish(work, self._slow[index], None)
        elif index in self._slow_errors:
            self._around.scheduler.finish(work, None, self._slow_errors[index])
        else:

            def remember(value: Digest | None, error: Exception | None) -> None:
                if value is not None:
                    self._slow[index] = value
                elif error is not None:
                    self._slow_errors[index] = error

            run = partial(self._ask_slow_key, index=index, result=result.result)
            self._fly(("slow", index), work, lambda w: self.slow_key(w, index, result), run, remember, False)

    def _ask_slow_key(self, cancelled: threading.Event, index: int, result: Result) -> Digest:
        planner = self._around.planner
        if planner is not None and planner.is_unknown(result):
            return planner.unknown_digest(self._state)
        content = self._maps[-1].deps[index].content
        assert content is not None
        try:
            return content(result, self._context(cancelled))
        except UnknownContentError:
            if planner is None:
                raise
            return planner.unknown_digest(self._state)
        except Exception as e:
            error = wrap(self._state.vertex, e, doing="failed to compute cache key")
            self._around.reporter.at_once(self._state, CancelledError("canceled") if cancelled.is_set() else error)
            raise error from e

    # -------------------------------------------------------------------------------------------- results
    def load_cache(self, work: Work, edge: ActiveEdge, record: CacheRecord) -> None:
        """Value: SharedResult of a record. An error is a miss to the edge."""
        self._around.scheduler.finish_later(work, lambda: self._load(edge, record))

    def _load(self, edge: ActiveEdge, record: CacheRecord) -> SharedResult:
        try:
            # A plan does not make the own store's what is imported.
            planned = self._around.planner is not None
            result = record.source.results.load(record.id) if planned else self._around.caches.load(record)
        except (PybuildError, OSError) as e:
            self._around.sink(Warned(f"cached result of {self._state.name} can't be loaded: {e}"))
            raise
        if result is None:
            raise KeyError(record.id)
        self._held.append(result)
        if self._around.planner is not None:
            self._around.planner.cached(self._state)
        self._around.reporter.at_once(self._state, cached=True)
        found = ExportableKey(record.key, (Exporter(record.key, record=record, edge=edge),))
        # A source is known by all its keys, whichever the record was found by: another process may know it by another one alone,
        # and have saved what was made of it under that.
        digests = [d for d, ephemeral in edge.root_digests if not ephemeral and d != record.key.digest]
        others = (ExportableKey(CacheKey.new(d, self._state.vertex.digest, edge.index)) for d in digests)
        return SharedResult(result, (found, *others))

    def exec(self, work: Work, edge: ActiveEdge) -> None:
        """Value: SharedResult of executing, with every input's result there."""
        if self._exec_error is not None:
            self._around.scheduler.finish(work, None, self._exec_error)
            return
        keys = edge.commit_keys()
        if self._results is not None:
            results = self._results
            self._around.scheduler.finish_later(work, lambda: self._commit(edge, keys, results))
            return

        def remember(value: _Executed | None, error: Exception | None) -> None:
            if value is not None and value.results is not None:
                self._results = value.results
            self._exec_error = error

        def take(value: _Executed) -> SharedResult | None:
            # None: executed for, or found for, another output; then ask again, the answer is there or is looked for.
            return value.shared.get(edge.index)

        inputs = [dep.result.result for dep in edge.deps if dep.result is not None]
        name = self._lock_name(edge)
        run = partial(self._execute, edge=edge, keys=keys, inputs=inputs, lock=name)
        self._fly(("exec", 0), work, lambda w: self.exec(w, edge), run, remember, False, limited=True, take=take)

    def _lock_name(self, edge: ActiveEdge) -> str:
        """The same in every process that would do the same: the op's digest, and of each input the content that counts or the
        record."""
        assert edge.state.cache_map is not None
        parts: list[str] = [digest for digest, _ in edge.root_digests] or [edge.state.cache_map.digest]
        for dep in edge.deps:
            assert dep.result is not None
            parts.append(dep.slow_key.key.digest if dep.slow_key is not None else dep.result.result.id)
        return digest_parts("step", *parts).hex[:40]

    def _execute(
        self, cancelled: threading.Event, edge: ActiveEdge, keys: list[CacheKey], inputs: list[Result], lock: str
    ) -> _Executed:
        around = self._around
        if around.planner is not None and not around.planner.may_execute(self._maps):
            results = around.planner.would_execute(self._state, edge.index)
            if around.explanations is not None:
                step = self._step_record(edge, cancelled)
                around.explanations().would_run(self._state.vertex.digest, step, ignored=self._state.ignore_cache)
            shared = SharedResult(results[edge.index], tuple(ExportableKey(k) for k in keys), edge.made_of_novel)
            return _Executed(results, {edge.index: shared})
        if around.locks is None or all(key.ephemeral for key in keys):
            return self._execute_locked(cancelled, edge, keys, inputs)
        from builder.solver.steplock import step_lock

        with step_lock(around.locks, lock, cancelled):
            if not edge.made_of_novel:
                found = self._saved_meanwhile(edge, keys)
                if found is not None:
                    return _Executed(None, {edge.index: found})
            return self._execute_locked(cancelled, edge, keys, inputs)

    def _saved_meanwhile(self, edge: ActiveEdge, keys: list[CacheKey]) -> SharedResult | None:
        main = self._around.caches.main
        for key in keys:
            # Names are looked up for a copy: ``key`` itself gets its name when it is saved.
            found = key.with_deps(key.deps)
            for record in main.records(found) if not key.ephemeral else ():
                try:
                    return self._load(edge, record)
                except (KeyError, PybuildError, OSError):
                    continue
        return None

    def _execute_locked(
        self, cancelled: threading.Event, edge: ActiveEdge, keys: list[CacheKey], inputs: list[Result]
    ) -> _Executed:
        around, state = self._around, self._state
        if cancelled.is_set():
            raise CancelledError("the build was cancelled")
        around.reporter.started(state)
        context = self._context(cancelled)
        try:
            results = self.op.exec(context, inputs)
        except Exception as e:
            around.reporter.completed(state, CancelledError("canceled") if cancelled.is_set() else e)
            if not cancelled.is_set():
                self._log_step(edge, cancelled, failed=True)
            raise wrap(state.vertex, e) from e
        self._held += results
        try:
            shared = self._commit(edge, keys, results)
        except Exception as e:
            around.reporter.completed(state, e)
            raise wrap(state.vertex, e) from e
        around.reporter.completed(state)
        self._log_step(edge, cancelled, failed=False)
        return _Executed(results, {edge.index: shared})

    def _log_step(self, edge: ActiveEdge, cancelled: threading.Event, *, failed: bool) -> None:
        """Record what was executed, for explanations. A step is no worse for a record that can't be made."""
        explanations, state = self._around.explanations, self._state
        if explanations is None or state.vertex.meta.internal or all(m.ephemeral for m in self._maps):
            return
        try:
            explanations().ran(self._step_record(edge, cancelled), ignored=state.ignore_cache, failed=failed)
        except (PybuildError, OSError) as e:
            self._around.sink(Warned(f"why {state.name} ran is not recorded: {e}"))

    def _step_record(self, edge: ActiveEdge, cancelled: threading.Event) -> StepRecord:
        """What the key was made of, with the files that were looked at. Credentials of URLs are masked."""
        from builder.solver.explain import InputRecord, StepRecord
        from builder.text.redact import redact_text

        main, meta = self._around.caches.main, self._state.vertex.meta
        inputs = []
        for dep, (below, _) in zip(edge.deps, self._state.inputs, strict=True):
            assert dep.result is not None
            manifest = self._manifest(dep.index, dep.result.result, cancelled)
            content = dep.slow_key.key.digest if dep.slow_key is not None and not dep.slow_key.key.ephemeral else ""
            keys = tuple(main.id_of(k.key) for k in dep.result.keys if not k.key.ephemeral)
            selector = self._maps[-1].deps[dep.index].selector
            inputs.append(
                InputRecord(below.name, selector, keys, content, manifest.files, manifest.complete, below.op.identity)
            )
        parts = tuple((name, redact_text(value)) for m in self._maps for name, value in m.parts)
        title = meta.instruction or self._state.name
        digest = " ".join(m.digest for m in self._maps)
        return StepRecord(self._state.vertex.op.kind, meta.stage, title, parts, tuple(inputs), self._state.name, meta.args, digest)

    def _manifest(self, index: int, result: Result, cancelled: threading.Event) -> Manifest:
        ask, planner = self._maps[-1].deps[index].manifest, self._around.planner
        if ask is None or (planner is not None and planner.is_unknown(result)):
            return Manifest()
        try:
            return ask(result, self._context(cancelled))
        except (PybuildError, OSError):
            return Manifest()  # files that can't be listed are named by nobody; the step is explained by the rest

    @property
    def identity(self) -> str:
        """Of a source: what its name stood for when its key was made. Empty for others."""
        parts = {} if self._state.inputs else dict(part for m in self._maps for part in m.parts)
        return parts.get("digest") or parts.get("commit", "")

    def _commit(self, edge: ActiveEdge, keys: list[CacheKey], results: Sequence[Result]) -> SharedResult:
        if edge.index >= len(results):
            raise RuntimeError(f"{self._state.vertex.op.kind}: output {edge.index} is wanted, there are {len(results)}")
        result = results[edge.index]
        if self._around.planner is not None:
            return SharedResult(result, tuple(ExportableKey(k) for k in keys), edge.made_of_novel)
        records = {record.key: record for record in self._around.caches.main.save(keys, result)}
        exporters = tuple(Exporter(key, record=records.get(key), edge=edge) for key in keys)
        return SharedResult(result, tuple(ExportableKey(key, exporters) for key in keys), edge.made_of_novel)

    def release(self) -> None:
        """Give back every result."""
        held, self._held = self._held, []
        for result in held:
            result.release()

    # -------------------------------------------------------------------------------------------- machinery
    @property
    def op(self) -> Op:
        with self._op_lock:
            if self._op is None:
                self._op = self._around.resolve_op(self._state.vertex)
            return self._op

    @property
    def maps(self) -> Sequence[CacheMap]:
        return self._maps

    def _context(self, cancelled: threading.Event) -> OpContext:
        return OpContext(self._state.vertex, cancelled, self._around.sink, self._around.planner is not None)

    def _fly(
        self,
        name: tuple[str, int],
        work: Work,
        again: Callable[[Work], None],
        run: Callable[[threading.Event], Any],
        remember: Callable[[Any, Exception | None], None],
        inline: bool,
        *,
        limited: bool = False,
        take: Callable[[Any], Any] | None = None,
    ) -> None:
        """Let ``work`` wait for the flight ``name``, which runs ``run``. Afterwards ``again`` is called for those who wait: the
        outcome is remembered then. The first one waiting takes the outcome itself (``take`` picks its share)."""
        flight = self._flights.get(name)
        if flight is not None:
            entry = (work, again)
            (flight.late if flight.cancelled.is_set() else flight.waiters).append(entry)
            work.on_cancel = lambda: self._leave(flight, work)
            return
        flight = self._flights[name] = Flight([(work, again)])
        work.on_cancel = lambda: self._leave(flight, work)
        self._around.flights.add(flight)

        def land(value: Any, error: Exception | None) -> None:
            self._land(name, flight, value, error, remember, take or (lambda v: v))

        if inline:
            self._around.scheduler.later(lambda: land(*_attempt(lambda: run(flight.cancelled))))
        else:
            self._around.workers.submit(lambda: run(flight.cancelled), land, limited=limited)

    def _leave(self, flight: Flight, work: Work) -> None:
        waiters = flight.waiters
        if any(w is work for w, _ in waiters) and len(waiters) == 1:
            flight.cancelled.set()  # it answers when it has stopped: nothing goes on in the background
            return
        flight.waiters = [entry for entry in waiters if entry[0] is not work]
        flight.late = [entry for entry in flight.late if entry[0] is not work]
        self._around.scheduler.finish(work, None, CancelledError("the build was cancelled"))

    def _land(
        self,
        name: tuple[str, int],
        flight: Flight,
        value: Any,
        error: Exception | None,
        remember: Callable[[Any, Exception | None], None],
        take: Callable[[Any], Any],
    ) -> None:
        del self._flights[name]
        self._around.flights.discard(flight)
        if error is not None and flight.cancelled.is_set():
            # Stopped on purpose: no verdict on the vertex. Whoever came too late to save it starts it anew.
            stopped = CancelledError("the build was cancelled")
            for work, _ in flight.waiters:
                self._around.scheduler.finish(work, None, stopped)
            flight.waiters = []
        else:
            remember(value, error)
        rest = flight.waiters + flight.late
        if rest and (error is not None or value is not None) and flight.waiters:
            share = take(value) if error is None else None
            if error is not None or share is not None:
                work, _ = rest.pop(0)
                self._around.scheduler.finish(work, share, error)
        for work, again in rest:
            again(work)


def _attempt(run: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return run(), None
    except Exception as e:
        return None, e
