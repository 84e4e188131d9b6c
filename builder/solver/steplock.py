"""One execution of a step among all processes of a state root.

    ROOT/locks/step-HEX      held while the step executes and its result is saved

Who gets the lock looks for the result again before executing: the last holder may have saved it. Rules that rule out deadlock: a
thread holds one step lock at most, it takes it after its place among --max-parallelism, and while it holds it waits for nothing
but the step itself. Files are unlinked by their holder; a waiter that locked an unlinked file (the inode is not that of the path)
tries again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import CancelledError
from builder.state.locks import try_lock

_FIRST_WAIT, _LONGEST_WAIT = 0.005, 0.1


@contextmanager
def step_lock(folder: str, name: str, cancelled: threading.Event) -> Iterator[bool]:
    """Hold the lock ``name``. Gives whether somebody else had it before. CancelledError when ``cancelled`` is set while waiting.

    flock(2) can't be waited for and be cancelled at once, so it is tried again, at most ten times a second.
    """
    path = os.path.join(folder, "step-" + name)
    wait, waited = _FIRST_WAIT, False
    while (fd := _try(path)) is None:
        waited = True
        if cancelled.wait(wait):
            raise CancelledError("the build was cancelled")
        wait = min(wait * 2, _LONGEST_WAIT)
    try:
        yield waited
    finally:
        try:
            os.unlink(path)
        finally:
            os.close(fd)


def _try(path: str) -> int | None:
    fd = try_lock(path)
    if fd is None:
        return None
    try:
        there = os.stat(path)
        mine = os.fstat(fd)
        if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
            return fd
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
