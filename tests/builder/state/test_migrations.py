"""Versions of the metadata: from the schema of pybuild 0.1.0 to this one, refusals in plain words, two versions on one root."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.cache.record import contradiction, from_row
from builder.errors import DamagedStoreError, StoreError
from builder.state import migrations, recovery, schema
from builder.state.database import Database
from builder.state.layout import Layout
from builder.state.locks import try_lock
from builder.state.recovery import is_damaged
from builder.state.salvage import unsound

DUMPS = Path(__file__).parents[3] / "testdata" / "schema"
DUMP = DUMPS / "1.sql"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(str(tmp_path / "root"))
    layout.create()
    return layout


@pytest.fixture
def old(layout: Layout) -> Iterator[sqlite3.Connection]:
    """A root as version 1 has left it, and a connection to its database for questions about it."""
    with sqlite3.connect(layout.database) as c:
        c.executescript(DUMP.read_text(encoding="utf-8"))
        c.execute("PRAGMA journal_mode=WAL")
    for (key,) in c.execute("SELECT key FROM snapshots").fetchall():
        os.makedirs(layout.path("snapshots", key, "fs"))
    c.close()
    memory = sqlite3.connect(":memory:")
    memory.executescript(DUMP.read_text(encoding="utf-8"))
    yield memory
    memory.close()


def migrated(layout: Layout) -> Database:
    migrations.migrate(layout.database)
    return Database(layout.database)


# ------------------------------------------------------------------------------------------------------------ 1 to 2
def test_the_dump_has_rows_of_every_table(old: sqlite3.Connection) -> None:
    names = [n for (n,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    assert len(names) == 19
    assert all(old.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names)


@pytest.mark.parametrize("table", migrations._KEPT, ids=lambda t: t.name)
def test_rows_keep_what_they_say(layout: Layout, old: sqlite3.Connection, table: schema.Table) -> None:
    database = migrated(layout)
    assert sorted(database.select(table)) == sorted(as_of_before(old, table))


def as_of_before(old: sqlite3.Connection, table: schema.Table) -> list[tuple[object, ...]]:
    """The rows of an older version, with their times in nanoseconds."""
    columns = [column.removesuffix("_ns") for column in table.columns]
    times = [n for n, column in enumerate(table.columns) if column.endswith("_ns")]
    rows = old.execute(f"SELECT {', '.join(columns)} FROM {table.name}").fetchall()
    return [tuple(int(v * 1e9) if n in times and v is not None else v for n, v in enumerate(row)) for row in rows]


def test_records_name_their_parents_and_blobs(layout: Layout, old: sqlite3.Connection) -> None:
    database = migrated(layout)
    records = {row[0]: from_row(row) for row in database.select(schema.RECORDS)}
    assert len(records) == 10
    assert {r.kind for r in records.values()} == {"layer", "merge"}
    for record in records.values():
        query = "SELECT {} FROM record_{} WHERE {} = ? ORDER BY position"
        assert [(p,) for p in record.parents] == old.execute(query.format("parent", "parents", "child"), (record.id,)).fetchall()
        blobs = [(b.descriptor.digest, b.descriptor.media_type, b.descriptor.size, b.source) for b in record.blobs]
        assert blobs == old.execute(query.format("digest, media_type, size, source", "blobs", "record"), (record.id,)).fetchall()
        columns = "kind, state, snapshot, retained, diff_id, chain_id, blob_chain_id, usage_count"
        values = old.execute(f"SELECT {columns}, description, mount_key FROM records WHERE id = ?", (record.id,)).fetchone()
        assert values == (
            record.kind, record.state, record.snapshot, record.retained, record.diff_id, record.chain_id, record.blob_chain_id,
            record.usage_count, record.description, record.mount_key,
        )  # fmt: skip
        assert contradiction(record, records.get(record.parent or "")) == ""


def test_what_repeats_other_tables_is_made_and_leases_are_dropped(layout: Layout, old: sqlite3.Connection) -> None:
    from builder.cache.records import Records

    database = migrated(layout)
    records = Records(database)
    assert records.contradictions(records.all()) == []
    assert database.select(schema.COUNTS) == [("images", old.execute("SELECT count(*) FROM images").fetchone()[0])]
    assert [database.select(t) for t in (schema.LEASES, schema.LEASE_RECORDS, schema.LEASE_BLOBS)] == [[], [], []]


def test_the_file_is_as_one_that_was_made_by_this_version(layout: Layout, old: sqlite3.Connection, tmp_path: Path) -> None:
    database = migrated(layout)
    fresh = Database(str(tmp_path / "fresh"))
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    assert database.rows(query) == fresh.rows(query)
    assert unsound(layout.database) == ""
    assert migrations.version_of(database.connection()) == schema.VERSION


def test_snapshots_bear_their_ids_afterwards(layout: Layout, old: sqlite3.Connection) -> None:
    migrated(layout)
    keys = [key for (key,) in old.execute("SELECT key FROM snapshots")]
    assert [os.readlink(layout.path("snapshots", key, "id")) for key in keys] == keys


def test_how_long_digests_of_files_were_not_used_is_kept(layout: Layout, old: sqlite3.Connection) -> None:
    used = "SELECT folder, used FROM file_digests ORDER BY folder"
    assert migrated(layout).rows(used) == old.execute(used).fetchall()


def test_a_row_of_impossible_values_is_left_behind(layout: Layout, old: sqlite3.Connection) -> None:
    with sqlite3.connect(layout.database) as c:
        c.execute("UPDATE resolutions SET size = 'many'")
        c.execute("DELETE FROM records WHERE id = (SELECT parent FROM record_parents LIMIT 1)")
    database = migrated(layout)
    assert database.select(schema.RESOLUTIONS) == []
    records = {row[0]: from_row(row) for row in database.select(schema.RECORDS)}
    assert 0 < len(records) < 9
    assert all(p in records for r in records.values() for p in r.parents)


def test_a_root_of_before_that_lacks_tables_and_columns_is_taken_as_far_as_it_goes(layout: Layout) -> None:
    with sqlite3.connect(layout.database) as c:
        c.execute("CREATE TABLE images (name TEXT PRIMARY KEY, digest TEXT)")
        c.execute("CREATE TABLE resolutions (name TEXT, media_type TEXT, digest TEXT, size INTEGER, resolved_at REAL)")
        c.execute("INSERT INTO resolutions VALUES ('a', 'b', 'c', 1, 1.5)")
    assert migrated(layout).select(schema.RESOLUTIONS) == [("a", "b", "c", 1, 1_500_000_000)]


@pytest.mark.parametrize("failing", ["_mark_snapshots", "_records_of_1", "create"])
def test_a_migration_that_breaks_off_leaves_the_old_version(
    layout: Layout, old: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    with monkeypatch.context() as m:

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        m.setattr(migrations, failing, fail)
        with pytest.raises(KeyboardInterrupt):
            migrations.migrate(layout.database)
    with sqlite3.connect(layout.database) as c:
        assert list(c.iterdump()) == list(old.iterdump())
    migrated(layout)


def test_a_full_disk_is_no_damage(layout: Layout, old: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(migrations, "_mark_snapshots", fail)
    with pytest.raises(StoreError, match="disk is full") as e:
        migrations.migrate(layout.database)
    assert not isinstance(e.value, DamagedStoreError)


def test_an_old_database_that_can_not_be_read_is_started_anew(
    layout: Layout, old: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(layout.database) as c:
        c.execute("UPDATE record_blobs SET annotations = 'no JSON'")
    with pytest.raises(DamagedStoreError):
        migrations.migrate(layout.database)
    entered = recovery.enter(layout)
    assert entered.look_over
    assert entered.database.select(schema.RECORDS) == []
    assert capsys.readouterr().err.startswith(f"warning: the metadata database {layout.database} is damaged: moved to ")
    os.close(entered.lock)


# ------------------------------------------------------------------------------------------------------------ 2 to 3
@pytest.fixture
def second(layout: Layout) -> sqlite3.Connection:
    """A root as version 2 has left it, and a connection to a copy of its database for questions about it."""
    with sqlite3.connect(layout.database) as c:
        c.executescript((DUMPS / "2.sql").read_text(encoding="utf-8"))
        c.execute("PRAGMA journal_mode=WAL")
    c.close()
    memory = sqlite3.connect(":memory:")
    memory.executescript((DUMPS / "2.sql").read_text(encoding="utf-8"))
    return memory


LASTING = [table for table in schema.TABLES if table.lasting]


def test_the_dump_of_version_2_has_rows_of_every_table(second: sqlite3.Connection) -> None:
    assert migrations.version_of(second) == 2
    assert all(second.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0] for table in schema.TABLES)


@pytest.mark.parametrize("table", LASTING, ids=lambda t: t.name)
def test_rows_of_version_2_keep_what_they_say(layout: Layout, second: sqlite3.Connection, table: schema.Table) -> None:
    database = migrated(layout)
    assert sorted(database.select(table)) == sorted(as_of_before(second, table))


def test_every_time_is_whole_nanoseconds_of_this_century(layout: Layout, second: sqlite3.Connection) -> None:
    database = migrated(layout)
    seen = 0
    for table in schema.TABLES:
        for row in database.select(table):
            for column, value in zip(table.columns, row, strict=True):
                assert not isinstance(value, float), (table.name, column)
                if column.endswith("_ns") and value is not None:
                    assert 1_000_000_000 * 10**9 < value < 4_000_000_000 * 10**9, (table.name, column)
                    seen += 1
    assert seen > 20


def test_a_file_of_version_2_is_as_one_that_was_made_by_this_version(
    layout: Layout, second: sqlite3.Connection, tmp_path: Path
) -> None:
    database = migrated(layout)
    fresh = Database(str(tmp_path / "fresh"))
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    assert database.rows(query) == fresh.rows(query)
    assert unsound(layout.database) == ""
    assert database.select(schema.LEASES) == []


def test_a_row_of_version_2_that_does_not_fit_its_seal_is_left_behind(layout: Layout, second: sqlite3.Connection) -> None:
    with sqlite3.connect(layout.database) as c:
        (spoilt,) = c.execute("SELECT id FROM records LIMIT 1").fetchone()
        c.execute("UPDATE records SET snapshot = 'of another' WHERE id = ?", (spoilt,))
    c.close()
    entered = recovery.enter(layout)
    ids = {row[0] for row in entered.database.select(schema.RECORDS)}
    assert ids == {id for (id,) in second.execute("SELECT id FROM records")} - {spoilt}
    assert entered.look_over
    os.close(entered.lock)


def test_a_root_of_version_2_with_damaged_rows_is_migrated_with_the_others(layout: Layout, second: sqlite3.Connection) -> None:
    """Its last process has noticed damage, and left the mark that asks for a database that is written anew."""
    with sqlite3.connect(layout.database) as c:
        c.execute("UPDATE git_snapshots SET ref = 'another'")
    c.close()
    recovery.mark(layout.database, recovery.Mark(recovery.inode(layout.database), alone=False, told=True))
    entered = recovery.enter(layout)
    assert len(entered.database.select(schema.RECORDS)) == second.execute("SELECT count(*) FROM records").fetchone()[0]
    os.close(entered.lock)


def test_a_root_of_version_2_with_damaged_pages_is_written_anew_with_its_rows(layout: Layout, second: sqlite3.Connection) -> None:
    recovery.mark(layout.database, recovery.Mark(recovery.inode(layout.database), alone=True, told=True))
    entered = recovery.enter(layout)
    for table in LASTING:
        assert sorted(entered.database.select(table)) == sorted(as_of_before(second, table))
    assert unsound(layout.database) == ""
    os.close(entered.lock)


@pytest.mark.parametrize("failing", ["create", "_drop"])
def test_a_migration_from_2_that_breaks_off_leaves_it_as_it_was(
    layout: Layout, second: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    with monkeypatch.context() as m:

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        m.setattr(migrations, failing, fail)
        with pytest.raises(KeyboardInterrupt):
            migrations.migrate(layout.database)
    with sqlite3.connect(layout.database) as c:
        assert list(c.iterdump()) == list(second.iterdump())
    migrated(layout)


# ------------------------------------------------------------------------------------------------------- other versions
@pytest.mark.parametrize("settle", [migrations.settle, lambda _, path: migrations.migrate(path)], ids=["settle", "migrate"])
def test_who_finds_that_another_was_quicker_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settle: Callable[[sqlite3.Connection, str], None]
) -> None:
    """Two processes open a new root at once: both see an empty file, and one of them makes the tables before the other has the
    lock. (It was damage to the other, who wrote the database anew under the first.)"""
    path = str(tmp_path / "metadata.db")
    late, quick = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
    look = migrations.version_of

    def overtaken(c: sqlite3.Connection) -> int:
        monkeypatch.setattr(migrations, "version_of", look)
        found = look(c)
        migrations.settle(quick, path)
        return found

    if settle is migrations.settle:
        monkeypatch.setattr(migrations, "version_of", overtaken)
    else:
        migrations.settle(quick, path)
    settle(late, path)
    assert look(late) == schema.VERSION
    late.close()
    quick.close()


def test_a_header_is_looked_at_once(tmp_path: Path) -> None:
    """Its two halves are of one moment, whoever makes the tables between them."""
    path = str(tmp_path / "metadata.db")
    late, quick = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
    quick.execute("PRAGMA journal_mode=WAL")
    asked: list[str] = []

    def ask(sql: str) -> None:
        asked.append(sql)
        if "application_id" in sql:
            migrations.settle(quick, path)

    late.set_trace_callback(ask)
    assert migrations.version_of(late) == migrations.EMPTY
    assert asked
    late.set_trace_callback(None)
    assert migrations.version_of(late) == schema.VERSION
    late.close()
    quick.close()


def test_a_root_from_the_future_is_refused_in_plain_words(layout: Layout) -> None:
    Database(layout.database).connection()
    later = schema.VERSION + 3
    with sqlite3.connect(layout.database) as c:
        c.execute(f"PRAGMA user_version = {later}")
        c.execute(f"PRAGMA application_id = {schema.application_id(later)}")
    before = Path(layout.database).read_bytes()
    for open_it in (lambda: recovery.enter(layout), lambda: Database(layout.database).connection()):
        with pytest.raises(StoreError, match=f"version {later}.*none above {schema.VERSION}") as e:
            open_it()
        assert "--root" in e.value.hint
        assert not is_damaged(e.value, layout.database)
    assert Path(layout.database).read_bytes() == before


@pytest.mark.parametrize(("version", "vouches"), [(3, 0), (0, 3), (99, schema.application_id(2)), (1, 0), (-1, 7)])
def test_a_version_that_nothing_vouches_for_is_damage(
    layout: Layout, capsys: pytest.CaptureFixture[str], version: int, vouches: int
) -> None:
    database = Database(layout.database)
    with database.transaction() as c:
        database.put(c, schema.GIT_SNAPSHOTS, [("a", "1")])
    with database.transaction() as c:
        c.execute(f"PRAGMA user_version = {version}")
        c.execute(f"PRAGMA application_id = {vouches}")
    database.close()
    with pytest.raises(DamagedStoreError):
        Database(layout.database).connection()
    entered = recovery.enter(layout)
    assert entered.database.select(schema.GIT_SNAPSHOTS) == [("a", "1")]
    assert "is damaged: moved to" in capsys.readouterr().err
    os.close(entered.lock)


def version_1_opens(path: str) -> None:
    """What the Database of version 1 did first: a part's tables are made unless the table ``made`` says that they were."""
    c = sqlite3.connect(path, isolation_level=None)
    try:
        c.execute("PRAGMA journal_mode=WAL")
        assert c.execute("SELECT 1 FROM made WHERE script = ?", ("a digest",)).fetchone() is None
        c.execute("BEGIN IMMEDIATE")
        c.execute("CREATE TABLE IF NOT EXISTS made (script TEXT PRIMARY KEY) WITHOUT ROWID")
        c.execute("CREATE TABLE IF NOT EXISTS snapshots (key TEXT PRIMARY KEY, driver TEXT NOT NULL)")
        c.execute("INSERT OR IGNORE INTO made VALUES (?)", ("a digest",))
        c.execute("COMMIT")
    finally:
        if c.in_transaction:
            c.execute("ROLLBACK")
        c.close()


def test_version_1_is_stopped_with_words_before_it_does_anything(layout: Layout, old: sqlite3.Connection) -> None:
    database = migrated(layout)
    before = list(database.connection().iterdump())
    with pytest.raises(sqlite3.IntegrityError, match=r"taken over by a newer pybuild.*--root"):
        version_1_opens(layout.database)
    assert list(database.connection().iterdump()) == before


class Waiting(io.StringIO):
    """Standard error that says when it was told of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def write(self, text: str) -> int:
        if text.startswith("waiting for other pybuild processes"):
            self.told.set()
        return super().write(text)


def test_a_migration_waits_for_processes_of_the_old_version(
    layout: Layout, old: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Waiting()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(recovery, "_PATIENCE_SECONDS", 0.0)
    running = try_lock(layout.path("locks", "database"), shared=True)
    assert running is not None
    entered: list[recovery.Entered] = []
    thread = threading.Thread(target=lambda: entered.append(recovery.enter(layout)))
    thread.start()
    assert stderr.told.wait(30)
    with sqlite3.connect(layout.database) as c:
        assert migrations.version_of(c) == migrations.UNVERSIONED
        c.execute("INSERT INTO resolutions VALUES ('by the old one', 'b', 'c', 1, 1.5)")
    c.close()
    os.close(running)
    thread.join(30)
    assert entered[0].database.find(schema.RESOLUTIONS, name="by the old one")
    os.close(entered[0].lock)


def test_names_of_images_that_a_migration_could_not_read_come_from_their_other_place(
    layout: Layout, old: sqlite3.Connection
) -> None:
    from builder.content.store import ContentStore
    from builder.images.store import ImageStore
    from builder.oci.reference import Reference

    content = ContentStore(layout)
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(content.put(b"{}")), "size": 2}
    manifest = {"schemaVersion": 2, "config": config, "layers": []}
    digest = content.put(json.dumps(manifest).encode())
    row = ["docker.io/library/app:latest", "application/vnd.oci.image.manifest.v1+json", digest, 3, "", 5, 1.5]
    Path(layout.path("images.json")).write_text(json.dumps({"images": [row], "sources": []}))
    with sqlite3.connect(layout.database) as c:
        c.execute("UPDATE images SET size = 'large'")
    found = ImageStore(migrated(layout), content).get(Reference.parse("app"))
    assert found is not None
    assert found.target.digest == digest


def test_the_documentation_has_every_table_and_column() -> None:
    text = (Path(__file__).parents[3] / "docs" / "schema.md").read_text(encoding="utf-8")
    for table in schema.TABLES:
        section = text.partition(f"### `{table.name}`")[2].partition("\n#")[0]
        assert section, table.name
        assert [c for c in table.all_columns if c != "seal" and f"`{c}`" not in section] == [], table.name
    assert f"version {schema.VERSION}" in text
