"""Where a root's work is done: in this process, or in one of its own that may enter namespaces.

What can be asked of a root is a function of the worker (``builder.build.store`` and ``builder.build.work`` have them), so that one
interface serves both: the other process is told the function's name and its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from builder.config import Config
    from builder.worker import Worker

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Callable[..., object]")


class Engine(Protocol):
    """An opened state folder. Methods may be called from any thread; work belongs to the caller's cancellation token."""

    @property
    def ignored_settings(self) -> tuple[str, ...]:
        """See ``Root.ignored_settings``."""

    def do(self, work: Callable[Concatenate[Worker, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``work`` on the worker, or its error."""

    def tell(
        self,
        work: Callable[Concatenate[Worker, S, P], T],
        sink: S,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same for work that tells ``sink`` things on its way, maybe from several threads."""

    def hold(
        self, work: Callable[Concatenate[Worker, P], AbstractContextManager[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[T]:
        """The context that ``work`` opens on the worker."""

    def outside(self, path: str) -> str:
        """A path of the engine's mount namespace, as this process can name it."""

    def close(self) -> None:
        """Let go of everything; work under way is cancelled."""


class LocalEngine:
    """In this process."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @property
    def ignored_settings(self) -> tuple[str, ...]:
        """See Engine."""
        return self._worker.config.ignored

    def do(self, work: Callable[Concatenate[Worker, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Engine."""
        return work(self._worker, *args, **kwargs)

    def tell(
        self,
        work: Callable[Concatenate[Worker, S, P], T],
        sink: S,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See Engine."""
        return work(self._worker, sink, *args, **kwargs)

    def hold(
        self, work: Callable[Concatenate[Worker, P], AbstractContextManager[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[T]:
        """See Engine."""
        return work(self._worker, *args, **kwargs)

    def outside(self, path: str) -> str:
        """See Engine."""
        return path

    def close(self) -> None:
        """See Engine."""
        self._worker.close()


def open_here(path: str | None, config: Config | str | None, runtime: str | None, *, repair: bool, to_prune: bool) -> LocalEngine:
    """See ``Root.open``: enters namespaces with this process."""
    from builder.config import Config
    from builder.sources.providers import connect
    from builder.worker import open_worker

    if to_prune:
        from builder.state.layout import Layout, default_root
        from builder.state.reserve import spend

        spend(Layout(path or default_root()))
    settings = config if isinstance(config, Config) else Config.load(config or None)
    worker = open_worker(path, settings, runtime, repair=repair)
    connect(worker)
    return LocalEngine(worker)
