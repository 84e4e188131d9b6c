"""What the library's classes ask of a worker, as functions of a module: another process can be told their names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from builder.build.pipeline import Pipeline
from builder.build.result import BuildError, BuildResult
from builder.errors import NotFoundError
from builder.files.trees import remove_tree
from builder.progress.events import Sink
from builder.state.cancel import checkpoint, current
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.build.answer import Answer
    from builder.build.request import BuildRequest
    from builder.graph.vertex import Graph
    from builder.solver.explain import Miss
    from builder.solver.plan import Plan
    from builder.solver.steplog import LoggedBuild
    from builder.worker import Worker

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remarks:
    """What is to be said of a build beside its result, also of one that failed. ``misses``: only where they were asked for."""

    warnings: tuple[str, ...]
    misses: tuple[Miss, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """A value, or the error in its place."""

    remarks: Remarks
    value: T | None = None
    error: BaseException | None = None

    def result(self) -> T:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


def run(worker: Worker, sink: Sink, request: BuildRequest, explained: bool) -> Outcome[BuildResult]:
    """See ``Build.run``."""
    return _with_pipeline(worker, sink, request, Pipeline.run, explained=explained)


def plan(worker: Worker, sink: Sink, request: BuildRequest) -> Outcome[tuple[Plan, dict[str, Miss]]]:
    """See ``Build.plan``."""

    def made(pipeline: Pipeline) -> tuple[Plan, dict[str, Miss]]:
        found = pipeline.plan()
        return found, {str(digest): miss for digest, miss in pipeline.log.planned.items()}

    return _with_pipeline(worker, sink, request, made)


def graph(worker: Worker, sink: Sink, request: BuildRequest) -> Outcome[Graph]:
    """See ``Build.graph``."""
    from builder.graph.vertex import Graph

    def made(pipeline: Pipeline) -> Graph:
        return Graph(tuple(t.edge for t in pipeline.convert().targets if t.edge is not None))

    return _with_pipeline(worker, sink, request, made)


def answer(worker: Worker, sink: Sink, request: BuildRequest, method: str) -> Outcome[Answer]:
    """See ``Build.answer``."""
    from builder.build import answer as answers

    def made(pipeline: Pipeline) -> Answer:
        return answers.answer(method, pipeline.read().dockerfile, pipeline.options(), pipeline.resolver())

    return _with_pipeline(worker, sink, request, made)


def _with_pipeline(
    worker: Worker, sink: Sink, request: BuildRequest, use: Callable[[Pipeline], T], *, explained: bool = False
) -> Outcome[T]:
    """A scratch folder around the work; errors get the Dockerfile they happened in."""
    scratch = tempfile.mkdtemp(prefix="build-", dir=worker.layout.tmp)
    pipeline = Pipeline(worker, request, sink, scratch)
    try:
        try:
            with current().calling(pipeline.cancel):
                checkpoint()
                value = use(pipeline)
        except (Exception, KeyboardInterrupt) as e:
            pipeline.cancel()
            error: BaseException = e
            if not isinstance(e, KeyboardInterrupt) and pipeline.inputs is not None:
                error = BuildError(e, pipeline.inputs.name, pipeline.inputs.dockerfile)
                error.__cause__ = e
            return Outcome(_remarks(pipeline, explained=explained), error=error)
        return Outcome(_remarks(pipeline, explained=explained), value)
    finally:
        pipeline.close()
        remove_tree(scratch, ignore_errors=True)


def _remarks(pipeline: Pipeline, *, explained: bool) -> Remarks:
    return Remarks(pipeline.warnings(), pipeline.misses() if explained else ())


@contextmanager
def mounted(worker: Worker, record: str) -> Iterator[str]:
    """See ``Root.mount``."""
    ref = worker.cache.load(record)
    if ref is None:
        raise NotFoundError(f"no record {record} in the cache", hint="it was pruned: build again")
    try:
        with ref.mount() as folder:
            yield folder
    finally:
        ref.release()


def last_build(worker: Worker) -> tuple[LoggedBuild, Sequence[Miss]] | None:
    """See ``Root.last_build``."""
    from builder.solver.steplog import StepLog

    log = StepLog(worker.database, "", "")
    last = log.last()
    return None if last is None else (last, log.misses(last))
