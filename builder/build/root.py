"""A state folder, opened: where everything that a caller does begins.

with Root.open() as root:
    result = root.build(BuildRequest(context=".", tags=(Reference.parse("app"),), outputs=(OutputSpec("image"),))).run()
    with root.mount(result.targets[0].record) as folder:
        ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import NotFoundError
from builder.progress.events import Sink, ignore

if TYPE_CHECKING:
    from builder.build.build import Build
    from builder.build.llb import State
    from builder.build.request import BuildRequest
    from builder.cache.types import PrunePolicy, UsageRecord
    from builder.config import Config
    from builder.images.store import StoredImage
    from builder.oci.reference import Reference
    from builder.session import Session
    from builder.solver.explain import Miss
    from builder.solver.steplog import LoggedBuild
    from builder.worker import Worker


class Root:
    """Made by ``open``; a context manager. Its methods may be called from any thread.

    Several processes, and several roots of one process, may have the same folder open.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    @classmethod
    def open(
        cls,
        path: str | None = None,
        *,
        config: Config | str | None = None,
        runtime: str | None = None,
        repair: bool = True,
        to_prune: bool = False,
    ) -> Root:
        """Open ``path`` (None: PYBUILD_ROOT or the default one), made where it is missing.

        ``config`` is a Config, or a file in buildkitd.toml's form (None: PYBUILD_CONFIG, or the defaults). ``runtime`` names the
        sandbox of steps; None: the best that works here. To be called before the process starts threads: it enters a mount
        namespace of its own. ``repair`` False is for ``check``: what a copy of the folder lost is told then, and not made good.
        ``to_prune``: what was set aside for a disk without a free byte is freed first. StoreError, UsageError.
        """
        from builder.config import Config
        from builder.sources.providers import connect
        from builder.worker import open_worker

        if to_prune:
            from builder.state.layout import Layout, default_root
            from builder.state.reserve import spend

            spend(Layout(os.path.abspath(path) if path else default_root()))
        settings = config if isinstance(config, Config) else Config.load(config or None)
        worker = open_worker(os.path.abspath(path) if path else None, settings, runtime, repair=repair)
        connect(worker)
        return cls(worker)

    @property
    def ignored_settings(self) -> tuple[str, ...]:
        """Keys of the configuration that are a daemon's, and mean nothing here."""
        return self.worker.config.ignored

    def close(self) -> None:
        """Let go of everything: refs of this root are worthless afterwards."""
        self.worker.close()

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------ building
    def build(self, request: BuildRequest) -> Build:
        """A build of a Dockerfile, not begun yet."""
        from builder.build.build import Build

        return Build(self.worker, request)

    def solve(self, states: Sequence[State], session: Session | None = None, sink: Sink = ignore) -> tuple[str, ...]:
        """Build graphs made by hand (``builder.build.llb``); the ids of their records, for ``mount``.

        ``session`` names the folders, secrets and agents that they may use. SolveError with the vertex that failed.
        """
        from builder.build.llb import solve

        return solve(self.worker, states, session, sink)

    @contextmanager
    def mount(self, record: str) -> Iterator[str]:
        """The files of a result as a read-only folder, for as long as the context lasts. NotFoundError if it was pruned."""
        ref = self.worker.cache.load(record)
        if ref is None:
            raise NotFoundError(f"no record {record} in the cache", hint="it was pruned: build again")
        try:
            with ref.mount() as folder:
                yield folder
        finally:
            ref.release()

    # ------------------------------------------------------------------------------------------------ the store
    def images(self) -> Sequence[StoredImage]:
        """The named images, by name."""
        from builder.build.store import list_images

        return list_images(self.worker)

    def remove_image(self, name: Reference) -> bool:
        """Take a name away; False if there is none of it."""
        from builder.build.store import remove_image

        return remove_image(self.worker, name)

    def save_image(self, name: Reference, dest: str | Callable[[bytes], object], *, form: str = "docker") -> None:
        """A named image as an archive (``form`` docker or oci): to the file ``dest``, whole or not at all (``-``: standard output),
        or handed to it in pieces. NotFoundError, UsageError."""
        from builder.build.store import save_image

        if not isinstance(dest, str):
            save_image(self.worker, name, form, dest)
            return
        from builder.exporters.sink import output_file

        with output_file(dest, form) as write:
            save_image(self.worker, name, form, write)

    def usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """What the cache holds, oldest first; filters as buildkitd's (``type==regular``)."""
        return self.worker.cache.collector.disk_usage(filters)

    def prune(self, policy: PrunePolicy) -> list[UsageRecord]:
        """Remove what the policy doesn't keep and nobody uses; what was removed."""
        from builder.build.store import prune

        return prune(self.worker, policy)

    def check(self, *, verify: bool = False) -> tuple[list[str], list[str]]:
        """(problems, garbage), a line each; nothing is changed. ``verify``: every blob is read."""
        from builder.build.store import check

        return check(self.worker, verify=verify)

    def last_build(self) -> tuple[LoggedBuild, Sequence[Miss]] | None:
        """The last build that ran anything, and why its steps ran."""
        from builder.solver.steplog import StepLog

        log = StepLog(self.worker.database, "", "")
        last = log.last()
        return None if last is None else (last, log.misses(last))


def default_root() -> str:
    """The state folder that ``Root.open`` takes for None: PYBUILD_ROOT, /var/lib/pybuild for root, $XDG_DATA_HOME/pybuild."""
    from builder.state import layout

    return layout.default_root()


def restart_after(error: Exception, path: str) -> None:
    """For a command line whose command ended with ``error``: if that came of a damaged database in the state folder ``path``,
    become the same command again, which writes the database anew first. Returns if it did not, or if that was tried already."""
    from builder.state.layout import Layout
    from builder.state.recovery import restart

    restart(error, Layout(os.path.abspath(path)).database)
