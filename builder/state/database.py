"""The metadata database: one SQLite file in WAL mode, shared by threads and processes.

Reads run on a connection of the calling thread without any lock; writes go through ``transaction``, which takes SQLite's write
lock at once: read-then-write is atomic across processes. Rows are read and written by their ``Table`` (``find``, ``select``,
``put``): it seals them, and a row that does not fit its seal is as good as absent. The first such row is told, once, and the next
process that has the state folder to itself writes the database anew without it (``recovery``).
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from builder.errors import StoreError
from builder.state import schema
from builder.state.tables import SEAL, Row, Table, Value, normal, sealer

BUSY_SECONDS = 60.0
_VOUCHES = schema.application_id(schema.VERSION)
Arguments = Sequence[Value] | Mapping[str, Value]
"""What takes the place of ``?`` or of ``:name`` in SQL."""
_CORRUPTION = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG})
SUSPECT, ASIDE = ".suspect", ".damaged"
"""Names beside the database end in these: of the file that says that it is damaged (see ``mark``), and of a damaged one that was
moved aside."""


class Database:
    """Connections to one database file; thread-safe. Errors of SQLite come out as StoreError.

    The first connection makes the tables of an empty file and refuses one of another version (``migrations.settle``). ``warn`` is
    told of damage.
    """

    def __init__(self, path: str, *, warn: Callable[[str], None] | None = None) -> None:
        self.path = path
        self.warn = warn or (lambda text: print(f"warning: {text}", file=sys.stderr))
        self._settled = False
        self._suspect = False
        self._shapes: dict[tuple[str, str, tuple[str, ...]], _Shape] = {}
        self._local = threading.local()
        self._lock = threading.Lock()
        # By thread: one that another thread still works with must not be closed under it. A forked child keeps its parent's:
        # closing them there would touch locks of the parent.
        self._open: dict[threading.Thread, sqlite3.Connection] = {}
        self._inherited: list[sqlite3.Connection] = []

    # ---------------------------------------------------------------------------------------------------------- reading
    def find(self, table: Table, order: str = "", /, **match: Value) -> list[Row]:
        """The sound rows whose columns have the values of ``match``, as tuples of the table's ``columns``.

        ``order``: columns to sort by. An index that is damaged may lead to other rows: those are left out, too.
        """
        names = tuple(match)
        shape = self._shape(table, order, names)
        values = tuple(match.values())
        rows = self.rows(shape.sql, values)
        if not rows:
            return rows
        sound = self._sound(table, shape, rows)
        at = shape.positions
        if len(at) == 1:
            (n,), (value,) = at, values
            return [row for row in sound if row[n] == value] if sound else sound
        return [row for row in sound if all(row[n] == value for n, value in zip(at, values, strict=True))]

    def select(self, table: Table, tail: str = "", arguments: Arguments = ()) -> list[Row]:
        """The sound rows of ``SELECT ... FROM table`` followed by ``tail``, which may be WHERE, ORDER BY, LIMIT. What an index
        says is taken for true here: use ``find`` where a row that does not fit would do harm."""
        shape = self._shape(table, tail, None)
        return self._sound(table, shape, self.rows(shape.sql, arguments))

    def rows(self, sql: str, arguments: Arguments = ()) -> list[Row]:
        """Any query, outside of a transaction or inside the calling thread's one. Nothing is verified: for counts, and for what
        may be wrong."""
        connection = self.connection()
        try:
            return connection.execute(sql, arguments).fetchall()
        except sqlite3.OperationalError as e:
            if "decode" not in str(e):
                raise self._error(e) from e
        except (sqlite3.Error, UnicodeDecodeError) as e:
            raise self._error(e) from e
        # A text that is none. Only its row is damaged: read the others.
        connection.text_factory = _lenient
        try:
            return connection.execute(sql, arguments).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as e:
            raise self._error(e) from e
        finally:
            connection.text_factory = str

    def _sound(self, table: Table, shape: _Shape, rows: list[Row]) -> list[Row]:
        """Those that fit their seals, without them."""
        seal = shape.seal
        out = [values for row in rows if row[-1] == seal(values := row[:-1])]
        if len(out) != len(rows):
            self.suspect(f"rows of its table {table.name} do not fit their checksums")
        return out

    def _shape(self, table: Table, tail: str, names: tuple[str, ...] | None) -> _Shape:
        key = (table.name, tail, names if names is not None else ("*",))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = _Shape(table, tail, names)
        return shape

    # ---------------------------------------------------------------------------------------------------------- writing
    def put(self, c: sqlite3.Connection, table: Table, rows: Iterable[Sequence[object]], *, free: Sequence[object] = ()) -> None:
        """Insert rows, or replace those of the same keys; ``rows`` have the table's ``columns``, ``free`` its free ones."""
        shape = self._shape(table, "", None)
        seal = shape.seal
        c.executemany(shape.insert, [(*values, *free, seal(values)) for values in map(normal, rows)])

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
        except (sqlite3.Error, UnicodeDecodeError) as e:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise self._error(e) from e

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The queries of the block see one state of the database, whatever others write meanwhile."""
        connection = self.connection()
        if connection.in_transaction:
            yield
            return
        try:
            connection.execute("BEGIN")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")
        except (sqlite3.Error, UnicodeDecodeError) as e:
            raise self._error(e) from e

    # ----------------------------------------------------------------------------------------------------------- damage
    def suspect(self, why: str) -> None:
        """The database is damaged; what is lost is made anew. Told once, and marked for the next process."""
        with self._lock:
            if self._suspect:
                return
            self._suspect = True
        self.warn(f"the metadata database {self.path} is damaged ({why}): what it has lost is made anew")
        mark(self.path, Mark(inode(self.path), alone=False, told=True))

    @property
    def is_suspect(self) -> bool:
        """Was damage found by this process? Then nothing may be deleted because no row names it."""
        return self._suspect

    def _error(self, e: Exception) -> StoreError:
        if is_corruption(e):
            mark(self.path, Mark(inode(self.path), alone=True, told=self._suspect))
        return StoreError(f"metadata database {self.path}: {e}", hint=_hint(e))

    # ------------------------------------------------------------------------------------------------------ connections
    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection. StoreError if the file can't be used, or is of another version."""
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
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            if not self._settled:
                _settle(connection, self.path)
                self._settled = True
            _use_wal(connection)
            # WAL with NORMAL survives kill -9 whole; a power cut may lose the newest transactions, which then are cache misses.
            connection.execute("PRAGMA synchronous=NORMAL")
        except (sqlite3.Error, UnicodeDecodeError) as e:
            if connection is not None:
                connection.close()
            raise self._error(e) from e
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        with self._lock:
            self._forget_threads()
            self._open[threading.current_thread()] = connection
        return connection


class _Shape:
    """What is the same for every query of one form: its SQL, and how its rows are verified."""

    __slots__ = ("insert", "positions", "seal", "sql")

    def __init__(self, table: Table, tail: str, names: tuple[str, ...] | None) -> None:
        columns = table.columns
        self.sql = f"SELECT {', '.join(columns)}, {SEAL} FROM {table.name}"
        if names is None:
            self.sql += f" {tail}"
        else:
            self.sql += f" WHERE {' AND '.join(f'{name} = ?' for name in names)}" if names else ""
            self.sql += f" ORDER BY {tail}" if tail else ""
        self.insert = f"INSERT OR REPLACE INTO {table.name} VALUES ({', '.join('?' * len(table.all_columns))})"
        self.positions = tuple(columns.index(name) for name in names or ())
        self.seal = sealer(table)


def inode(path: str) -> str:
    """Tells one file from the one that takes its place; empty if there is none."""
    try:
        return str(os.stat(path).st_ino)
    except FileNotFoundError:
        return ""


class Mark(NamedTuple):
    """What stands beside a damaged database until it was written anew, and the store was looked over. ``file``: the inode of the
    damaged one. ``alone``: nobody can work with it before; otherwise only rows are damaged, and writing it anew waits for a process
    that has it to itself. ``told``: somebody was warned."""

    file: str
    alone: bool
    told: bool


def mark(path: str, mark: Mark) -> None:
    """Mark the database at ``path``."""
    words = (mark.file or "none", "alone" if mark.alone else "rows", "told" if mark.told else "untold")
    try:
        with open(path + SUSPECT, "w", encoding="ascii") as file:
            file.write(" ".join(words))
    except OSError:
        pass  # a full disk: whoever reads the damaged rows next finds them again


def marked(path: str) -> Mark | None:
    """The mark of the database at ``path``, if it has one."""
    try:
        with open(path + SUSPECT, encoding="ascii", errors="replace") as file:
            words = [*file.read().split(), "", "", ""]
    except FileNotFoundError:
        return None
    return Mark(words[0], words[1] != "rows", words[2] == "told")


def is_corruption(e: BaseException) -> bool:
    """Does SQLite say that the file is damaged?"""
    return isinstance(e, sqlite3.Error) and getattr(e, "sqlite_errorcode", 0) & 0xFF in _CORRUPTION


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _settle(connection: sqlite3.Connection, path: str) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (vouches,) = connection.execute("PRAGMA application_id").fetchone()
    if (version, vouches) != (schema.VERSION, _VOUCHES):
        from builder.state import migrations

        migrations.settle(connection, path)


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


def _hint(e: Exception) -> str:
    if "full" in str(e) or "I/O error" in str(e):
        return "is the disk full? free space, or run `pybuild prune`"
    if "malformed" in str(e) or "not a database" in str(e):
        return "the file is damaged: move it away; the cache starts anew"
    return ""
