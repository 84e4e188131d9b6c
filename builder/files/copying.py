"""Copying single files and whole trees with all metadata."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from builder.files.data import clone
from builder.files.owners import REAL, current
from builder.files.trees import held
from builder.files.xattrs import copy_xattrs
from builder.state.cancel import checkpoint
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.files.owners import Owners


@dataclass(frozen=True, slots=True)
class Manner:
    """What a copy takes over. ``owners`` False: it belongs to the caller, who may lack the right to set every attribute, and lies
    outside of the store.
    ``time_ns``: the time of all files, instead of their own."""

    owners: bool = True
    time_ns: int | None = None


WHOLE = Manner()


def copy_entry(source: str, target: str, status: os.stat_result, manner: Manner = WHOLE) -> None:
    """Make ``target`` (which must not exist) like ``source``, whose lstat is ``status``; a folder comes out empty, its times
    are for the caller to set. OSError. Sockets are left out."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        _copy_regular(source, target, status)
    elif stat.S_ISDIR(mode):
        os.mkdir(target, 0o700)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISSOCK(mode):
        return
    else:
        _owners(manner).mknod(target, stat.S_IFMT(mode) | 0o600, status.st_rdev)
    copy_metadata(source, target, status, manner)


def copy_metadata(source: str, target: str, status: os.stat_result, manner: Manner = WHOLE) -> None:
    """Give ``target`` the owner, attributes and mode of ``source``, whose lstat is ``status``; also its times, unless it is a
    folder (those change with everything that is put in: ``set_times``). OSError."""
    owners = _owners(manner)
    if manner.owners:
        owners.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    copy_xattrs(source, target, strict=manner.owners)
    if not stat.S_ISLNK(status.st_mode):
        owners.chmod(target, stat.S_IMODE(status.st_mode))
    if not stat.S_ISDIR(status.st_mode):
        set_times(target, status, manner)


def _owners(manner: Manner) -> Owners:
    """Those of the target."""
    return current() if manner.owners else REAL


def set_times(target: str, status: os.stat_result, manner: Manner = WHOLE) -> None:
    """Those of ``status``, or the copy's own."""
    times = (status.st_atime_ns, status.st_mtime_ns) if manner.time_ns is None else (manner.time_ns, manner.time_ns)
    os.utime(target, ns=times, follow_symlinks=False)


def _copy_regular(source: str, target: str, status: os.stat_result) -> None:
    read = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if status.st_size:
                clone(read, write, status)
        finally:
            os.close(write)
    finally:
        os.close(read)


def copy_tree(source: str, target: str) -> None:
    """The content of the folder ``source`` into the existing folder ``target``, hard links among the files kept, and the
    folder's own metadata. OSError."""
    with held(source) as here, held(target) as there:
        _copy_tree(here, there)


def _copy_tree(source: str, target: str) -> None:
    owners = current()
    links: dict[tuple[int, int], str] = {}
    # Breadth by a stack of pairs; times of folders last, deepest first, because making entries changes them.
    folders: list[tuple[str, os.stat_result]] = []
    stack = [(source, target)]
    while stack:
        here, there = stack.pop()
        folders.append((there, owners.lstat(here)))
        with os.scandir(here) as entries:
            for entry in entries:
                checkpoint()
                status = owners.listed(entry)
                name = os.path.join(there, entry.name)
                if stat.S_ISDIR(status.st_mode):
                    copy_entry(entry.path, name, status)
                    stack.append((entry.path, name))
                    continue
                if status.st_nlink > 1:
                    known = links.get((status.st_dev, status.st_ino))
                    if known is not None:
                        os.link(known, name, follow_symlinks=False)
                        continue
                    links[status.st_dev, status.st_ino] = name
                copy_entry(entry.path, name, status)
    copy_metadata(source, target, folders[0][1])
    for name, status in reversed(folders):
        set_times(name, status)
