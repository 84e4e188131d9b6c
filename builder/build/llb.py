"""Graphs made by hand: a few words for the operations, each giving a state to go on from (BuildKit: client/llb).

base = image("debian:bookworm")
app = base.run("make -C /src").copy(local("context"), "/app", "/app")
root.solve([app], Session.of(locals={"context": "."}))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from builder.errors import UsageError
from builder.graph.ops import (
    NO_INPUT,
    CopyAction,
    Diff,
    Exec,
    File,
    FileAction,
    GitSource,
    HTTPSource,
    ImageSource,
    LocalSource,
    Merge,
    MkdirAction,
    MkfileAction,
    Mount,
    Op,
    RmAction,
)
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.oci.platform import Platform, host
from builder.oci.reference import Reference
from builder.session import Session
from builder.values import dataclass, field, replace

if TYPE_CHECKING:
    from builder.cache.refs import ImmutableRef
    from builder.ops.refs import Ref
    from builder.progress.events import Sink
    from builder.solver.types import ResultStore
    from builder.worker import Worker

Network = Literal["default", "host", "none"]
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class State:
    """A root filesystem to come, and what steps on it are given. ``edge`` None is an empty one. Immutable: every method gives a
    new one."""

    edge: Edge | None = None
    env: tuple[str, ...] = (_PATH,)
    cwd: str = "/"
    user: str = ""
    platform: Platform = field(default_factory=host)

    def with_env(self, **values: str) -> State:
        """Environment variables for the steps that follow."""
        kept = tuple(e for e in self.env if e.partition("=")[0] not in values)
        return replace(self, env=kept + tuple(f"{k}={v}" for k, v in values.items()))

    def at(self, folder: str) -> State:
        """The working folder of the steps that follow."""
        return replace(self, cwd=folder)

    def by(self, user: str) -> State:
        """The user of the steps that follow, as in USER."""
        return replace(self, user=user)

    def run(
        self, command: str | Sequence[str], *, mounts: Sequence[tuple[Mount, State | None]] = (), network: Network = "default"
    ) -> State:
        """Run a command: text is given to /bin/sh -c. ``mounts`` are beside the root; the state of each is its content, None where
        the mount has none. ``network`` host has to be allowed by the session."""
        args = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
        inputs: list[Edge] = []
        root = Mount("/", _take(inputs, self), 0)
        others = tuple(replace(m, input=_take(inputs, s)) for m, s in mounts)
        op = Exec(args, self.env, self.cwd, self.user, mounts=(root, *others), network=network)
        return self._on(op, inputs, f"run {command if isinstance(command, str) else ' '.join(command)}")

    def copy(self, source: State, path: str, dest: str) -> State:
        """Copy ``path`` of another state (a wildcard is allowed) to ``dest``; a folder's content goes into the folder ``dest``."""
        inputs: list[Edge] = []
        base, other = _take(inputs, self), _take(inputs, source)
        action = CopyAction(
            base, other, 0, path, dest, dir_copy_contents=True, create_dest_path=True, allow_wildcard=True, follow_symlink=True
        )
        return self._on(File((action,)), inputs, f"copy {path} {dest}")

    def mkdir(self, path: str, mode: int = 0o755) -> State:
        """Make a folder and those above it."""
        inputs: list[Edge] = []
        return self._on_file(inputs, MkdirAction(_take(inputs, self), 0, path, mode, make_parents=True), f"mkdir {path}")

    def mkfile(self, path: str, data: bytes, mode: int = 0o644) -> State:
        """Make or replace a file."""
        inputs: list[Edge] = []
        return self._on_file(inputs, MkfileAction(_take(inputs, self), 0, path, data, mode), f"mkfile {path}")

    def rm(self, path: str) -> State:
        """Delete a path and all below it; a wildcard is allowed, nothing to delete is fine."""
        inputs: list[Edge] = []
        return self._on_file(inputs, RmAction(_take(inputs, self), 0, path, True, True), f"rm {path}")

    def _on_file(self, inputs: Sequence[Edge], action: FileAction, name: str) -> State:
        return self._on(File((action,)), inputs, name)

    def _on(self, op: Op, inputs: Sequence[Edge], name: str) -> State:
        vertex = Vertex(op, tuple(inputs), self.platform, VertexMeta(name))
        return replace(self, edge=Edge(vertex))


def scratch(platform: Platform | None = None) -> State:
    """Nothing."""
    return State(platform=platform or host())


def image(ref: str, platform: Platform | None = None) -> State:
    """The files of an image. Its config is not looked at: environment, user and working folder are the caller's."""
    name = str(Reference.parse(ref).with_default_tag())
    return _source(ImageSource(name), f"from {name}", platform)


def local(name: str, *, exclude: Sequence[str] = ()) -> State:
    """A folder of the session, read in place; ``exclude`` are patterns as in .dockerignore."""
    return _source(LocalSource(name, exclude=tuple(exclude)), f"local {name}")


def http(url: str, filename: str = "") -> State:
    """One file, in the root of the state."""
    return _source(HTTPSource(url, filename=filename), f"fetch {url}")


def git(remote: str, ref: str = "", subdir: str = "") -> State:
    """A checkout, or a folder of it."""
    return _source(GitSource(remote, ref, subdir), f"clone {remote}")


def merge(states: Sequence[State]) -> State:
    """All of them over one another, the last on top. ValueError for none."""
    inputs = tuple(s.edge for s in states if s.edge is not None)
    if not inputs:
        raise ValueError("nothing to merge")
    edge = inputs[0] if len(inputs) == 1 else Edge(Vertex(Merge(), inputs, meta=VertexMeta("merge")))
    return replace(states[-1], edge=edge)


def diff(lower: State, upper: State) -> State:
    """What ``upper`` adds to and deletes from ``lower``."""
    inputs: list[Edge] = []
    below, above = _take(inputs, lower), _take(inputs, upper)
    return replace(upper, edge=Edge(Vertex(Diff(below, above), tuple(inputs), meta=VertexMeta("diff"))))


def solve(worker: Worker, sink: Sink, states: Sequence[State], session: Session | None) -> tuple[str, ...]:
    """See ``Root.solve``."""
    from builder.ops import resolve
    from builder.ops.refs import owned, release_all
    from builder.solver.keystore import SqliteKeyStore
    from builder.solver.solver import Solver

    given = session or Session()
    edges = [s.edge for s in states if s.edge is not None]
    if len(edges) != len(states):
        raise UsageError("an empty state has nothing to build")
    keys = SqliteKeyStore(worker.database)
    parallelism = worker.config.max_parallelism or None
    store: ResultStore[Ref] = worker.cache
    with Solver(
        lambda vertex: resolve(vertex, worker, given), store, keys, sink, parallelism=parallelism, locks=worker.layout.locks
    ) as solver:
        results = solver.build(edges)
        refs: list[ImmutableRef] = []
        try:
            for result in results:
                refs.append(owned(result.result))
            return tuple(ref.id for ref in refs)
        finally:
            release_all(refs)
            for result in results:
                result.release()


def _source(op: Op, name: str, platform: Platform | None = None) -> State:
    platform = platform or host()
    return State(Edge(Vertex(op, platform=platform, meta=VertexMeta(name))), platform=platform)


def _take(inputs: list[Edge], state: State | None) -> int:
    """The index of the state among a vertex' inputs, appended where it is new."""
    if state is None or state.edge is None:
        return NO_INPUT
    if state.edge not in inputs:
        inputs.append(state.edge)
    return inputs.index(state.edge)


__all__ = ["Mount", "State", "diff", "git", "http", "image", "local", "merge", "scratch", "solve"]
