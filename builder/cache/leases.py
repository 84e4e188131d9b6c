"""Leases: what a live process holds is never collected.

A lease is a file ROOT/locks/lease-ID that its process keeps locked, and rows that say which records and blobs it holds. The
kernel drops the lock with the process, also after SIGKILL: a lease whose lock can be had is dead, and ``sweep`` forgets its rows.
Rows come and go in the transactions that need them, so that "is it held?" and "delete it" are one atomic step.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.oci.digest import Digest
from builder.state.disk import store_errors
from builder.state.locks import try_lock

if TYPE_CHECKING:
    from builder.state.database import Database
    from builder.state.layout import Layout

SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (id TEXT PRIMARY KEY, started REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease_records (record TEXT NOT NULL, lease TEXT NOT NULL, PRIMARY KEY (record, lease)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lease_records_of ON lease_records (lease);
CREATE TABLE IF NOT EXISTS lease_blobs (digest TEXT NOT NULL, lease TEXT NOT NULL, PRIMARY KEY (digest, lease)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lease_blobs_of ON lease_blobs (lease)
"""
_PREFIX = "lease-"


class Lease:
    """This process's lease; it begins with the first thing held. Thread-safe."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self._layout = layout
        self._database = database
        self._lock = threading.Lock()
        self._id = ""
        self._fd = -1
        self._local = threading.local()
        self._held: set[str] = set()
        self._let_go: set[str] = set()
        database.schema(SCHEMA)

    @property
    def id(self) -> str:
        """Empty before anything was held."""
        return self._id

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction in which ``hold`` can be called; what was let go before is let go in it."""
        pending: list[str] = []
        self._local.pending = pending
        with self._database.transaction() as c:
            self._flush(c)
            yield c
        with self._lock:
            self._held.update(pending)

    def begin(self, c: sqlite3.Connection) -> None:
        """From now on a kill is noticed by the next process, which then looks for leftovers."""
        with self._lock:
            self._begin(c)

    def hold(self, c: sqlite3.Connection, record_id: str) -> None:
        """Hold the record from the end of this ``transaction`` on."""
        with self._lock:
            self._begin(c)
            self._let_go.discard(record_id)
        c.execute("INSERT OR IGNORE INTO lease_records VALUES (?, ?)", (record_id, self._id))
        self._local.pending.append(record_id)

    def holds(self, record_id: str) -> bool:
        """Held; takes back an earlier ``let_go`` that is not carried out yet."""
        with self._lock:
            self._let_go.discard(record_id)
            return record_id in self._held

    def hold_blobs(self, c: sqlite3.Connection, digests: Iterable[Digest]) -> None:
        """Hold blobs until the process ends, or ``close``."""
        with self._lock:
            self._begin(c)
            c.executemany("INSERT OR IGNORE INTO lease_blobs VALUES (?, ?)", [(d, self._id) for d in digests])

    def let_go(self, record_id: str) -> None:
        """Not held any more; the row goes with the next transaction."""
        with self._lock:
            if record_id in self._held:
                self._let_go.add(record_id)

    def _flush(self, c: sqlite3.Connection) -> None:
        with self._lock:
            if self._let_go:
                c.executemany("DELETE FROM lease_records WHERE record = ? AND lease = ?", [(r, self._id) for r in self._let_go])
                self._held -= self._let_go
                self._let_go.clear()

    def close(self) -> None:
        """End the lease: nothing is held any more."""
        if self._id:
            with self._database.transaction() as c:
                _forget(c, self._id)
            with self._lock:
                _unlink(self._layout.path("locks", _PREFIX + self._id))
                os.close(self._fd)
                self._id, self._fd = "", -1
                self._held.clear()
                self._let_go.clear()

    def _begin(self, c: sqlite3.Connection) -> None:
        if not self._id:
            self._id, self._fd = _make_file(self._layout)
        # Always: the transaction that brought the row may have been rolled back.
        if not self._held:
            c.execute("INSERT OR IGNORE INTO leases VALUES (?, ?)", (self._id, time.time()))


def sweep(layout: Layout, database: Database, own: str) -> list[str]:
    """Forget the leases of dead processes; gives their ids. One listdir where there are none."""
    dead: list[str] = []
    with store_errors("can't read the state folder"):
        names = os.listdir(layout.locks)
    for name in names:
        if not name.startswith(_PREFIX) or name == _PREFIX + own:
            continue
        path = layout.path("locks", name)
        fd = try_lock(path)
        if fd is None:
            continue
        try:
            with database.transaction() as c:
                _forget(c, name.removeprefix(_PREFIX))
            _unlink(path)
            dead.append(name.removeprefix(_PREFIX))
        except StoreError:
            break  # the disk is full: a later sweep does it; what frees space must get past here
        finally:
            os.close(fd)
    return dead


def _forget(c: sqlite3.Connection, lease: str) -> None:
    c.execute("DELETE FROM lease_records WHERE lease = ?", (lease,))
    c.execute("DELETE FROM lease_blobs WHERE lease = ?", (lease,))
    c.execute("DELETE FROM leases WHERE id = ?", (lease,))


def forget_unlocked(layout: Layout, c: sqlite3.Connection) -> None:
    """Rows whose lease has no file (somebody emptied the folder of locks)."""
    for (lease,) in c.execute("SELECT id FROM leases").fetchall():
        if not os.path.exists(layout.path("locks", _PREFIX + lease)):
            _forget(c, lease)


def _make_file(layout: Layout) -> tuple[str, int]:
    """A sweep may lock the new file before we do, and unlink it: then another one. Never wait for it here: the sweep waits for
    the write transaction that we are in."""
    while True:
        lease = os.urandom(8).hex()
        path = layout.path("locks", _PREFIX + lease)
        with store_errors("can't write to the state folder"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        if os.fstat(fd).st_nlink:
            return lease, fd
        os.close(fd)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
