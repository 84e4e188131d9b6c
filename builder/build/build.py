"""One build that a caller holds: run it, watch it, cancel it, ask about it.

build = root.build(BuildRequest(context="."))
for event in build.events():    # or build.run(sink): events as they come, from several threads
    ...
result = build.result()
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from builder.build import work
from builder.errors import UsageError
from builder.progress.events import Event, Sink, ignore
from builder.state.cancel import Token, current, scope

if TYPE_CHECKING:
    import queue

    from builder.build.answer import Answer
    from builder.build.engine import Engine
    from builder.build.request import BuildRequest
    from builder.build.result import BuildResult
    from builder.build.work import Outcome
    from builder.graph.vertex import Graph
    from builder.solver.explain import Miss
    from builder.solver.plan import Plan
    from builder.worker import Worker

P = ParamSpec("P")
T = TypeVar("T")


class Build:
    """A build is used once: ``run``, ``events``, ``plan``, ``graph`` or ``reading``. ``cancel`` may be called from any thread."""

    def __init__(self, engine: Engine, request: BuildRequest) -> None:
        self._engine, self.request = engine, request
        self._used = False
        self._token = Token(current())
        self._result: BuildResult | None = None
        self._error: BaseException | None = None
        self.warnings: tuple[str, ...] = ()
        self.misses: tuple[Miss, ...] = ()
        """Why the steps that ran were not cached; there once the build is over, also where it failed. None are computed unless
        ``explained`` was asked for."""
        self.explained = False

    def run(self, sink: Sink = ignore) -> BuildResult:
        """Build, and export to every output of the request. ``sink`` is called from several threads and locks for itself.

        BuildError once the Dockerfile was read, any other PybuildError before; CancelledError (as the cause) after ``cancel``.
        """
        self._result = self._do(work.run, sink, self.request, self.explained)
        return self._result

    def events(self) -> Iterator[Event]:
        """Build in a thread of its own, and give its events as they come. Leaving the loop early cancels the build.

        Ends when the build does; ``result`` then has its result or raises its error.
        """
        import queue

        waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        thread = threading.Thread(target=self._run_for, args=(waiting,), name="build")
        thread.start()
        try:
            while (event := waiting.get()) is not None:
                yield event
        finally:
            if thread.is_alive():
                self.cancel()
            thread.join()

    def result(self) -> BuildResult:
        """Of a build that is over. Raises what ``run`` would have raised."""
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise UsageError("the build has no result yet: run it first")
        return self._result

    def cancel(self) -> None:
        """End the build: what runs is stopped, ``run`` raises. What was finished stays in the cache. Also for signal handlers."""
        self._token.set()

    def plan(self, sink: Sink = ignore) -> tuple[Plan, dict[str, Miss]]:
        """What ``run`` would execute, and by vertex digest why. Nothing is executed."""
        return self._do(work.plan, sink, self.request)

    def graph(self, sink: Sink = ignore) -> Graph:
        """The graph that ``run`` would solve."""
        return self._do(work.graph, sink, self.request)

    def answer(self, method: str, sink: Sink = ignore) -> Answer:
        """What ``--call=METHOD`` asks about the Dockerfile: ``check``, ``outline`` or ``targets``. Nothing is built."""
        from builder.build.answer import check_method

        check_method(method)
        return self._do(work.answer, sink, self.request, method)

    def _run_for(self, waiting: queue.SimpleQueue[Event | None]) -> None:
        try:
            self.run(waiting.put)
        except BaseException as e:
            self._error = e
        finally:
            waiting.put(None)

    def _do(
        self,
        what: Callable[Concatenate[Worker, Sink, P], Outcome[T]],
        sink: Sink,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        if self._used:
            raise UsageError("a build is used once: make another one")
        self._used = True
        with scope(self._token):
            outcome = self._engine.tell(what, sink, *args, **kwargs)
        self.warnings, self.misses = outcome.remarks.warnings, outcome.remarks.misses
        return outcome.result()
