"""A damaged metadata database is moved aside and the store starts anew: what is lost is a cache miss, not an error.

SQLite tells of damage in the middle of anything. The command then starts itself again, once (``restart``), and the new process
moves the file aside before it opens it (``enter``). It is alone while it does: every process holds ROOT/locks/database, shared,
while it has the database open.
"""

from __future__ import annotations

import fcntl
import os
import sys

from builder.state.layout import Layout

_VARIABLE = "PYBUILD_DAMAGED"
"""Inode of the database that a process found damaged, told to its successor."""
_PARTS = ("", "-wal", "-shm")
ASIDE = ".damaged"
_OTHER_CAUSES = frozenset({3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 23, 28})
"""SQLite's codes for a file that is fine: no permission, busy, no memory, read-only, interrupted, I/O error, full, can't open..."""
_HEADER = 100
"""Bytes: SQLite takes any shorter file for a new one."""
_CORRUPT, _NOT_A_DATABASE = 11, 26


def enter(layout: Layout) -> tuple[int, bool]:
    """(fd that says that this process has the database open, was the store's memory lost). Moves a damaged database aside, with
    a warning on standard error."""
    fd = os.open(layout.path("locks", "database"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lost = ""
        if _is_doomed(layout) or _is_emptied(layout):
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_doomed(layout):
                lost = "is damaged"
            elif _is_emptied(layout):
                lost = "is empty"
            if lost:
                _move_aside(layout.database)
                sys.stderr.write(
                    f"warning: the metadata database {layout.database} {lost}: moved to {layout.database}{ASIDE}."
                    " The cache starts anew; whole images keep their names\n"
                )
        fcntl.flock(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd, bool(lost)


def _is_doomed(layout: Layout) -> bool:
    told = os.environ.get(_VARIABLE)
    return told is not None and told == _inode(layout.database)


def _is_emptied(layout: Layout) -> bool:
    """No metadata, but snapshots that some metadata once told of."""
    try:
        if os.stat(layout.database).st_size >= _HEADER:
            return False
    except FileNotFoundError:
        pass
    return any(not name.startswith(".") for name in os.listdir(layout.snapshots))


def _move_aside(path: str) -> None:
    # The main file last: a crash in between leaves what is found damaged again.
    for part in reversed(_PARTS):
        try:
            os.rename(path + part, path + ASIDE + part)
        except FileNotFoundError:
            pass


def _inode(path: str) -> str:
    try:
        return str(os.stat(path).st_ino)
    except FileNotFoundError:
        return ""


def restart(error: BaseException, database: str) -> None:
    """If ``error`` comes of a damaged database: replace this process with the same command, which moves it aside. Returns if it
    does not, if this process is such a successor already."""
    if _VARIABLE in os.environ or not os.path.exists(database) or not is_damaged(error, database):
        return
    os.environ[_VARIABLE] = _inode(database)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def is_damaged(error: BaseException, database: str) -> bool:
    """Does SQLite say so, or is the error an odd one and the file turns out to be damaged?"""
    import sqlite3

    from builder.errors import PybuildError

    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for e in chain:
        if isinstance(e, sqlite3.Error):
            code = getattr(e, "sqlite_errorcode", 0) & 0xFF
            if code in (_CORRUPT, _NOT_A_DATABASE):
                return True
            return code not in _OTHER_CAUSES and not _is_intact(database)
    expected = any(isinstance(e, (PybuildError, OSError)) for e in chain)
    return not expected and not _is_intact(database)


def _is_intact(database: str) -> bool:
    import sqlite3

    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            return [text for (text,) in connection.execute("PRAGMA quick_check")] == ["ok"]
        finally:
            connection.close()
    except sqlite3.Error:
        return False
