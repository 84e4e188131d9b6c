"""The event loop: hands edges what is new for them, one at a time, in the calling thread (BuildKit: solver/scheduler.go).

Only work (pulls, checksums, executions) runs on other threads, and its outcomes come back through the loop. So edges, requests and
the index need no locks, and the same outcomes in the same order always lead to the same decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from builder.errors import CancelledError
from builder.solver.edge import ActiveEdge
from builder.solver.edgestate import EdgeState, EdgeStatus
from builder.solver.errors import SchedulerError
from builder.solver.requests import EdgeRequest, Known, Pending, Work
from builder.state import trace

if TYPE_CHECKING:
    from builder.solver.index import EdgeIndex
    from builder.solver.vertexstate import VertexState
    from builder.solver.workers import Workers

T = TypeVar("T")
Q = TypeVar("Q", EdgeRequest, EdgeRequest | Pending)
Input = tuple["VertexState", int]
_WIDE = 8
_UNKNOWN: Known = (EdgeStatus.INITIAL, id(None), id(None), 0)


class Scheduler:
    """Owns the requests between edges: by edge those that ask it (``_incoming``) and those it asks (``_outgoing``, work included).

    ``_ready`` are edges that have news, ``_wide`` those of many inputs, ``_inline`` quick work for the loop itself. ``steps``
    counts the edges looked at: what solving costs, without the work in it.
    """

    def __init__(self, workers: Workers, index: EdgeIndex) -> None:
        self._workers = workers
        self._index = index
        self._ready: dict[ActiveEdge, None] = {}
        self._wide: dict[ActiveEdge, None] = {}
        self._inline: deque[Callable[[], None]] = deque()
        self._incoming: dict[ActiveEdge, list[EdgeRequest]] = {}
        self._outgoing: dict[ActiveEdge, list[EdgeRequest | Pending]] = {}
        self.steps = 0

    # -------------------------------------------------------------------------------------------- solving
    def build(self, inputs: Sequence[Input], interrupted: Callable[[], bool]) -> list[ActiveEdge]:
        """Solve the edges; the first error ends it all: the rest is cancelled, waited for, and the error raised.

        ``interrupted`` is looked at between events (``Workers.wake`` makes one): CancelledError.
        """
        requests = [self.ask(i, None, EdgeStatus.COMPLETE, _UNKNOWN) for i in inputs]
        first: Exception | None = None
        while not all(r.completed for r in requests):
            self._advance()
            if first is None:
                first = next((r.error for r in requests if r.error is not None), None)
                if first is None and interrupted():
                    first = CancelledError("the build was cancelled")
                if first is not None:
                    for request in requests:
                        self.cancel(request)
        if first is None:
            first = next((r.error for r in requests if r.error is not None), None)
        if first is not None:
            raise first
        return [r.target for r in requests]

    def _advance(self) -> None:
        """One event, the first of these that there is: an edge with news, an outcome of a worker, work for the loop, an edge of
        many inputs. If there is none, wait for a worker.

        Edges come before everything else: what one outcome changes is told to all edges before the next outcome is looked at. So
        equal edges are found before either is executed (``postpone``)."""
        if self._ready:
            edge = next(iter(self._ready))
            del self._ready[edge]
            self._dispatch(edge)
        elif self._workers.ready():
            self._workers.wait()
        elif self._inline:
            self._inline.popleft()()
        elif self._wide:
            edge = next(iter(self._wide))
            del self._wide[edge]
            self._dispatch(edge)
        elif self._workers.outstanding:
            self._workers.wait()
        else:
            raise SchedulerError("the solver has nothing left to do, but the build is not done: this is a bug")

    def _dispatch(self, edge: ActiveEdge) -> None:
        self.steps += 1
        before = edge.state.status if trace.is_on() else None
        incoming = list(self._incoming.get(edge, ()))
        outgoing = list(self._outgoing.get(edge, ()))
        updates = [out for out in outgoing if out.news]
        for out in updates:
            out.news = False
        edge.has_active_outgoing = any(not out.completed for out in outgoing)
        edge.unpark(incoming, updates, outgoing, self)
        if before is not None:
            self._trace(edge, before, incoming, updates)
        open_in = self._keep_open(self._incoming, edge)
        open_out = self._keep_open(self._outgoing, edge)
        if edge.keys_did_change:
            edge.keys_did_change = False
            if self._merge_if_equal(edge):
                return
        if bool(open_in) != bool(open_out):
            kind = "incoming" if open_in else "outgoing"
            raise SchedulerError(f"{edge!r} left {kind} requests open: this is a bug")

    @staticmethod
    def _trace(edge: ActiveEdge, before: EdgeStatus, incoming: Sequence[EdgeRequest], news: Sequence[object]) -> None:
        wanted = max((r.desired.name for r in incoming), default="nothing")
        now = edge.state.status
        status = now.name if now == before else f"{before.name} -> {now.name}"
        trace.event("solver", "edge", edge=edge, status=status, wanted=wanted, news=len(news), keys=len(edge.state.keys))

    @staticmethod
    def _keep_open(requests: dict[ActiveEdge, list[Q]], edge: ActiveEdge) -> list[Q]:
        still = [r for r in requests.get(edge, ()) if not r.completed or (r.news and isinstance(r, Pending))]
        if still:
            requests[edge] = still
        else:
            requests.pop(edge, None)
        return still

    # -------------------------------------------------------------------------------------------- requests
    def ask(self, input: Input, origin: ActiveEdge | None, desired: EdgeStatus, known: Known) -> EdgeRequest:
        """Ask another edge to reach a state. Its answers, partial ones too, wake ``origin``."""
        vertex, index = input
        request = EdgeRequest(vertex.edge(index), origin, desired, known)
        self._incoming.setdefault(request.target, []).append(request)
        if origin is not None:
            self._outgoing.setdefault(origin, []).append(request)
        self._signal(request.target)
        return request

    def answer(self, request: EdgeRequest, state: EdgeState, *, error: Exception | None = None, final: bool = False) -> None:
        """Say that there is something new; ``final`` closes the request."""
        request.state = state
        request.known = state.known
        request.news = True
        if final:
            request.completed = True
            request.error = error
            request.was_cancelled = request.cancelled and isinstance(error, CancelledError)
        if request.origin is not None:
            self._signal(request.origin)

    def cancel(self, request: EdgeRequest | Pending) -> None:
        """Not wanted any more; it still completes."""
        if isinstance(request, Pending):
            request.cancel()
        elif not request.cancelled:
            request.cancelled = True
            self._signal(request.target)

    def start_work(self, edge: ActiveEdge, start: Callable[[Work[T]], None]) -> Work[T]:
        """A piece of work for the edge; ``start`` puts it on its way (VertexState's op does that)."""
        work: Work[T] = Work(edge)
        self._outgoing.setdefault(edge, []).append(work)
        start(work)
        return work

    def postpone(self, edge: ActiveEdge) -> None:
        """Look at the edge again, after everything that follows from this step."""
        def nothing() -> None:
            pass

        def start(work: Work[None]) -> None:
            self.finish_later(work, nothing)

        self.start_work(edge, start)

    def finish_later(self, work: Work[T], run: Callable[[], T]) -> None:
        """Do ``run`` in the loop, after the edges that are ready, then finish ``work`` with its value or error."""

        def step() -> None:
            value: T | None = None
            error: Exception | None = None
            try:
                value = run()
            except Exception as e:
                error = e
            self.finish(work, value, error)

        self.later(step)

    def later(self, step: Callable[[], None]) -> None:
        """Do ``step`` in the loop, after the edges that are ready."""
        self._inline.append(step)

    def finish(self, work: Work[T], value: T | None, error: Exception | None) -> None:
        work.finish(value, error)
        self._signal(work.origin)

    def _signal(self, edge: ActiveEdge) -> None:
        # Looking at an edge costs a look at each of its inputs. An edge of a thousand inputs that is woken by each of them would
        # cost a million looks; so one with many waits until there is no more news to be had at once.
        (self._wide if len(edge.vertex.inputs) > _WIDE else self._ready)[edge] = None

    # -------------------------------------------------------------------------------------------- merging
    def _merge_if_equal(self, edge: ActiveEdge) -> bool:
        key = edge.keys.index_key()
        if key is None:
            return False
        other = self._index.load_or_store(key, edge)
        if other is None or edge.vertex.depends_on(other.vertex) or other.vertex.depends_on(edge.vertex):
            return False
        target, source = other, edge
        if other.vertex.has_owner(edge.vertex):
            # An edge beside ``other`` has been merged into ``edge``'s vertex already: the other way round would make a circle.
            target, source = edge, other
        if source.ignore_cache and not target.ignore_cache:
            return False
        self._merge(target, source)
        return True

    def _merge(self, target: ActiveEdge, source: ActiveEdge) -> None:
        """Whoever asked ``source`` asks ``target`` from now on. What ``source`` had under way is cancelled; its end is reported to
        ``target``, which counts it as its own until then."""
        moved_in = self._incoming.pop(source, [])
        moved_out = self._outgoing.pop(source, [])
        for request in moved_in:
            request.target = target
        for out in moved_out:
            out.origin = target
        if moved_in:
            self._incoming.setdefault(target, []).extend(moved_in)
        if moved_out:
            self._outgoing.setdefault(target, []).extend(moved_out)
        for out in moved_out:
            self.cancel(out)
        self._ready.pop(source, None)
        self._wide.pop(source, None)
        self._signal(target)
        target.adopt(source)
        self._index.release(source)
