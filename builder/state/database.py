"""The metadata database: one SQLite file in WAL mode, shared by threads and processes.

Each part of the engine brings its own tables (``Database.schema``). Reads run on a connection of the calling thread without
any lock; writes go through ``transaction``, which takes SQLite's write lock at once: read-then-write is atomic across processes.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import StoreError

BUSY_SECONDS = 60.0


class Database:
    """Connections to one database file; thread-safe. Errors of SQLite come out as StoreError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        # By thread: one that another thread still works with must not be closed under it. A forked child keeps its parent's:
        # closing them there would touch locks of the parent.
        self._open: dict[threading.Thread, sqlite3.Connection] = {}
        self._inherited: list[sqlite3.Connection] = []

    def schema(self, script: str) -> None:
        """Make tables and indexes, ``CREATE ... IF NOT EXISTS``, separated by semicolons. Free where this was done before.

        What was done is remembered in the table ``made``: one read for each part instead of one for each statement.
        """
        name = hashlib.sha256(script.encode()).hexdigest()
        connection = self.connection()
        try:
            if connection.execute("SELECT 1 FROM made WHERE script = ?", (name,)).fetchone():
                return
        except sqlite3.OperationalError:
            pass  # the first part of the first process: the table comes with the transaction below
        with self.transaction() as c:
            c.execute("CREATE TABLE IF NOT EXISTS made (script TEXT PRIMARY KEY) WITHOUT ROWID")
            for statement in script.split(";"):
                if statement.strip():
                    c.execute(statement)
            c.execute("INSERT OR IGNORE INTO made VALUES (?)", (name,))

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection, for reads."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.pid != os.getpid():
            if connection is not None:
                self._inherit()
            connection = self._connect()
            self._local.connection = connection
            self._local.pid = os.getpid()
        return connection

    def _inherit(self) -> None:
        """In a forked child: whoever held the lock in the parent is not here to give it back."""
        self._lock = threading.Lock()
        self._inherited += self._open.values()
        self._open = {}

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed when the block ends, rolled back when it raises. Not to be nested."""
        connection = self.connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.Error as e:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise StoreError(f"metadata database {self._path}: {e}", hint=_hint(e)) from e

    def close(self) -> None:
        """Close the calling thread's connection and those of threads that have ended. One that a running thread may be working
        with, in the middle of a statement, is closed when nobody refers to it any more."""
        with self._lock:
            self._forget_threads()
            own = self._open.pop(threading.current_thread(), None)
            self._open.clear()
        self._local = threading.local()
        if own is not None:
            own.close()

    def _forget_threads(self) -> None:
        for thread in [t for t in self._open if not t.is_alive()]:
            self._open.pop(thread).close()

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            _use_wal(connection)
            # WAL with NORMAL survives kill -9 whole; a power cut may lose the newest transactions, which then are cache misses.
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error as e:
            raise StoreError(f"metadata database {self._path}: {e}", hint=_hint(e)) from e
        with self._lock:
            self._forget_threads()
            self._open[threading.current_thread()] = connection
        return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Changing the mode of a fresh file does not wait for others that do the same: SQLite says "locked" at once."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or time.monotonic() > end:
                raise
            time.sleep(0.005)


def _hint(e: sqlite3.Error) -> str:
    if "full" in str(e) or "I/O error" in str(e):
        return "is the disk full? free space, or run `pybuild prune`"
    if "malformed" in str(e) or "not a database" in str(e):
        return "the file is damaged: move it away; the cache starts anew"
    return ""
