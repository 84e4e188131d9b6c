"""The process's own scratch folder ROOT/tmp/p-*: locked while the process lives, deleted by the next one when it was killed.

Nothing in it needs an owner, a name or a sweep of its own.
"""

from __future__ import annotations

import fcntl
import os

from builder.errors import StoreError
from builder.state.layout import Layout
from builder.state.locks import try_lock_folder
from builder.values import dataclass

_PREFIX = "p-"


@dataclass(slots=True)
class Scratch:
    """``layout`` has the folder as its ``tmp``."""

    layout: Layout
    fd: int

    def close(self) -> None:
        """Delete the folder and all that is in it."""
        _delete(self.layout.tmp)
        os.close(self.fd)


def enter(layout: Layout) -> Scratch:
    """Make this process's folder, and delete those of dead ones. StoreError if that can't be done."""
    base = layout.path("tmp")
    try:
        _sweep(base)
        while True:
            path = os.path.join(base, _PREFIX + os.urandom(4).hex())
            try:
                os.mkdir(path, 0o700)
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except (FileExistsError, FileNotFoundError):
                continue
            # A sweep may take the folder before it is locked: then another one.
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.isdir(path):
                return Scratch(Layout(layout.root, path), fd)
            os.close(fd)
    except OSError as e:
        raise StoreError(f"can't make a scratch folder in {base}: {e.strerror}") from e


def _sweep(base: str) -> None:
    for name in os.listdir(base):
        if name.startswith(_PREFIX):
            path = os.path.join(base, name)
            fd = try_lock_folder(path)
            if fd is not None:
                _delete(path)
                os.close(fd)


def _delete(path: str) -> None:
    """Whatever can't be deleted stays for the next sweep. Mounts of a dead process went with its mount namespace."""
    try:
        os.rmdir(path)
    except OSError:
        import shutil

        shutil.rmtree(path, ignore_errors=True)
