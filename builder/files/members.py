"""A member of a tar as a file, and a file as a member: layers, archives of ADD and exports are read and written by these."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from builder.files.owners import current
from builder.files.tar.entry import BLOCK, CHAR, DIR, FIFO, REG, SYMLINK, Entry, type_of
from builder.files.tar.reader import TarReader
from builder.files.tar.writer import TarWriter
from builder.state.cancel import checkpoint
from builder.state.disk import check_room, write_all

_LARGE = 1 << 20
_MAX_TIME = 1 << 63

SetXattrs = Callable[["int | str", Mapping[str, bytes]], None]
"""``builder.files.xattrs.set_xattrs``, or ``set_what_can_be``."""


def write_data(fd: int, entry: Entry, reader: TarReader) -> None:
    """The content of a regular file, holes left out, into the empty file ``fd``. OSError, LayerError, CancelledError; StoreError
    before the first byte of a big one that the disk has no room for."""
    if entry.size > _LARGE:
        check_room(fd, entry.stored, f"can't unpack {entry.name}")
    if entry.sparse is None:
        for _, piece in reader.extents():
            checkpoint()
            write_all(fd, piece)
        return
    for offset, piece in reader.extents():
        checkpoint()
        os.lseek(fd, offset, os.SEEK_SET)
        write_all(fd, piece)
    os.ftruncate(fd, entry.size)


def make_node(entry: Entry, folder: int, name: str) -> None:
    """A symbolic link, FIFO or device in the open ``folder``, nothing of its header set yet. OSError."""
    if entry.type == SYMLINK:
        os.symlink(entry.linkname, name, dir_fd=folder)
    elif entry.type == FIFO:
        os.mkfifo(name, 0o600, dir_fd=folder)
    elif entry.type in (CHAR, BLOCK):
        current().mknod(name, entry.format | 0o600, entry.device, dir_fd=folder)


def finish(fd: int, entry: Entry, owner: tuple[int, int], set_xattrs: SetXattrs) -> None:
    """Owner, attributes, mode and times of an open file or folder. chown clears set-id bits and file capabilities: it comes first.
    OSError."""
    owners = current()
    owners.chown(fd, *owner)
    if entry.xattrs:
        set_xattrs(fd, entry.xattrs)
    owners.chmod(fd, stat.S_IMODE(entry.mode))
    mtime = bounded(entry.mtime_ns)
    os.utime(fd, ns=(mtime, mtime))


def bounded(mtime_ns: int) -> int:
    """Times that the kernel's 64 bits of nanoseconds can't hold, and those before 1970, are 0, as in containerd and moby."""
    return mtime_ns if 0 <= mtime_ns < _MAX_TIME else 0


def member_of(name: str, source: str, status: os.stat_result) -> Entry | None:
    """The header of the file ``source``, whose lstat is ``status`` (as its owners tell it); no attributes, size of
    regular files only. None for a socket, which tar has no form for. OSError."""
    kind = type_of(status.st_mode)
    if kind is None:
        return None
    entry = Entry(name + "/" if kind == DIR else name, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    entry.mtime_ns = status.st_mtime_ns
    if kind == REG:
        entry.size = status.st_size
    elif kind == SYMLINK:
        entry.linkname = os.readlink(source)
    elif kind in (CHAR, BLOCK):
        entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return entry


def add_member(tar: TarWriter, entry: Entry, source: str) -> None:
    """Put the member into ``tar``, with the content of ``source`` if it has any. OSError, ChangedError."""
    if entry.type != REG or not entry.size:
        tar.add(entry)
        return
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        tar.add_file(entry, fd)
    finally:
        os.close(fd)
