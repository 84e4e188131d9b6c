"""Removing a state folder as a whole. ``rm`` can't: files of subordinate ids are the account's inside of its namespace alone."""

from __future__ import annotations

import os
import stat

from builder.errors import NotFoundError, StoreError
from builder.state import locks
from builder.state.disk import store_errors
from builder.state.layout import Layout

# The database first: snapshots without one are made good by whoever opens the folder next, should we be killed in between.
_DATABASE = ("metadata.db", "metadata.db-wal", "metadata.db-shm", "metadata.db.suspect", "metadata.db.damaged")
_FILES = (*_DATABASE, "images.json", "reserve")
_FOLDERS = ("snapshots", "content", "ingest", "git", "tmp", "locks")


def reset(layout: Layout) -> list[str]:
    """Remove all that we keep below ``layout.root``, and itself where nothing else is in it; the names of what else is.

    NotFoundError where there is nothing. StoreError: it is no state folder, or another process uses it.
    """
    root = layout.root
    try:
        status = os.stat(root)
    except FileNotFoundError:
        raise NotFoundError(f"there is no state folder {root}") from None
    if not stat.S_ISDIR(status.st_mode) or not all(os.path.isdir(layout.path(name)) for name in ("content", "snapshots", "locks")):
        raise StoreError(f"{root} is no state folder of pybuild: nothing was removed")
    from builder.files.trees import remove_tree

    with store_errors(f"can't remove the state folder {root}"):
        # Every process holds it, shared, while it has the database open.
        fd = os.open(layout.path("locks", "database"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not locks.try_lock_fd(fd):
                raise StoreError(f"the state folder {root} is in use by another process: nothing was removed")
            for name in _FILES:
                try:
                    os.unlink(layout.path(name))
                except FileNotFoundError:
                    pass
            for name in _FOLDERS:
                remove_tree(layout.path(name))
        finally:
            os.close(fd)
        left = sorted(os.listdir(root))
        if not left:
            os.rmdir(root)
        return left
