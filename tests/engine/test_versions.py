"""A state folder of an older pybuild: what it has cached is still cached, and its images have their names."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.state import schema
from builder.state.database import Database
from builder.state.layout import Layout
from builder.state.tables import Row, Table, sealer
from builder.values import replace
from tests.support.cli import Pybuild, assert_refused
from tests.support.oci import read_image

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
DUMPS = Path(__file__).parents[2] / "testdata" / "schema"
DOCKERFILE = """FROM {base} AS tool
RUN echo made > /made
FROM {base}
COPY files/ /srv/
COPY --link --from=tool /made /srv/
RUN --mount=type=cache,target=/c cat /srv/* > /all; echo more >> /c/log
"""


def of_before(table: Table) -> Table:
    """The table as version 2 had it: times were floats of seconds."""
    return replace(table, rest=re.sub(r"(\w+)_ns INTEGER", r"\1 REAL", table.rest))


def in_seconds(table: Table, row: Row) -> Row:
    times = [column.endswith("_ns") for column in table.columns]
    return tuple(v / 1e9 if is_time and v is not None else v for is_time, v in zip(times, row, strict=True))


def to_version_2(layout: Layout) -> None:
    """Write the database as a pybuild with version 2 of the metadata would have left it."""
    database = Database(layout.database)
    rows = {table: database.rows(f"SELECT {', '.join(table.all_columns[:-1])} FROM {table.name}") for table in schema.TABLES}
    database.close()
    os.unlink(layout.database)
    with sqlite3.connect(layout.database) as c:
        c.executescript((DUMPS / "2.sql").read_text(encoding="utf-8"))
        for table, found in rows.items():
            before, width = of_before(table), len(table.columns)
            c.execute(f"DELETE FROM {table.name}")
            for row in found:
                values = in_seconds(table, row[:width])
                marks = ", ".join("?" * len(table.all_columns))
                c.execute(f"INSERT INTO {table.name} VALUES ({marks})", (*values, *row[width:], sealer(before)(values)))
        c.execute("PRAGMA journal_mode=WAL")
    c.close()


def to_version_1(layout: Layout) -> None:
    """Write the database as pybuild 0.1.0 would have left it."""
    database = Database(layout.database)
    rows = {table: [in_seconds(table, row) for row in database.select(table)] for table in schema.TABLES}
    used = database.rows("SELECT folder, used FROM file_digests")
    database.close()
    for key, *_ in rows[schema.SNAPSHOTS]:
        os.unlink(layout.path("snapshots", key, "id"))
    os.unlink(layout.database)
    with sqlite3.connect(layout.database) as c:
        c.executescript((DUMPS / "1.sql").read_text(encoding="utf-8"))
        there = [n for (n,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        for name in there:
            if name != "made":
                c.execute(f"DELETE FROM {name}")
        for table, found in rows.items():
            if table.name in there and table not in (schema.RECORDS, schema.FILE_DIGESTS):
                marks = ", ".join("?" * len(table.columns))
                c.executemany(f"INSERT INTO {table.name} ({', '.join(of_before(table).columns)}) VALUES ({marks})", found)
        files = dict(rows[schema.FILE_DIGESTS])
        c.executemany("INSERT INTO file_digests VALUES (?, ?, ?)", [(folder, day, files[folder]) for folder, day in used])
        for row in rows[schema.RECORDS]:
            record = dict(zip(of_before(schema.RECORDS).columns, row, strict=True))
            parents, blobs = record.pop("parents").split(), json.loads(record.pop("blobs") or "[]")
            c.execute(f"INSERT INTO records ({', '.join(record)}) VALUES ({', '.join('?' * len(record))})", (*record.values(),))
            c.executemany("INSERT INTO record_parents VALUES (?, ?, ?)", [(row[0], n, p) for n, p in enumerate(parents)])
            for n, (digest, media_type, size, source, notes) in enumerate(blobs):
                values = (row[0], n, digest, media_type, size, json.dumps(notes) if notes else "", source)
                c.execute("INSERT INTO record_blobs VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        c.execute("PRAGMA journal_mode=WAL")
    c.close()


@pytest.mark.parametrize("to_version", [to_version_1, to_version_2])
def test_an_older_root_goes_on_as_it_was(
    pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path, to_version: Callable[[Layout], None]
) -> None:
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox), **{f"files/{n}": f"{n}\n" for n in range(5)}})
    output = ("-t", "app", "-o", "type=image", "-o", f"type=oci,dest={tmp_path}/i.tar")
    pybuild.ok(*output, folder, env={"SOURCE_DATE_EPOCH": "1"})
    first = read_image(tmp_path / "i.tar")
    names = pybuild.ok("images", "--json").out
    layout = Layout(pybuild.root)
    to_version(layout)

    done = pybuild.ok(*output, folder, env={"SOURCE_DATE_EPOCH": "1"})
    assert "warning" not in done.err
    assert done.not_cached() == {}
    assert read_image(tmp_path / "i.tar").manifest == first.manifest
    pybuild.fsck()
    to_version(layout)
    assert pybuild.ok("images", "--json").out == names
    pybuild.fsck()
    assert "unused" not in pybuild.ok("fsck").out


@pytest.mark.parametrize("command", [["build", "."], ["images"], ["du"], ["prune", "--force"], ["fsck"]])
def test_a_root_from_the_future_is_refused_by_every_command(
    pybuild: Pybuild, context: Context, command: list[str]
) -> None:
    pybuild.ok("images")
    path = Layout(pybuild.root).database
    with sqlite3.connect(path) as c:
        c.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        c.execute(f"PRAGMA application_id = {schema.application_id(schema.VERSION + 1)}")
    c.close()
    before = Path(path).read_bytes()
    done = pybuild(*command, cwd=context({"Dockerfile": "FROM scratch\nCOPY . /\n"}))
    assert_refused(done, pybuild.root, "made by a newer pybuild", f"version {schema.VERSION + 1}", "--root")
    assert "waiting" not in done.err
    assert Path(path).read_bytes() == before
