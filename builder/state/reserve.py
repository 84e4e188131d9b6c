"""A megabyte set aside in ROOT/reserve: SQLite can't even open its log on a disk without a free byte, and who wants to make room
with ``pybuild prune`` must get past that.
"""

from __future__ import annotations

import os

from builder.state.layout import Layout

SIZE = 1 << 20
_ENOUGH = 64 * SIZE
"""Set aside only where that much is free: it must not be what fills the disk."""


def keep(layout: Layout) -> None:
    """Set the space aside if it is not, and there is plenty."""
    path = layout.path("reserve")
    if os.path.exists(path):
        return
    try:
        status = os.statvfs(layout.root)
        if status.f_bavail * status.f_frsize < _ENOUGH:
            return
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        os.posix_fallocate(fd, 0, SIZE)
    except OSError:
        os.unlink(path)  # full after all, or a file system that can't: only this convenience is lost
    finally:
        os.close(fd)


def spend(layout: Layout) -> None:
    """Free it if the disk is full. The next command that finds enough room sets it aside again."""
    try:
        status = os.statvfs(layout.root)
        if status.f_bavail * status.f_frsize < SIZE:
            os.unlink(layout.path("reserve"))
    except OSError:
        pass
