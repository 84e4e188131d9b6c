"""Opening the metadata database, and what becomes of a damaged one: it is written anew with every row that is sound.

A row that does not fit its seal counts as absent, so that a process that finds one goes on (``Database.suspect``). It leaves a mark
beside the file, and the next process that has the state folder to itself writes the database anew. Where SQLite can't go on, the
command starts itself again, once (``restart``), and its successor waits until it is alone. All know of one another by a lock: every
process holds ROOT/locks/database, shared, while it has the database open.

The mark goes when the store has been looked over too (``done``): a crash anywhere in between is gone on from by the next process.
"""

from __future__ import annotations

import os
import sys
import time

from builder.errors import DamagedStoreError, OlderStoreError, PybuildError, StoreError
from builder.state import cancel, locks
from builder.state.database import ASIDE, SUSPECT, Database, Mark, inode, is_corruption, mark, marked
from builder.state.layout import Layout
from builder.values import dataclass

_VARIABLE = "PYBUILD_DAMAGED"
"""Inode of the database that a process found damaged, told to its successor; a sign behind it says that it was one itself."""
_AGAIN = "+"
_OTHER_CAUSES = frozenset({3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 23, 28})
"""SQLite's codes for a file that is fine: no permission, busy, no memory, read-only, interrupted, I/O error, full, can't open..."""
_HEADER = 100
"""Bytes: SQLite takes any shorter file for a new one."""
_PATIENCE_SECONDS = 1.0
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Entered:
    """``lock``: an fd that says that this process has the database open. ``look_over``: rows may be missing that others build on,
    and names of images: mend that, then call ``done``."""

    database: Database
    lock: int
    look_over: bool


def enter(layout: Layout) -> Entered:
    """Open the database; writes a damaged one anew, with a warning on standard error, and brings an older one to this version.

    Waits for other processes where it must be alone for that. StoreError if the database can't be used.
    """
    path = layout.database
    fd = os.open(layout.path("locks", "database"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        locks.share(fd)
        database = Database(path)
        patient = True
        tries = 0
        while tries < _TRIES and (need := _need(layout, database, patient=patient)):
            database.close()  # whoever is alone before us may move the file
            if need == _SOME_ROWS:
                alone = patient = locks.try_lock_fd(fd)  # others work on, and so do we: the damaged rows count as absent meanwhile
            else:
                alone = _be_alone(fd, layout)
            if alone:
                tries += 1
                if _need(layout, database, patient=True) == need:
                    database.close()
                    _mend(layout, need)
            # To share a lock that one has alone is no single step: others may have come in between. So look again.
            locks.share(fd)
        return Entered(database, fd, os.path.exists(path + SUSPECT))
    except BaseException:
        os.close(fd)
        raise


def done(layout: Layout) -> None:
    """The store has been looked over."""
    try:
        os.unlink(layout.database + SUSPECT)
    except FileNotFoundError:
        pass


_SOME_ROWS, _DAMAGED, _LOST, _OLD = "has damaged rows", "is damaged", "is empty", "is of an older version"


def _need(layout: Layout, database: Database, *, patient: bool) -> str:
    """Why the database can't be worked with as it is, or "". ``patient``: nor while some of its rows are damaged."""
    path = layout.database
    file = inode(path)
    found = marked(path)
    if found is not None and found.file == file and (patient or found.alone):
        if found.alone:
            return _DAMAGED
        return _OLD if _is_older(database) else _SOME_ROWS  # a migration leaves damaged rows behind, and is able to read the others
    if file and os.environ.get(_VARIABLE, "").rstrip(_AGAIN) == file:
        return _DAMAGED
    if _is_emptied(layout):
        return _LOST
    try:
        database.connection()
    except DamagedStoreError:
        return _DAMAGED
    except OlderStoreError:
        return _OLD
    except StoreError as e:
        if is_damaged(e, path):
            return _DAMAGED
        raise
    return ""


def _is_older(database: Database) -> bool:
    try:
        database.connection()
    except OlderStoreError:
        return True
    except StoreError:
        pass
    return False


def _is_emptied(layout: Layout) -> bool:
    """No metadata, but snapshots that some metadata once told of."""
    try:
        if os.stat(layout.database).st_size >= _HEADER:
            return False
    except FileNotFoundError:
        pass
    return any(not name.startswith(".") for name in os.listdir(layout.snapshots))


def _mend(layout: Layout, need: str) -> None:
    path = layout.database
    if need == _OLD:
        from builder.state.migrations import migrate

        try:
            migrate(path)
        except DamagedStoreError:
            need = _DAMAGED
        else:
            mark(path, Mark("", alone=False, told=True))
            return
    from builder.state import salvage

    before = marked(path)
    told = before is not None and before.told
    mark(path, Mark(inode(path), alone=True, told=True))
    # Where a crash came between the two renames the new file is all there is.
    if os.path.exists(path) or not salvage.finish(path):
        keep = not os.environ.get(_VARIABLE, "").endswith(_AGAIN)
        try:
            salvage.write_anew(path, salvage=keep)
        except StoreError:
            # A disk too full for a second database: ``pybuild prune`` must get past here. An empty one is small, and lets it.
            if not keep:
                raise
            salvage.write_anew(path, salvage=False)
    if not told:
        sys.stderr.write(
            f"warning: the metadata database {path} {need}: moved to {path}{ASIDE}."
            " What it has lost is made anew; whole images keep their names\n"
        )


def _be_alone(fd: int, layout: Layout) -> bool:
    """Wait until no other process has the database open; say so if that takes a while. CancelledError.

    False if another process was alone meanwhile and mended the file: it has the new one open until its build ends, so whoever went
    on waiting to be alone would wait for all of that build, with nothing left to mend. A try that fails gives up the lock that was
    shared, so that two who wait for this do not wait for one another.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    told = False
    before = inode(layout.database), marked(layout.database)

    def attempt() -> bool | None:
        nonlocal told
        if locks.try_lock_fd(fd):
            return True
        if (inode(layout.database), marked(layout.database)) != before:
            return False
        if not told and time.monotonic() >= end:
            told = True
            sys.stderr.write(f"waiting for other pybuild processes that use {layout.root} to end\n")
        return None

    return cancel.retry(attempt)


def restart(error: BaseException, database: str) -> None:
    """If ``error`` comes of a damaged database: replace this process with the same command, which writes it anew first. Returns if
    it does not, or if this process is such a successor of a successor: the first one saves what is sound, the second starts with
    nothing."""
    before = os.environ.get(_VARIABLE, "")
    if before.endswith(_AGAIN) or not os.path.exists(database) or not is_damaged(error, database):
        return
    os.environ[_VARIABLE] = inode(database) + (_AGAIN if before else "")
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def is_damaged(error: BaseException, database: str) -> bool:
    """Does SQLite say so, or may the error come of lost rows, and the file turns out to be damaged?"""
    import sqlite3

    from builder.errors import CancelledError, StepError, UsageError

    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for e in chain:
        if isinstance(e, DamagedStoreError):
            return True
        if isinstance(e, sqlite3.Error):
            if is_corruption(e):
                return True
            if getattr(e, "sqlite_errorcode", 0) & 0xFF in _OTHER_CAUSES:
                return False
    if any(isinstance(e, (UsageError, StepError, CancelledError)) for e in chain):
        return False
    if any(isinstance(e, OSError) for e in chain) and not any(isinstance(e, PybuildError) for e in chain):
        return False
    from builder.state.salvage import unsound

    return bool(unsound(database))
