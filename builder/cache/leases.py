"""Leases: what a live process holds is never collected.

A lease is a file ROOT/locks/lease-ID that its process keeps locked, and rows that say which records and blobs it holds. The
kernel drops the lock with the process, also after SIGKILL: a lease whose lock can be had is dead, and ``sweep`` forgets its rows.
A row comes in the transaction that makes or finds the record, and who deletes asks for rows in the transaction that deletes. So
nothing is deleted between somebody's finding it and holding it. A row goes with the next transaction of its process after the last
ref was released: that it is held a little longer does no harm, and a transaction for each release would cost more than the release.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.oci.digest import Digest
from builder.state import locks
from builder.state.disk import store_errors
from builder.state.schema import LEASE_BLOBS, LEASE_RECORDS, LEASES

if TYPE_CHECKING:
    from builder.state.database import Database
    from builder.state.layout import Layout

_PREFIX = "lease-"


class Lease:
    """This process's lease; it begins with the first thing held. Thread-safe."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self._layout = layout
        self._database = database
        self._lock = threading.Lock()
        self._id = ""
        self._fd = -1
        self._started_ns = 0
        self._local = threading.local()
        self._held: set[str] = set()
        self._let_go: set[str] = set()
        self._left = False

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
        self._database.put(c, LEASE_RECORDS, [(record_id, self._id)])
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
            self._database.put(c, LEASE_BLOBS, [(d, self._id) for d in digests])

    def keep_blobs(self, digests: Iterable[Digest]) -> None:
        """Keep blobs from being collected while this process lives. Call it before blobs are put that no record will name:
        then ``put`` either finds them safe or writes them anew."""
        with self.transaction() as c:
            self.hold_blobs(c, digests)

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

    def leave(self) -> None:
        """``close`` then leaves the lease like that of a killed process: the next one looks for leftovers."""
        self._left = True

    def close(self) -> None:
        """End the lease: nothing is held any more."""
        if self._id:
            if not self._left:
                with self._database.transaction() as c:
                    _forget(c, self._id)
            with self._lock:
                if not self._left:
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
            self._started_ns = self._started_ns or time.time_ns()
            self._database.put(c, LEASES, [(self._id, self._started_ns)])


def sweep(layout: Layout, database: Database, own: str) -> list[str]:
    """Forget the leases of dead processes; gives their ids. One listdir where there are none."""
    dead: list[str] = []
    with store_errors("can't read the state folder"):
        names = os.listdir(layout.locks)
    for name in names:
        if not name.startswith(_PREFIX) or name == _PREFIX + own:
            continue
        path = layout.path("locks", name)
        fd = locks.try_lock_left(path)
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


class Leases:
    """All leases, of every process: what may not be collected."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def records(self, *, but: str = "") -> set[str]:
        """Records that a lease other than ``but`` holds."""
        return {record for record, lease in self._database.select(LEASE_RECORDS) if lease != but}

    def blobs(self) -> set[str]:
        return {digest for digest, _ in self._database.select(LEASE_BLOBS)}

    def holds(self, record_id: str) -> bool:
        """Is the record held? A row that is damaged holds it, too."""
        return bool(self._database.rows("SELECT 1 FROM lease_records WHERE record = ?", (record_id,)))

    def holds_blob(self, digest: Digest) -> bool:
        return bool(self._database.rows("SELECT 1 FROM lease_blobs WHERE digest = ?", (digest,)))

    def started_ns(self, *, but: str) -> list[int]:
        """When the leases other than ``but`` began, in nanoseconds since the epoch."""
        return [started for lease, started in self._database.select(LEASES) if lease != but]

    def forget_unlocked(self, layout: Layout, c: sqlite3.Connection) -> None:
        """Rows whose lease has no file (somebody emptied the folder of locks)."""
        for lease, _ in self._database.select(LEASES):
            if not os.path.exists(layout.path("locks", _PREFIX + lease)):
                _forget(c, lease)


def _make_file(layout: Layout) -> tuple[str, int]:
    """A sweep may have the new file before we do. Nobody waits for it here: the sweep waits for the write transaction we are in."""
    with store_errors("can't write to the state folder"):
        path, fd = locks.new_file(layout.locks, _PREFIX)
    return os.path.basename(path).removeprefix(_PREFIX), fd


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
