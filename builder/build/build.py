"""One build that a caller holds: run it, watch it, cancel it, ask about it.

build = root.build(BuildRequest(context="."))
for event in build.events():    # or build.run(sink): events as they come, from several threads
    ...
result = build.result()
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.build.pipeline import Pipeline
from builder.build.result import BuildError, BuildResult
from builder.errors import UsageError
from builder.files.trees import remove_tree
from builder.progress.events import Event, Sink, ignore
from builder.state.cancel import Token, checkpoint, current, scope

if TYPE_CHECKING:
    import queue

    from builder.build.answer import Answer
    from builder.build.request import BuildRequest
    from builder.graph.vertex import Graph
    from builder.solver.explain import Miss
    from builder.solver.plan import Plan
    from builder.worker import Worker


class Build:
    """A build is used once: ``run``, ``events``, ``plan``, ``graph`` or ``reading``. ``cancel`` may be called from any thread."""

    def __init__(self, worker: Worker, request: BuildRequest) -> None:
        self._worker, self.request = worker, request
        self._pipeline: Pipeline | None = None
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
        with self._opened(sink) as pipeline:
            self._result = pipeline.run()
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
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.cancel()

    def plan(self, sink: Sink = ignore) -> tuple[Plan, dict[str, Miss]]:
        """What ``run`` would execute, and by vertex digest why. Nothing is executed."""
        with self._opened(sink) as pipeline:
            plan = pipeline.plan()
            return plan, {str(digest): miss for digest, miss in pipeline.log.planned.items()}

    def graph(self, sink: Sink = ignore) -> Graph:
        """The graph that ``run`` would solve."""
        from builder.graph.vertex import Graph

        with self._opened(sink) as pipeline:
            return Graph(tuple(t.edge for t in pipeline.convert().targets if t.edge is not None))

    def answer(self, method: str, sink: Sink = ignore) -> Answer:
        """What ``--call=METHOD`` asks about the Dockerfile: ``check``, ``outline`` or ``targets``. Nothing is built."""
        from builder.build.answer import answer, check_method

        check_method(method)
        with self._opened(sink) as pipeline:
            return answer(method, pipeline.read().dockerfile, pipeline.options(), pipeline.resolver())

    def _run_for(self, waiting: queue.SimpleQueue[Event | None]) -> None:
        try:
            self.run(waiting.put)
        except BaseException as e:
            self._error = e
        finally:
            waiting.put(None)

    @contextmanager
    def _opened(self, sink: Sink) -> Iterator[Pipeline]:
        """A scratch folder around the work; errors get the Dockerfile they happened in."""
        if self._pipeline is not None:
            raise UsageError("a build is used once: make another one")
        scratch = tempfile.mkdtemp(prefix="build-", dir=self._worker.layout.tmp)
        with scope(self._token):
            pipeline = self._pipeline = Pipeline(self._worker, self.request, sink, scratch)
        try:
            with scope(self._token):
                checkpoint()
                yield pipeline
        except (Exception, KeyboardInterrupt) as e:
            pipeline.cancel()
            if isinstance(e, KeyboardInterrupt) or pipeline.inputs is None:
                raise
            raise BuildError(e, pipeline.inputs.name, pipeline.inputs.dockerfile) from e
        finally:
            self._tell(pipeline)
            pipeline.close()
            remove_tree(scratch, ignore_errors=True)

    def _tell(self, pipeline: Pipeline) -> None:
        self.warnings = pipeline.warnings()
        if self.explained:
            self.misses = pipeline.misses()
