"""The op of a vertex, shared by the edges of the vertex and by those that were merged into them: each piece of its work is done
once, and what came of it is remembered (BuildKit: solver/jobs.go, sharedOp).

There are three kinds of work: the cache map, which says what the key is made of; the slow key, which is the content of an input;
and the execution. Each is a flight (``flight``): all edges that want the same wait for one. Loading a record is no flight, because
each edge loads its own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from builder.errors import CancelledError, PybuildError
from builder.oci.digest import Digest, digest_parts
from builder.progress.events import Warned
from builder.solver.cachekey import CacheKey, ExportableKey, FoundRecord
from builder.solver.errors import wrap
from builder.solver.exporter import Exporter
from builder.solver.flight import Again, FlightPlan, itself
from builder.solver.requests import Work
from builder.solver.result import SharedResult
from builder.solver.types import CacheMap, FileListing, Op, OpContext, Result
from builder.state.cancel import Token
from builder.state.locks import named_lock
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.solver.edge import ActiveEdge
    from builder.solver.explain import StepRecord
    from builder.solver.vertexstate import SolverServices, VertexState

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class _Executed:
    """What came of executing. ``results``: those of all outputs; None if another process had made the result meanwhile. ``shared``:
    by output, what can be handed to edges already."""

    results: Sequence[Result] | None
    shared: dict[int, SharedResult[Result]]


@dataclass(frozen=True, slots=True)
class _Step:
    """One execution: for which edge, the keys it is saved under, the results it is made of, and the name of its lock between
    processes."""

    edge: ActiveEdge
    keys: list[CacheKey]
    inputs: list[Result]
    lock: str


class SharedOp:
    """See the module's text. Public methods are called by the scheduler's loop, and never block: they finish ``work`` later, or at
    once where the answer is known. ``_ask_...`` and ``_execute...`` run on threads."""

    def __init__(self, state: VertexState, services: SolverServices) -> None:
        self._state = state
        self._services = services
        self._op: Op[Result] | None = None
        self._op_lock = threading.Lock()
        self._maps: list[CacheMap[Result]] = []
        self._maps_done = False
        self._map_error: Exception | None = None
        self._slow: dict[int, Digest] = {}
        self._slow_errors: dict[int, Exception] = {}
        self._results: Sequence[Result] | None = None
        self._exec_error: Exception | None = None
        self._held: list[Result] = []

    # -------------------------------------------------------------------------------------------- keys
    def cache_map(self, work: Work[tuple[CacheMap[Result], bool]], index: int) -> None:
        """Let ``work`` have cache map number ``index``, and whether it was the last."""
        if index < len(self._maps):
            last = self._maps_done and index == len(self._maps) - 1
            self._services.scheduler.finish(work, (self._maps[index], last), None)
        elif self._map_error is not None:
            self._services.scheduler.finish(work, None, self._map_error)
        else:

            def remember(value: tuple[CacheMap[Result], bool] | None, error: Exception | None) -> None:
                if value is not None:
                    self._maps.append(value[0])
                    self._maps_done = value[1]
                self._map_error = error

            plan = FlightPlan(lambda token: self._ask_cache_map(token, index), remember, itself, inline=bool(self._state.inputs))
            self._fly("map", index, work, lambda w: self.cache_map(w, index), plan)

    def _ask_cache_map(self, cancelled: Token, index: int) -> tuple[CacheMap[Result], bool]:
        if self._state.inputs:
            return self._checked_map(cancelled, index)
        # For a source the key is where the work begins: a tag is resolved, a commit is looked up.
        self._services.reporter.started(self._state)
        try:
            answer = self._checked_map(cancelled, index)
        except Exception as e:
            self._services.reporter.completed(self._state, CancelledError("canceled") if cancelled.is_set() else e)
            raise
        self._services.reporter.completed(self._state)
        return answer

    def _checked_map(self, cancelled: Token, index: int) -> tuple[CacheMap[Result], bool]:
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

    def slow_key(self, work: Work[Digest], index: int, result: SharedResult[Result]) -> None:
        """Let ``work`` have the content digest of the part of input ``index`` that counts."""
        if index in self._slow:
            self._services.scheduler.finish(work, self._slow[index], None)
        elif index in self._slow_errors:
            self._services.scheduler.finish(work, None, self._slow_errors[index])
        else:

            def remember(value: Digest | None, error: Exception | None) -> None:
                if value is not None:
                    self._slow[index] = value
                elif error is not None:
                    self._slow_errors[index] = error

            plan = FlightPlan(lambda token: self._ask_slow_key(token, index, result.result), remember, itself)
            self._fly("slow", index, work, lambda w: self.slow_key(w, index, result), plan)

    def _ask_slow_key(self, cancelled: Token, index: int, result: Result) -> Digest:
        content = self._maps[-1].deps[index].content
        assert content is not None
        try:
            return content(result, self._context(cancelled))
        except Exception as e:
            error = wrap(self._state.vertex, e, doing="failed to compute cache key")
            self._services.reporter.at_once(self._state, CancelledError("canceled") if cancelled.is_set() else error)
            raise error from e

    # -------------------------------------------------------------------------------------------- results
    def load_cache(self, work: Work[SharedResult[Result]], edge: ActiveEdge, record: FoundRecord) -> None:
        """Let ``work`` have the result of a record. It may be gone or damaged by now; the edge takes that error for a miss."""
        self._services.scheduler.finish_later(work, lambda: self._load(edge, record))

    def _load(self, edge: ActiveEdge, record: FoundRecord) -> SharedResult[Result]:
        try:
            result = self._services.caches.load(record)
        except (PybuildError, OSError) as e:
            self._services.sink(Warned(f"cached result of {self._state.name} can't be loaded: {e}"))
            raise
        if result is None:
            raise KeyError(record.id)
        self._held.append(result)
        self._services.reporter.at_once(self._state, cached=True)
        found = ExportableKey(record.key, (Exporter(record.key, record=record, edge=edge),))
        # A source is known by all its keys, whichever the record was found by. Another process may have known the image by its
        # chainID alone, and saved what it made of it under that.
        digests = [d for d, ephemeral in edge.keys.root_digests if not ephemeral and d != record.key.digest]
        others = (ExportableKey(CacheKey.new(d, self._state.vertex.digest, edge.index)) for d in digests)
        return SharedResult(result, (found, *others))

    def exec(self, work: Work[SharedResult[Result]], edge: ActiveEdge) -> None:
        """Let ``work`` have the result of executing. Every input of the edge has its result by now."""
        if self._exec_error is not None:
            self._services.scheduler.finish(work, None, self._exec_error)
            return
        keys = edge.keys.commit_keys()
        if self._results is not None:
            results = self._results
            self._services.scheduler.finish_later(work, lambda: self._commit(edge, keys, results))
            return

        def remember(value: _Executed | None, error: Exception | None) -> None:
            if value is not None and value.results is not None:
                self._results = value.results
            self._exec_error = error

        def take(value: _Executed) -> SharedResult[Result] | None:
            # None: what was executed or found was for another output of the vertex. Whoever asks again is answered from
            # ``_results``, or by another execution.
            return value.shared.get(edge.index)

        inputs = [dep.result.result for dep in edge.deps if dep.result is not None]
        step = _Step(edge, keys, inputs, self._lock_name(edge))
        plan = FlightPlan(lambda token: self._execute(token, step), remember, take, limited=True)
        self._fly("exec", 0, work, lambda w: self.exec(w, edge), plan)

    def _fly(self, what: str, index: int, work: Work[S], again: Again[S], plan: FlightPlan[T, S]) -> None:
        self._services.flights.fly((self, what, index), work, again, plan)

    def _lock_name(self, edge: ActiveEdge) -> str:
        """The same name in every process that would do the same: of the op's digest, and for each input the content digest if
        content counts, else the id of its result."""
        assert edge.state.cache_map is not None
        parts: list[str] = [digest for digest, _ in edge.keys.root_digests] or [edge.state.cache_map.digest]
        for dep in edge.deps:
            assert dep.result is not None
            parts.append(dep.slow_key.key.digest if dep.slow_key is not None else dep.result.result.id)
        return digest_parts("step", *parts).hex[:40]

    def _execute(self, cancelled: Token, step: _Step) -> _Executed:
        services, edge = self._services, step.edge
        if services.locks is None or all(key.ephemeral for key in step.keys):
            return self._execute_locked(cancelled, step)
        # One execution of a step among all processes of a state root. Who gets the lock looks for the result again first: the
        # last holder may have saved it. No deadlock: a thread holds one step lock at most, takes it after its place among
        # --max-parallelism, and waits for nothing but the step itself while it holds it.
        with named_lock(services.locks, "step-" + step.lock):
            if not edge.keys.records_are_outdated:
                found = self._saved_meanwhile(edge, step.keys)
                if found is not None:
                    return _Executed(None, {edge.index: found})
            return self._execute_locked(cancelled, step)

    def _saved_meanwhile(self, edge: ActiveEdge, keys: list[CacheKey]) -> SharedResult[Result] | None:
        main = self._services.caches.main
        for key in keys:
            # Names are looked up for a copy: ``key`` itself gets its name when it is saved.
            found = key.with_deps(key.deps)
            for record in main.records(found) if not key.ephemeral else ():
                try:
                    return self._load(edge, record)
                except (KeyError, PybuildError, OSError):
                    continue
        return None

    def _execute_locked(self, cancelled: Token, step: _Step) -> _Executed:
        services, state, edge = self._services, self._state, step.edge
        cancelled.check()
        services.reporter.started(state)
        context = self._context(cancelled)
        try:
            results = self.op.exec(context, step.inputs)
        except Exception as e:
            services.reporter.completed(state, CancelledError("canceled") if cancelled.is_set() else e)
            if not cancelled.is_set():
                self._log_step(edge, cancelled, failed=True)
            raise wrap(state.vertex, e) from e
        self._held += results
        try:
            shared = self._commit(edge, step.keys, results)
        except Exception as e:
            services.reporter.completed(state, e)
            raise wrap(state.vertex, e) from e
        services.reporter.completed(state)
        self._log_step(edge, cancelled, failed=False)
        return _Executed(results, {edge.index: shared})

    def _log_step(self, edge: ActiveEdge, cancelled: Token, *, failed: bool) -> None:
        """Record what was executed, for explanations (``why``). If that fails, the step's result is not affected, so
        it is only a warning."""
        explanations, state = self._services.explanations, self._state
        if explanations is None or state.vertex.meta.internal or all(m.ephemeral for m in self._maps):
            return
        try:
            record = self._step_record(edge, cancelled)
            explanations().ran(state.vertex.digest, record, ignored=state.ignore_cache, failed=failed)
        except (PybuildError, OSError) as e:
            self._services.sink(Warned(f"why {state.name} ran is not recorded: {e}"))

    def _step_record(self, edge: ActiveEdge, cancelled: Token) -> StepRecord:
        """What the key was made of, with the files that were looked at. Credentials of URLs are masked."""
        from builder.solver.explain import InputRecord, StepRecord
        from builder.text.redact import redact_text

        main, meta = self._services.caches.main, self._state.vertex.meta
        inputs = []
        for dep, (below, _) in zip(edge.deps, self._state.inputs, strict=True):
            assert dep.result is not None
            listing = self._listing(dep.index, dep.result.result, cancelled)
            content = dep.slow_key.key.digest if dep.slow_key is not None and not dep.slow_key.key.ephemeral else ""
            keys = tuple(main.id_of(k.key) for k in dep.result.keys if not k.key.ephemeral)
            selector = self._maps[-1].deps[dep.index].selector
            inputs.append(InputRecord(below.name, selector, keys, content, listing.files, listing.complete, below.op.identity))
        parts = tuple((name, redact_text(value)) for m in self._maps for name, value in m.parts)
        title = meta.instruction or self._state.name
        digest = " ".join(m.digest for m in self._maps)
        return StepRecord(self._state.vertex.op.kind, meta.stage, title, parts, tuple(inputs), self._state.name, meta.args, digest)

    def _listing(self, index: int, result: Result, cancelled: Token) -> FileListing:
        ask = self._maps[-1].deps[index].listing
        if ask is None:
            return FileListing()
        try:
            return ask(result, self._context(cancelled))
        except (PybuildError, OSError):
            return FileListing()  # files that can't be listed are named by nobody; the step is explained by the rest

    @property
    def identity(self) -> str:
        """Of a source: what its name stood for when its key was made. Empty for others."""
        parts = {} if self._state.inputs else dict(part for m in self._maps for part in m.parts)
        return parts.get("digest") or parts.get("commit", "")

    def _commit(self, edge: ActiveEdge, keys: list[CacheKey], results: Sequence[Result]) -> SharedResult[Result]:
        if edge.index >= len(results):
            raise RuntimeError(f"{self._state.vertex.op.kind}: output {edge.index} is wanted, there are {len(results)}")
        result = results[edge.index]
        records = {record.key: record for record in self._services.caches.main.save(keys, result)}
        exporters = tuple(Exporter(key, record=records.get(key), edge=edge) for key in keys)
        return SharedResult(result, tuple(ExportableKey(key, exporters) for key in keys), edge.keys.records_are_outdated)

    def release(self) -> None:
        """Give back every result."""
        held, self._held = self._held, []
        for result in held:
            result.release()

    # -------------------------------------------------------------------------------------------- machinery
    @property
    def op(self) -> Op[Result]:
        with self._op_lock:
            if self._op is None:
                self._op = self._services.resolve_op(self._state.vertex)
            return self._op

    @property
    def maps(self) -> Sequence[CacheMap[Result]]:
        return self._maps

    def _context(self, cancelled: Token) -> OpContext:
        return OpContext(self._state.vertex, cancelled, self._services.sink, self._services.planning)
