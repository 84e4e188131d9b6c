"""What the operating system says of a disk, in words of ours; and writing all of a buffer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import StoreError

_DISK_FULL = "the disk is full: free space, or run `pybuild prune`"


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """OSErrors of the block come out as StoreError with a hint; FileNotFoundError too."""
    try:
        yield
    except OSError as e:
        raise store_error(what, e) from e


def store_error(what: str, e: OSError) -> StoreError:
    """``e`` as a StoreError in one line: ``what: reason``."""
    import errno

    hint = ""
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = _DISK_FULL
    elif e.errno in (errno.EACCES, errno.EPERM):
        hint = "run as the owner of the state folder, or name another one with --root or PYBUILD_ROOT"
    elif e.errno == errno.EROFS:
        hint = "the file system is read-only: name another state folder with --root or PYBUILD_ROOT"
    elif e.errno == errno.EMFILE:
        hint = "raise the limit of open files (ulimit -n)"
    return StoreError(f"{what}: {e.strerror or e}", hint=hint)


def check_room(fd: int, size: int, what: str) -> None:
    """StoreError if ``size`` bytes can't fit on an open file's file system: before the disk is filled to the brim with what will
    not be whole. ``what`` is what failed."""
    status = os.fstatvfs(fd)
    free = status.f_bavail * status.f_frsize
    if size > free:
        raise StoreError(f"{what}: no space left on device: it has {size} bytes, {free} are free", hint=_DISK_FULL)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """write(2) until all is written."""
    written = os.write(fd, data)
    if written != len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.write(fd, view[written:])
