"""Versions of the metadata database: making an empty one, bringing an older one up, refusing one from the future.

A file says its version in its header (``user_version``, vouched for by ``application_id``). Version 1 said nothing: 0.

Two versions of pybuild on one root. Every process holds ROOT/locks/database shared while it has the database open, those of
version 1 too. A newer one migrates only while it holds that lock alone (``recovery.enter``): it waits for older ones to end. An
older one that starts afterwards finds a version that it does not know and refuses; version 1, which knows none, is stopped by
the gate (``schema.GATE``) before it has read or written anything. So never do two versions work on one root at the same time, and
the newer one loses nothing. There is no way back: who wants the older version again gives it another root.

A migration is one transaction: a crash leaves the old version as it was. What can't be carried over is dropped, names of images
never: they are in ROOT/images.json too. There is one step for each older version, straight to the version of today.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence

from builder.errors import DamagedStoreError, OlderStoreError, StoreError
from builder.state import schema
from builder.state.tables import Row, Table, Value, sealer
from builder.text.gojson import JSON
from builder.values import replace

EMPTY, UNVERSIONED = 0, 1


def version_of(c: sqlite3.Connection) -> int:
    """The version of the open database, EMPTY if nothing is in it. DamagedStoreError if its header makes no sense."""
    if not c.in_transaction:
        # Another process may be making the tables: of two looks one would be before that, and one after.
        c.execute("BEGIN")
        try:
            return version_of(c)
        finally:
            c.execute("ROLLBACK")
    (version,) = c.execute("PRAGMA user_version").fetchone()
    (vouches,) = c.execute("PRAGMA application_id").fetchone()
    if vouches == schema.application_id(version) and version > UNVERSIONED:
        return int(version)
    if version or vouches:
        raise DamagedStoreError(f"metadata database: its header names version {version}, which is none")
    return UNVERSIONED if c.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() else EMPTY


def settle(c: sqlite3.Connection, path: str) -> None:
    """See to it that the open database has ``schema.VERSION``: an empty one gets its tables. OlderStoreError for one that has to be
    migrated, StoreError for one from the future, DamagedStoreError for one whose version makes no sense."""
    if version_of(c) != schema.VERSION:
        _bring_up(c, path, oldest=schema.VERSION)


def migrate(path: str) -> None:
    """Bring the database at ``path`` to ``schema.VERSION``. Nobody else may have it open, see above. Errors as of ``settle``;
    DamagedStoreError if the old one can't be read."""
    c = sqlite3.connect(path, isolation_level=None)
    try:
        _bring_up(c, path, oldest=UNVERSIONED)
    except sqlite3.Error as e:
        raise StoreError(f"metadata database {path}: {e}") from e
    finally:
        c.close()


def _bring_up(c: sqlite3.Connection, path: str, oldest: int) -> None:
    c.execute("PRAGMA synchronous=NORMAL")
    c.execute("BEGIN EXCLUSIVE")
    try:
        # Another process may have been here meanwhile.
        found = version_of(c)
        if found > schema.VERSION:
            raise StoreError(
                f"the state folder {os.path.dirname(path)} was made by a newer pybuild: its metadata has version {found},"
                f" and this pybuild knows none above {schema.VERSION}",
                hint="use the newer pybuild, or name another folder with --root or PYBUILD_ROOT",
            )
        if found == EMPTY:
            create(c)
        elif found < oldest:
            raise OlderStoreError(f"the metadata of the state folder {os.path.dirname(path)} has the older version {found}")
        elif found < schema.VERSION:
            _migrate(c, path, found)
        c.execute("COMMIT")
    except BaseException:
        if c.in_transaction:
            c.execute("ROLLBACK")
        raise


def create(c: sqlite3.Connection, tables: Sequence[Table] | None = None) -> None:
    """Make these tables, or all there are in an empty database, and say the version. In a transaction of the caller's."""
    statements = schema.statements() if tables is None else [sql for table in tables for sql in table.statements]
    for statement in statements:
        c.execute(statement)
    c.execute(f"PRAGMA user_version = {schema.VERSION}")
    c.execute(f"PRAGMA application_id = {schema.application_id(schema.VERSION)}")


def _migrate(c: sqlite3.Connection, path: str, version: int) -> None:
    try:
        problems = [text for (text,) in c.execute("PRAGMA integrity_check(1)")]
        if problems != ["ok"]:
            raise DamagedStoreError(f"metadata database {path}: {problems}")
        _STEPS[version](c, path)
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError) as e:
        # Disk full, locked and the like are errors of this moment; all else is of what is in the file.
        if isinstance(e, sqlite3.OperationalError) and "decode" not in str(e):
            raise
        raise DamagedStoreError(f"metadata database {path}: it can't be brought to version {schema.VERSION}: {e}") from e


# ------------------------------------------------------------------------------------------------------------ version 1
_KEPT = (
    schema.MEASURED, schema.SNAPSHOTS, schema.FILE_DIGESTS, schema.REF_CHECKSUMS, schema.SOLVER_RESULTS, schema.SOLVER_LINKS,
    schema.SOLVER_STEPS, schema.IMAGES, schema.RESOLUTIONS, schema.BLOB_SOURCES, schema.HTTP_FILES, schema.GIT_SNAPSHOTS,
)  # fmt: skip
"""Tables that only got seals."""
_OLD = "old_"


def _from_1(c: sqlite3.Connection, path: str) -> None:
    """Seals; a record became one row that names its parents and blobs; folders of snapshots bear their ids. Leases are dropped:
    nobody lives who could hold one."""
    old = _set_aside(c)
    create(c)
    for table in _KEPT:
        _carry(c, table, _rows(c, old, table.name, _before(table.all_columns[:-1])))
    records = list(_records_of_1(c, old))
    _carry(c, schema.RECORDS, (tuple(r[column] for column in _before(schema.RECORDS.columns)) for r in records))
    _carry(c, schema.RECORD_CHILDREN, ((p, r["id"]) for r in records for p in str(r["parents"]).split()))
    _carry(c, schema.BLOB_RECORDS, ((b[0], r["id"]) for r in records for b in json.loads(str(r["blobs"] or "[]"))))
    # All that there were: a name whose row could not be carried over is looked for in its other place then.
    _carry(c, schema.COUNTS, iter([("images", len(list(_rows(c, old, "images", ("name",)))))]))
    _drop(c, old)
    _mark_snapshots(path, [key for (key,) in c.execute("SELECT key FROM snapshots")])


def _records_of_1(c: sqlite3.Connection, old: set[str]) -> Iterator[dict[str, Value]]:
    """Records whose parents are all there, by column; parents and blobs in one column each."""
    parents: dict[str, list[str]] = {}
    for child, parent in _rows(c, old, "record_parents", ("child", "parent"), "ORDER BY child, position"):
        parents.setdefault(child, []).append(parent)
    blobs: dict[str, list[list[JSON]]] = {}
    of_blobs = ("record", "digest", "media_type", "size", "annotations", "source")
    for record, digest, media_type, size, notes, source in _rows(c, old, "record_blobs", of_blobs, "ORDER BY record, position"):
        blobs.setdefault(record, []).append([digest, media_type, size, source, json.loads(notes) if notes else []])
    columns = tuple(name for name in _before(schema.RECORDS.columns) if name not in ("parents", "blobs"))
    found = {row[0]: dict(zip(columns, row, strict=True)) for row in _rows(c, old, "records", columns)}
    gone: set[str] = set()
    size = -1
    while size != len(gone):
        size = len(gone)
        gone |= {name for name in found for p in parents.get(name, ()) if p not in found or p in gone}
    for name, record in found.items():
        own = blobs.get(name)
        if name not in gone:
            yield record | {"parents": " ".join(parents.get(name, ())), "blobs": json.dumps(own) if own else ""}


def _rows(c: sqlite3.Connection, old: set[str], name: str, columns: tuple[str, ...], tail: str = "") -> Iterator[Row]:
    """What a table of before has in these columns; nothing where it was another table yet: an older version than the one that
    this step knows."""
    if name not in old:
        return
    there = {column for _, column, *_ in c.execute(f"PRAGMA table_info({_OLD}{name})")}
    if there.issuperset(columns):
        yield from c.execute(f"SELECT {', '.join(columns)} FROM {_OLD}{name} {tail}").fetchall()


def _carry(c: sqlite3.Connection, table: Table, rows: Iterator[Row]) -> None:
    """Seal and insert rows whose values are of the types that the table's columns say; columns that are not sealed come last. Times
    in seconds become nanoseconds."""
    seal, width = sealer(table), len(table.columns)
    columns = [part.split()[1] for part in f"{table.key}, {table.rest}, {table.free}".split(",") if part.strip()]
    kinds = [(_KINDS[d.removesuffix("?")], d.endswith("?")) for d in columns]
    into = f"INSERT OR REPLACE INTO {table.name} VALUES ({', '.join('?' * len(table.all_columns))})"
    for row in (in_nanoseconds(table, row) for row in rows):
        if all(isinstance(v, kind) or (v is None and null) for v, (kind, null) in zip(row, kinds, strict=True)):
            c.execute(into, (*row, seal(row[:width])))


_KINDS: dict[str, type] = {"TEXT": str, "INTEGER": int, "BLOB": bytes}


# ------------------------------------------------------------------------------------------------------------ times
_NS = "_ns"
"""Columns of times end so since version 3, which counts nanoseconds. The same columns had no such ending before, and held floats of
seconds."""


def _before(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The names that these columns had in versions 1 and 2."""
    return tuple(column.removesuffix(_NS) for column in columns)


def of_version_2(table: Table) -> Table:
    """The table as version 2 had it."""
    return replace(table, rest=_TIME.sub(r"\1 REAL", table.rest))


def in_nanoseconds(table: Table, row: Row) -> Row:
    """A row of version 1 or 2 (``all_columns`` without the seal) with its times as today's table has them."""
    times = [column.endswith(_NS) for column in table.all_columns[:-1]]
    return tuple(_to_ns(value) if is_time else value for is_time, value in zip(times, row, strict=True)) if any(times) else row


def _to_ns(value: object) -> object:
    """``int(seconds * 1e9)`` is what versions 1 and 2 wrote into an image for the time of a layer, and an image must not change
    because its store was migrated. What is no time is left as it is: ``_carry`` leaves the row behind."""
    return int(value * 1e9) if isinstance(value, int | float) and abs(value) < _MOST_SECONDS else value


_TIME = re.compile(r"\b(\w+)_ns INTEGER")
_MOST_SECONDS = 9e9
"""More nanoseconds are no INTEGER of SQLite."""


# ------------------------------------------------------------------------------------------------------------ version 2
def _from_2(c: sqlite3.Connection, path: str) -> None:
    """Times became nanoseconds. Only tables that have any are made anew. A row that does not fit its seal is left behind;
    the store is looked over after every migration (``recovery``)."""
    tables = [table for table in schema.TABLES if any(column.endswith(_NS) for column in table.columns)]
    old = _set_aside(c, {table.name for table in tables})
    create(c, tables)
    for table in tables:
        before = of_version_2(table)
        seal, width = sealer(before), len(before.columns)
        rows = _rows(c, old, table.name, before.all_columns)
        if table.lasting:
            _carry(c, table, (row[:-1] for row in rows if row[-1] == seal(row[:width])))
    _drop(c, old)


def _set_aside(c: sqlite3.Connection, names: set[str] | None = None) -> set[str]:
    """Rename these tables, or all, and drop their indexes, whose names are needed; gives the names of those that there were."""
    there = {name for (name,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")}
    old = there if names is None else there & names
    indexes = c.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    for index in [index for index, table in indexes if table in old]:
        c.execute(f'DROP INDEX "{index}"')
    for name in old:
        c.execute(f'ALTER TABLE "{name}" RENAME TO "{_OLD}{name}"')
    return old


def _drop(c: sqlite3.Connection, old: set[str]) -> None:
    for name in old:
        c.execute(f'DROP TABLE "{_OLD}{name}"')


def _mark_snapshots(path: str, keys: list[str]) -> None:
    """See ``builder.snapshots.catalog``. Older versions don't mind the marks."""
    for key in keys:
        folder = os.path.join(os.path.dirname(path), "snapshots", key)
        try:
            os.symlink(key, os.path.join(folder, "id"))
        except (FileNotFoundError, NotADirectoryError, FileExistsError):
            pass  # it has lost its files: a miss; or the migration was cut short before


_STEPS: dict[int, Callable[[sqlite3.Connection, str], None]] = {1: _from_1, 2: _from_2}
"""By the version that they start from. They name columns in their own words where later versions may change them."""
