"""Locks between processes: flock on files of the state root. The kernel drops them with the process, also after SIGKILL.

flock(2) can't be waited for and be called off at once, so whoever waits tries again, with longer and longer pauses. The order in
which locks are taken is written down in docs/concurrency.md.

Files that go with their holder, or with what they stand for (scratch, leases, blobs on their way), are deleted by whoever has their
lock. So a lock counts only once the name is seen to be still that of the locked file, and what is new may be swept between being
made and being locked: ``new_file`` and ``new_folder`` make another one then.
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


def try_lock_left(path: str) -> int | None:
    """An fd that holds the lock of a file or folder that may be left of a dead process, to be deleted while it is held; None if
    somebody holds it, or it is gone. Nothing is made."""
    fd = _open(path)
    return fd if fd is not None and _take(fd, shared=False) and _is_still(fd, path) else None


def new_file(folder: str, prefix: str) -> tuple[str, int]:
    """A new file with a random name, open for reading and writing and locked. Never waits."""
    while True:
        path = _random(folder, prefix)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        if _take(fd, shared=False) and _is_still(fd, path):
            return path, fd


def new_folder(folder: str, prefix: str) -> tuple[str, int]:
    """A new folder with a random name (mode 0700), and the fd that holds its lock. Never waits."""
    while True:
        path = _random(folder, prefix)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        fd = _open(path)
        if fd is not None and _take(fd, shared=False) and _is_still(fd, path):
            return path, fd


def share(fd: int) -> None:
    """Turn the exclusive lock that ``fd`` holds into a shared one. The kernel lets go of the old one first: somebody else may have
    it for a moment. CancelledError while waiting."""
    cancel.retry(lambda: 1 if try_lock_fd(fd, shared=True) else None)


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


def take(path: str) -> int:
    """Open or make a file and wait for its lock. The holder before may have renamed or unlinked it: then again. CancelledError."""
    while True:
        fd = lock(path)
        if _is_still(fd, path):
            return fd


@contextmanager
def locked_folder(path: str) -> Iterator[None]:
    """As ``locked`` on a folder itself: where no lock file should be left."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        cancel.retry(lambda: 1 if try_lock_fd(fd) else None)
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
        return fd if fd is not None and _is_still(fd, path) else None

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
        fd = try_lock_left(path)
        if fd is not None:
            try:
                os.unlink(path)
            finally:
                os.close(fd)


def _random(folder: str, prefix: str) -> str:
    return os.path.join(folder, prefix + os.urandom(8).hex())


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _is_still(fd: int, path: str) -> bool:
    """Does ``path`` still name the open file? It is closed where not."""
    try:
        there, mine = os.stat(path, follow_symlinks=False), os.fstat(fd)
        if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
            return True
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return False


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
