"""Locks between processes: flock on files of the state root. The kernel drops them with the process, also after SIGKILL.

flock(2) can't be waited for and be called off at once, so whoever waits tries again, with longer and longer pauses. The order in
which locks are taken is written down in docs/concurrency.md.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from builder.state import cancel, trace


def try_lock(path: str, *, shared: bool = False) -> int | None:
    """An fd that holds the lock (close it to release), or None if somebody else has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return fd if _take(fd, shared=shared) else None


def try_lock_fd(fd: int, *, shared: bool = False) -> bool:
    """Lock an open file or folder; False if somebody else has it. Closing the fd releases it."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_lock_folder(path: str) -> int | None:
    """As ``try_lock`` for a folder; None also if it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return fd if _take(fd, shared=False) else None


def lock(path: str) -> int:
    """Wait for the exclusive lock; an fd that holds it. The file stays. CancelledError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not try_lock_fd(fd):
            with trace.span("lock", "wait", path=path):
                cancel.retry(lambda: 1 if try_lock_fd(fd) else None)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the exclusive lock, waiting for it. The file stays: who unlinks it while another waits lets two holders in, unless
    both look at what the path names then, as ``named_lock`` does. CancelledError while waiting."""
    fd = lock(path)
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def named_lock(folder: str, name: str) -> Iterator[bool]:
    """Hold the lock ``name``, whose file goes with its holder: so names may be many. Gives whether somebody else had it before.
    CancelledError while waiting.

    A waiter may lock a file that its holder has unlinked since: the inode is not that of the path then, and it tries again.
    """
    path = os.path.join(folder, name)
    tries = 0

    def attempt() -> int | None:
        nonlocal tries
        tries += 1
        fd = try_lock(path)
        if fd is None or is_path_of(fd, path):
            return fd
        os.close(fd)
        return None

    fd = attempt()
    if fd is None:
        with trace.span("lock", "wait", path=path):
            fd = cancel.retry(attempt)
    try:
        yield tries > 1
    finally:
        try:
            os.unlink(path)
        finally:
            os.close(fd)


def sweep(folder: str, prefixes: tuple[str, ...]) -> None:
    """Delete the files of named locks whose holders were killed. One that is held is left alone; who takes one just now looks at
    what the path names once he has it, and tries again."""
    for name in os.listdir(folder):
        if not name.startswith(prefixes):
            continue
        path = os.path.join(folder, name)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if try_lock_fd(fd) and is_path_of(fd, path):
                os.unlink(path)
        finally:
            os.close(fd)


def is_path_of(fd: int, path: str) -> bool:
    """Does ``path`` still name the open file?"""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _take(fd: int, *, shared: bool) -> bool:
    """Lock or close."""
    try:
        if try_lock_fd(fd, shared=shared):
            return True
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return False
