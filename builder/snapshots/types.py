"""What a snapshotter does: keep the files of layers and lend them out as folders.

Life of a snapshot that a build step makes::

    s.prepare("new", parent="base")          active: writable, nobody else's parent
    with s.mount("new") as folder: ...       read and write; several mounts at once see the same files
    s.commit("new")                          committed: read-only for ever, may be a parent
    s.diff("new", "base", write)             its own changes as a layer tar
    s.remove("new")                          once no other snapshot names it as parent

of one that comes from a layer blob::

    s.apply("layer", parent="base", chunks)  committed in one go, or not there at all

and of one that only points at others::

    s.merge("both", ["one", "two"])          committed: chain of "one", chain of "two" over it
    s.own("step", "new")                     committed: the own changes of "new" without what was below

Keys are chosen by the caller (the cache manager's record ids): ``[A-Za-z0-9_.-]+``. A key is used again after ``remove`` only for
the same files: a layer whose folder was lost is applied anew. A snapshot that others stand on must not be removed; the cache
manager sees to that. Errors: StoreError (disk, permission, unknown key), LayerError (hostile or malformed layer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from builder.values import dataclass

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class Applied:
    """``size``: bytes on disk of the snapshot's own files, ``inodes`` their number."""

    size: int
    inodes: int


class Snapshotter(Protocol):
    """See the module's text. Every method may be called from any thread; several processes may use one root.

    ``parallel_apply``: ``apply`` may run for the layers of one chain in any order and at once. The parent's key is given all
    the same, before it exists.
    """

    name: str
    parallel_apply: bool

    def prepare(self, key: str, parent: str | None) -> None:
        """A writable snapshot on a committed one (None: on nothing)."""
        ...

    def mount(self, key: str) -> AbstractContextManager[str]:
        """The snapshot's files with all below as a folder: writable while active, read-only once committed.

        Mounts are shared and counted inside the process; they are the process's own and end with it.
        """
        ...

    def commit(self, key: str) -> None:
        """Read-only from now on; StoreError while it is mounted. The disk is not waited for."""
        ...

    def apply(self, key: str, parent: str | None, chunks: Iterable[bytes]) -> Applied:
        """A layer, as an uncompressed tar, as a committed snapshot. It returns only when the stream was read to its very end
        without an error, since the stream verifies digests there; otherwise nothing of it is left.

        NeedsParent, only with ``parallel_apply``: the layer needs something of a parent that is not there yet. To be called again,
        with the stream from its beginning, once the parent chain is committed. This stream was read to its end by then, too.
        """
        ...

    def merge(self, key: str, parents: Sequence[str]) -> None:
        """A committed snapshot: the parents' whole chains laid over one another, first lowest."""
        ...

    def own(self, key: str, source: str) -> None:
        """A committed snapshot of what ``source`` alone adds and deletes, without what is below it (BuildKit's DiffOp)."""
        ...

    def diff(self, key: str, parent: str | None, write: Callable[[bytes], object], *, clamp_mtime: int | None = None) -> None:
        """The changes from ``parent`` to ``key`` (committed, or active and unmounted) as a layer tar: same files, same bytes.

        ``clamp_mtime`` (seconds since the epoch): later times become this one. ``write`` may be called by another thread, by
        one at a time and not any more when ``diff`` is left.
        """
        ...

    def usage(self, key: str) -> Applied:
        """Of the snapshot's own files, parents not counted. An active one is walked."""
        ...

    def remove(self, key: str) -> None:
        """Delete the snapshot and its files; free if it is not there."""
        ...

    def exists(self, key: str) -> bool:
        """Is the snapshot there, committed or active, with its files?"""
        ...

    def keys(self, *, of_another: bool = False) -> Iterator[str]:
        """Every snapshot's key; those of other snapshotters for ``of_another``."""
        ...

    def other(self) -> str:
        """The name of another snapshotter that the state folder was used with, "" for none. ``trust`` ends that."""
        ...

    def forget(self, c: sqlite3.Connection, keys: Iterable[str]) -> None:
        """``remove`` in the caller's transaction, without the files: ``sweep`` deletes those."""
        ...

    def lost(self) -> list[str] | None:
        """What snapshots have lost since ``trust``, in words (see ``canary``): somebody copied or changed their folder. None if
        ``trust`` was never called."""
        ...

    def trust(self) -> None:
        """From now on snapshots are what they are."""
        ...

    def sweep(self) -> None:
        """Delete what crashed processes left: half-made and half-removed snapshots, mount points."""
        ...
