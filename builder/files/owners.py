"""Whose the files of the store are, and how they are permitted: the calls of ``os`` that say and set that.

Where the process may give files to anybody these are the calls themselves (``REAL``), and cost nothing more. Where the kernel knows
one id only (a user namespace with a single one, or an ordinary user without any) ``builder.files.kept`` keeps beside the files what
can't be set on them, and shows them as root would see them. Which of the two holds is a fact of the process, as its namespaces are:
it is chosen once, when a worker opens its snapshots (``builder.snapshots.select``), and asked for with ``current``.

Whatever sets or tells owner, mode, kind or device number of a file in a snapshot goes through here. Files that are not the
store's (a context, the target of an export) are ``REAL``'s in every process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

SUFFIXES = ("-kept", "-account")
"""Of snapshots whose owners are kept beside the files, by the root of a user namespace and by an account without rights."""


class Owners(Protocol):
    """``stat`` to ``mknod`` are as in ``os``, OSError and OverflowError included; a path that is an int is an open file, which for
    ``stat`` may be one of O_PATH.

    ``instead``: (extended attribute, what it is kept as) for those that can't be set as they are; what is in the tree under one of
    the two names is no file's. ``suffix``: a part of the name of snapshots that are kept so: to others they are not there.
    """

    instead: tuple[tuple[str, str], ...]
    suffix: str

    def stat(self, path: int | str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result: ...

    def lstat(self, path: str) -> os.stat_result: ...

    def listed(self, entry: os.DirEntry[str], folder: int | None = None) -> os.stat_result:
        """lstat of what scandir(3) found; ``folder``: the open folder, where it was given that."""
        ...

    def chown(
        self, path: int | str, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None: ...

    def chmod(self, path: int | str, mode: int, *, dir_fd: int | None = None) -> None: ...

    def mknod(self, path: str, mode: int, device: int = 0, *, dir_fd: int | None = None) -> None: ...

    def settle_group(self, name: str, folder: int) -> None:
        """The group of what was just made as ``name`` in an open folder: the folder's, if that has the set-group-id bit."""
        ...

    def load(self, table: str) -> None:
        """Take in what the file ``table`` says of a snapshot; there may be none."""
        ...

    def saving(self, folder: str, table: str) -> AbstractContextManager[object]:
        """Files are made in ``folder`` by the block: what can't be kept at them is in ``table`` after it. OSError."""
        ...


_NOTHING = nullcontext()


class Real:
    """The kernel keeps owners."""

    instead: tuple[tuple[str, str], ...] = ()
    suffix = ""
    stat = staticmethod(os.stat)
    lstat = staticmethod(os.lstat)
    chown = staticmethod(os.chown)
    chmod = staticmethod(os.chmod)
    mknod = staticmethod(os.mknod)

    def listed(self, entry: os.DirEntry[str], folder: int | None = None) -> os.stat_result:
        return entry.stat(follow_symlinks=False)

    def settle_group(self, name: str, folder: int) -> None:
        """The kernel has done it."""

    def load(self, table: str) -> None:
        """There is nothing in it."""

    def saving(self, folder: str, table: str) -> AbstractContextManager[object]:
        return _NOTHING


REAL: Owners = Real()
_current: Owners = REAL


def current() -> Owners:
    """Those of this process' store."""
    return _current


def choose(owners: Owners) -> None:
    """From now on ``current`` gives these: for the whole process."""
    global _current
    _current = owners


@contextmanager
def chosen(owners: Owners) -> Iterator[None]:
    """``choose`` for a block. For tests."""
    before = _current
    choose(owners)
    try:
        yield
    finally:
        choose(before)
