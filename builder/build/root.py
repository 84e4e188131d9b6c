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

from builder.progress.events import Sink, ignore

if TYPE_CHECKING:
    from builder.build.build import Build
    from builder.build.engine import Engine
    from builder.build.llb import State
    from builder.build.request import BuildRequest
    from builder.cache.types import PrunePolicy, UsageRecord
    from builder.config import Config
    from builder.doctor import Finding
    from builder.images.store import StoredImage
    from builder.oci.reference import Reference
    from builder.session import Session
    from builder.solver.explain import Miss
    from builder.solver.steplog import LoggedBuild
    from builder.state.cancel import Token


class Root:
    """Made by ``open``; a context manager. Its methods may be called from any thread.

    Several processes, and several roots of one process, may have the same folder open.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(
        cls,
        path: str | None = None,
        *,
        config: Config | str | None = None,
        runtime: str | None = None,
        repair: bool = True,
        to_prune: bool = False,
        in_process: bool = False,
    ) -> Root:
        """Open ``path`` (None: PYBUILD_ROOT or the default one), made where it is missing.

        ``config`` is a Config, or a file in buildkitd.toml's form (None: PYBUILD_CONFIG, or the defaults). ``runtime`` names the
        sandbox of steps; None: the best that works here. ``repair`` False is for ``check``: what a copy of the folder lost is told
        then, and not made good. ``to_prune``: what was set aside for a disk without a free byte is freed first.

        Mounting needs namespaces that nobody leaves again: the work is done in a process of its own, which ends with this one, and
        knows the working folder and environment of now. ``in_process`` True is for a program that is nothing but a builder, and has
        no threads yet: it enters them itself. StoreError, UsageError.
        """
        where = os.path.abspath(path) if path else None
        if in_process:
            from builder.build.engine import open_here

            return cls(open_here(where, config, runtime, repair=repair, to_prune=to_prune))
        from builder.build.remote import open_beside

        return cls(open_beside(where, config, runtime, repair=repair, to_prune=to_prune))

    @property
    def ignored_settings(self) -> tuple[str, ...]:
        """Keys of the configuration that are a daemon's, and mean nothing here."""
        return self._engine.ignored_settings

    def close(self) -> None:
        """Let go of everything: refs of this root are worthless afterwards."""
        self._engine.close()

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------ building
    def build(self, request: BuildRequest) -> Build:
        """A build of a Dockerfile, not begun yet."""
        from builder.build.build import Build

        return Build(self._engine, request)

    def solve(
        self, states: Sequence[State], session: Session | None = None, sink: Sink = ignore, *, token: Token | None = None
    ) -> tuple[str, ...]:
        """Build graphs made by hand (``builder.build.llb``); the ids of their records, for ``mount``.

        ``session`` names the folders, secrets and agents that they may use. ``token.set()``, from any thread or signal handler,
        calls the work off. SolveError with the vertex that failed, CancelledError, UsageError for a state without a step.
        """
        from builder.build.llb import solve
        from builder.state.cancel import current, scope

        with scope(token or current()):
            return self._engine.tell(solve, sink, states, session)

    @contextmanager
    def mount(self, record: str) -> Iterator[str]:
        """The files of a result as a read-only folder, for as long as the context lasts. NotFoundError if it was pruned."""
        from builder.build.work import mounted

        with self._engine.hold(mounted, record) as folder:
            yield self._engine.outside(folder)

    # ------------------------------------------------------------------------------------------------ the store
    def images(self) -> Sequence[StoredImage]:
        """The named images, by name."""
        from builder.build.store import list_images

        return self._engine.do(list_images)

    def remove_image(self, name: Reference) -> bool:
        """Take a name away; False if there is none of it."""
        from builder.build.store import remove_image

        return self._engine.do(remove_image, name)

    def save_image(self, name: Reference, dest: str | Callable[[bytes], object], *, form: str = "docker") -> None:
        """A named image as an archive (``form`` docker or oci): to the file ``dest``, whole or not at all (``-``: standard output),
        or handed to it in pieces. NotFoundError, UsageError."""
        from builder.build.store import save_image

        if not isinstance(dest, str):
            self._engine.tell(save_image, dest, name, form)
            return
        from builder.exporters.sink import output_file

        with output_file(dest) as write:
            self._engine.tell(save_image, write, name, form)

    def usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """What the cache holds, oldest first; filters as buildkitd's (``type==regular``)."""
        from builder.build.store import usage

        return self._engine.do(usage, filters)

    def prune(self, policy: PrunePolicy) -> list[UsageRecord]:
        """Remove what the policy doesn't keep and nobody uses; what was removed."""
        from builder.build.store import prune

        return self._engine.do(prune, policy)

    def check(self, *, verify: bool = False) -> tuple[list[str], list[str]]:
        """(problems, garbage), a line each; nothing is changed. ``verify``: every blob is read."""
        from builder.build.store import check

        return self._engine.do(check, verify=verify)

    def diagnose(self, uid: int | None = None) -> list[Finding]:
        """What works on this machine and what does not. ``uid``: who started this process (None: as it is now)."""
        from builder.doctor import diagnose

        return self._engine.do(diagnose, os.getuid() if uid is None else uid)

    def last_build(self) -> tuple[LoggedBuild, Sequence[Miss]] | None:
        """The last build that ran anything, and why its steps ran."""
        from builder.build.work import last_build

        return self._engine.do(last_build)


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
