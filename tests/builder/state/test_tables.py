"""A row that does not fit its seal counts as absent, whatever of it was damaged; that is told once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import StoreError
from builder.state import schema
from builder.state.database import SUSPECT, Database
from builder.state.tables import Row, Table, sealer
from tests.support.rows import garble

VALUES: dict[str, Any] = {"TEXT": "some text", "INTEGER": 7, "REAL": 1.5, "BLOB": b"\x00\xff" * 40}
OTHERS: dict[str, list[Any]] = {
    "TEXT": ["some texT", "", 7, b"some text", b"\xff\xfe"],
    "INTEGER": [8, -7, 7.5, "seven"],
    "REAL": [1.25, 0, "1.5x"],
    "BLOB": [b"", b"\x00\xff" * 39, "text"],
}


def kinds(table: Table) -> list[str]:
    return [part.split()[1].removesuffix("?") for part in f"{table.key}, {table.rest}".split(",") if part.strip()]


def sample(table: Table) -> Row:
    return tuple(VALUES[kind] for kind in kinds(table))


def damages() -> list[Any]:
    out = []
    for table in schema.TABLES:
        for column, kind in zip(table.columns, kinds(table), strict=True):
            # A rowid is no value in the row: SQLite keeps it apart, and takes nothing but a number for it.
            others = OTHERS[kind]
            if table.key == "id INTEGER" == f"{column} {kind}":
                others = [other for other in others if isinstance(other, int)]
            out += [pytest.param(table, column, other, id=f"{table.name}-{column}-{other!r:.12}") for other in others]
    return out


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def database(tmp_path: Path, told: list[str]) -> Database:
    return Database(str(tmp_path / "db"), warn=told.append)


def put(database: Database, table: Table, *rows: Row) -> None:
    with database.transaction() as c:
        database.put(c, table, rows, free=(1,) if table.free else ())


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda t: t.name)
def test_a_row_comes_back_as_it_was(database: Database, told: list[str], table: Table) -> None:
    put(database, table, sample(table))
    match = dict(zip(table.columns, sample(table), strict=True))
    assert database.select(table) == database.find(table, **match) == [sample(table)]
    assert not told


@pytest.mark.parametrize(("table", "column", "other"), damages())
def test_a_damaged_column_takes_the_row_away(
    database: Database, told: list[str], table: Table, column: str, other: object
) -> None:
    put(database, table, sample(table))
    garble(database, table, {}, **{column: other})
    assert database.select(table) == []
    assert database.find(table, **{column: other}) == []
    assert len(told) == 1
    assert os.path.exists(database.path + SUSPECT)


def test_a_text_that_is_none_takes_its_row_away_and_no_other(database: Database, told: list[str]) -> None:
    put(database, schema.GIT_SNAPSHOTS, ("a", "1"), ("b", "2"), ("c", "3"))
    with database.transaction() as c:
        c.execute("UPDATE git_snapshots SET ref = CAST(X'ff' AS TEXT) WHERE key = 'b'")
    assert database.select(schema.GIT_SNAPSHOTS) == [("a", "1"), ("c", "3")]
    assert len(told) == 1
    assert database.find(schema.GIT_SNAPSHOTS, key="c") == [("c", "3")]


def test_an_index_that_leads_to_another_row_finds_nothing(database: Database) -> None:
    """The row is sound, and not what was asked for."""
    put(database, schema.SOLVER_RESULTS, ("key", "result", 1.0))
    with database.transaction() as c:
        c.execute("PRAGMA writable_schema = ON")
        c.execute(
            "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'solver_results_by_result')"
            " WHERE name = 'lease_records_by_lease'"
        )
        c.execute("PRAGMA writable_schema = RESET")
    connection = database.connection()
    assert connection.execute("SELECT count(*) FROM lease_records WHERE lease = 'result'").fetchone()[0] >= 0
    assert database.find(schema.LEASE_RECORDS, lease="result") == []


def test_a_row_of_another_table_does_not_fit(database: Database) -> None:
    """Two tables with the same columns: a pointer that went wrong does not make the one's rows the other's."""
    put(database, schema.LEASE_BLOBS, ("digest", "lease"))
    with database.transaction() as c:
        c.execute("INSERT INTO blob_sources SELECT * FROM lease_blobs")
    assert database.select(schema.BLOB_SOURCES) == []


def test_a_damaged_row_is_replaced_by_a_new_one_of_its_key(database: Database) -> None:
    put(database, schema.GIT_SNAPSHOTS, ("a", "1"))
    garble(database, schema.GIT_SNAPSHOTS, {}, ref="2")
    put(database, schema.GIT_SNAPSHOTS, ("a", "3"))
    assert database.select(schema.GIT_SNAPSHOTS) == [("a", "3")]


def test_damage_is_told_once_a_process(database: Database, told: list[str]) -> None:
    put(database, schema.GIT_SNAPSHOTS, *((str(n), "1") for n in range(5)))
    garble(database, schema.GIT_SNAPSHOTS, {}, ref="2")
    for _ in range(3):
        assert database.select(schema.GIT_SNAPSHOTS) == []
    assert len(told) == 1
    assert database.is_suspect


def test_queries_of_one_reading_see_one_state(database: Database, tmp_path: Path) -> None:
    other = Database(str(tmp_path / "db"))
    with database.reading():
        assert database.select(schema.GIT_SNAPSHOTS) == []
        put(other, schema.GIT_SNAPSHOTS, ("a", "1"))
        assert database.select(schema.GIT_SNAPSHOTS) == []
    assert database.select(schema.GIT_SNAPSHOTS) == [("a", "1")]


def test_errors_of_sqlite_are_store_errors(database: Database) -> None:
    with pytest.raises(StoreError, match="metadata database"):
        database.rows("SELECT nothing FROM nowhere")
    with pytest.raises(StoreError, match="metadata database"), database.transaction() as c:
        c.execute("INSERT INTO nowhere VALUES (1)")


cells = st.one_of(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.none())


@given(st.lists(cells, min_size=3, max_size=3), st.integers(0, 2), cells)
def test_another_value_is_another_seal(values: list[Any], at: int, other: Any) -> None:
    table = Table("t", "a TEXT", "b TEXT, c TEXT")
    changed = [*values]
    changed[at] = other
    if [str(v) for v in changed] != [str(v) for v in values]:
        assert sealer(table)(tuple(changed)) != sealer(table)(tuple(values))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_other_bytes_are_another_seal(one: bytes, other: bytes) -> None:
    table = Table("t", "a TEXT", "b BLOB")
    assert (sealer(table)(("x", one)) == sealer(table)(("x", other))) == (one == other)


def test_the_seal_is_the_same_for_ever() -> None:
    """What one pybuild has written another reads: the figure is not to change within a version of the schema."""
    assert sealer(schema.GIT_SNAPSHOTS)(("key", "été")) == 720631964
    assert sealer(schema.MEASURED)(("name", 1753000000.125, 12345678901)) == 2918332355
    assert sealer(schema.REF_CHECKSUMS)(("ref", b"\x00\x01", "digest")) == 1714570756
