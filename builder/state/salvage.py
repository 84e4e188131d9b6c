"""Writing a damaged database anew: a fresh file with every row of the old one that can be read and fits its seal.

What is saved means the same without what is lost (``tables``), except that records may have lost others that they stand on: whoever
opens the store next looks after that (``builder.cache.repair``).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator

from builder.errors import DamagedStoreError, StoreError
from builder.state import migrations, schema
from builder.state.database import ASIDE
from builder.state.tables import SEAL, Row, Table, sealer

PARTS = ("", "-wal", "-shm")
"""What SQLite adds to the name of a database for the files that belong to it."""
_MAKING, NEW = ".making", ".new"


def write_anew(path: str, *, salvage: bool) -> None:
    """Put an empty database in place of the one at ``path``, which stays beside it as ``.damaged``; with ``salvage`` what is sound
    in it is in the new one. Nobody may have it open. StoreError if the disk doesn't let us; nothing else, whatever is in the file.

    The new file is whole before the old one goes: a crash leaves the one or the other, or the new one for ``finish``.
    """
    making = path + _MAKING
    try:
        for part in (*PARTS, "-journal"):
            _unlink(making + part)
        _build(making, path if salvage and os.path.exists(path) else None)
        os.rename(making, path + NEW)
        finish(path)
    except (OSError, sqlite3.Error) as e:
        raise StoreError(f"can't write the damaged metadata database {path} anew: {e}", hint="is the disk full?") from e


def finish(path: str) -> bool:
    """Put the new file in place; was there one?"""
    if not os.path.exists(path + NEW):
        return False
    # The log before the file it belongs to: SQLite would replay it over the new one.
    for part in reversed(PARTS):
        try:
            os.rename(path + part, path + ASIDE + part)
        except FileNotFoundError:
            pass
    os.rename(path + NEW, path)
    return True


def unsound(path: str) -> str:
    """What is wrong with the database at ``path``, in a few words, or "". Every row is read."""
    try:
        c = sqlite3.connect(f"file:{path}?mode=rw", uri=True)
        try:
            c.text_factory = _lenient
            return _check(c)
        finally:
            c.close()
    except Exception as e:  # whatever a damaged file makes SQLite say, and Python of it
        return str(e) or type(e).__name__


def _check(c: sqlite3.Connection) -> str:
    problems = [str(text) for (text,) in c.execute("PRAGMA integrity_check(1)")]
    if problems != ["ok"]:
        return problems[0].splitlines()[-1]  # the first line names the database
    try:
        version = migrations.version_of(c)
    except DamagedStoreError as e:
        return str(e)
    if version != schema.VERSION:
        return ""  # of another version: not ours to judge
    there = {sql for (sql,) in c.execute("SELECT sql FROM sqlite_master")}
    if not there.issuperset(schema.statements()):
        return "a table or index is missing"
    for table in schema.TABLES:
        seal = sealer(table)
        for row in c.execute(f"SELECT {', '.join(table.columns)}, {SEAL} FROM {table.name}"):
            if row[-1] != seal(row[:-1]):
                return f"a row of {table.name} does not fit its checksum"
    return ""


def _build(making: str, source: str | None) -> None:
    target = sqlite3.connect(making, isolation_level=None)
    try:
        target.execute("PRAGMA synchronous=OFF")
        target.execute("PRAGMA journal_mode=OFF")
        target.execute("BEGIN EXCLUSIVE")
        migrations.create(target)
        for table in schema.TABLES if source else ():
            if table.lasting:
                into = f"INSERT OR IGNORE INTO {table.name} VALUES ({', '.join('?' * len(table.all_columns))})"
                for row in _rows_of(source or "", table):
                    try:
                        target.execute(into, row)
                    except (sqlite3.IntegrityError, UnicodeError, OverflowError):
                        pass  # a free column that became something impossible
        target.execute("COMMIT")
    finally:
        target.close()
    with open(making, "rb") as file:
        os.fsync(file.fileno())


def _rows_of(source: str, table: Table) -> Iterator[Row]:
    """The sound rows, also those of a database of version 2, whose times were in seconds."""
    yield from _sound_rows(source, table)
    before = migrations.of_version_2(table)
    if before != table:
        seal, width = sealer(table), len(table.columns)
        for row in _sound_rows(source, before):
            values = migrations.in_nanoseconds(table, row[:-1])
            yield (*values, seal(values[:width]))


def _sound_rows(source: str, table: Table) -> Iterator[Row]:
    """Forward as far as it goes, then backward from the end: what lies behind a damaged page is reached from the other side."""
    seal = sealer(table)
    width = len(table.columns)
    for direction in ("", "DESC"):
        order = ", ".join(f"{name} {direction}" for name in table.columns[: table.key.count(",") + 1])
        try:
            c = sqlite3.connect(source)
            try:
                c.text_factory = _lenient
                for row in c.execute(f"SELECT {', '.join(table.all_columns)} FROM {table.name} ORDER BY {order}"):
                    if row[-1] == seal(row[:width]):
                        yield row
                break
            finally:
                c.close()
        except GeneratorExit:
            raise
        except Exception:  # whatever a damaged file makes SQLite say, and Python of it
            continue


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
