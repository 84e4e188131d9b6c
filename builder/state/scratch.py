"""The process's own scratch folder ROOT/tmp/p-*: locked while the process lives, deleted by the next one when it was killed.

Nothing in it needs an owner, a name or a sweep of its own.
"""

from __future__ import annotations

import os

from builder.errors import StoreError
from builder.state.layout import Layout
from builder.state.locks import new_folder, try_lock_left
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
        path, fd = new_folder(base, _PREFIX)
        return Scratch(Layout(layout.root, path), fd)
    except OSError as e:
        raise StoreError(f"can't make a scratch folder in {base}: {e.strerror}") from e


def _sweep(base: str) -> None:
    for name in os.listdir(base):
        if name.startswith(_PREFIX):
            path = os.path.join(base, name)
            fd = try_lock_left(path)
            if fd is not None:
                _delete(path)
                os.close(fd)


def _delete(path: str) -> None:
    """Whatever can't be deleted stays for the next sweep. Mounts of a dead process went with its mount namespace."""
    try:
        os.rmdir(path)
    except OSError:
        from builder.files.trees import remove_tree

        remove_tree(path, ignore_errors=True)
