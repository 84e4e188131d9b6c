"""A damaged database is written anew with what is sound in it, by a process that has it to itself; that never fails itself."""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.errors import CancelledError, DamagedStoreError, SourceError, StepError, StoreError, UsageError
from builder.state import recovery, salvage, schema
from builder.state.database import ASIDE, Database, Mark, inode, mark
from builder.state.layout import Layout
from builder.state.locks import try_lock
from builder.state.recovery import is_damaged
from builder.state.salvage import NEW, unsound, write_anew
from tests.support.pages import overwrite, read_pages
from tests.support.rows import garble

MANY = 3000


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(str(tmp_path / "root"))
    layout.create()
    return layout


@pytest.fixture
def filled(layout: Layout) -> Layout:
    """Some rows in two tables, one of them of many pages; nobody has it open."""
    database = Database(layout.database)
    with database.transaction() as c:
        database.put(c, schema.GIT_SNAPSHOTS, [(str(n), "ref") for n in range(4)])
        database.put(c, schema.REF_CHECKSUMS, [(f"{n:05}", b"what", "digest") for n in range(MANY)])
        database.put(c, schema.LEASES, [("dead", 1.5)])
    database.close()
    return layout


@contextmanager
def entered(layout: Layout) -> Iterator[recovery.Entered]:
    found = recovery.enter(layout)
    yield found
    found.database.close()
    os.close(found.lock)


def rows(layout: Layout) -> int:
    database = Database(layout.database)
    count = len(database.select(schema.REF_CHECKSUMS))
    database.close()
    return count


# ----------------------------------------------------------------------------------------------------- writing it anew
def test_sound_rows_are_saved_and_others_are_not(filled: Layout) -> None:
    database = Database(filled.database)
    garble(database, schema.REF_CHECKSUMS, {"ref": "00007"}, digest="other")
    database.close()
    write_anew(filled.database, salvage=True)
    assert rows(filled) == MANY - 1
    assert unsound(filled.database) == ""
    assert os.path.exists(filled.database + ASIDE)


def test_rows_on_both_sides_of_a_damaged_page_are_saved(filled: Layout) -> None:
    pages = read_pages(filled.database)
    leaves = pages.leaves["ref_checksums"]
    overwrite(filled.database, (leaves[len(leaves) // 2] - 1) * pages.size, b"\xff" * pages.size)
    assert unsound(filled.database) != ""
    write_anew(filled.database, salvage=True)
    assert MANY * 0.9 < rows(filled) < MANY


def test_what_means_nothing_without_its_process_is_not_saved(filled: Layout) -> None:
    write_anew(filled.database, salvage=True)
    assert Database(filled.database).select(schema.LEASES) == []


def test_without_salvage_nothing_is_saved(filled: Layout) -> None:
    write_anew(filled.database, salvage=False)
    assert rows(filled) == 0


def test_what_is_only_in_the_log_is_saved_and_the_log_does_not_stay(filled: Layout, tmp_path: Path) -> None:
    """As a process leaves it that was killed: copied while it was open."""
    database = Database(filled.database)
    with database.transaction() as c:
        database.put(c, schema.REF_CHECKSUMS, [("in the log", b"", "digest")])
    copy = Layout(str(tmp_path / "copy"))
    copy.create()
    for part in salvage.PARTS:
        Path(copy.database + part).write_bytes(Path(filled.database + part).read_bytes())
    database.close()
    write_anew(copy.database, salvage=True)
    assert not os.path.exists(copy.database + "-wal")
    assert rows(copy) == MANY + 1


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_in_the_file_it_is_written_anew(filled: Layout, seed: int) -> None:
    choose = random.Random(seed)
    size = os.path.getsize(filled.database)
    if seed % 3 == 0:
        Path(filled.database).write_bytes(choose.randbytes(choose.choice([0, 1, 99, 4096, 100_000])))
    for _ in range(choose.randint(1, 40)):
        overwrite(filled.database, choose.randrange(size), choose.randbytes(choose.choice([1, 40, 4096])))
    if seed % 2:
        overwrite(filled.database, choose.randrange(4096), choose.randbytes(40))
    write_anew(filled.database, salvage=True)
    assert unsound(filled.database) == ""
    rows(filled)


def test_a_disk_that_is_full_leaves_the_old_file(filled: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path(filled.database).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_anew(filled.database, salvage=True)
    assert Path(filled.database).read_bytes() == before


# ------------------------------------------------------------------------------------------------------------- entering
def test_a_sound_database_is_opened_as_it_is(filled: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    before = inode(filled.database)
    with entered(filled) as found:
        assert not found.look_over
        assert inode(filled.database) == before
    assert capsys.readouterr().err == ""


def suspected(layout: Layout) -> None:
    """A process has found a damaged row, and told so."""
    database = Database(layout.database, warn=lambda _: None)
    garble(database, schema.REF_CHECKSUMS, {"ref": "00007"}, digest="other")
    database.select(schema.REF_CHECKSUMS)
    database.close()


def test_the_next_process_is_past_damaged_rows_and_says_nothing_more(filled: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    suspected(filled)
    with entered(filled) as found:
        assert found.look_over
        assert len(found.database.select(schema.REF_CHECKSUMS)) == MANY - 1
        assert not found.database.is_suspect
    assert capsys.readouterr().err == ""


def test_the_store_is_looked_over_until_that_was_done(filled: Layout) -> None:
    suspected(filled)
    for _ in range(2):
        with entered(filled) as found:
            assert found.look_over
            file = inode(filled.database)
    recovery.done(filled)
    with entered(filled) as found:
        assert not found.look_over
        assert inode(filled.database) == file, "written anew once"


def test_beside_others_a_process_works_on_with_damaged_rows(filled: Layout) -> None:
    suspected(filled)
    other = try_lock(filled.path("locks", "database"), shared=True)
    assert other is not None
    before = inode(filled.database)
    with entered(filled) as found:
        assert inode(filled.database) == before
        assert len(found.database.select(schema.GIT_SNAPSHOTS)) == 4
    os.close(other)
    with entered(filled):
        assert inode(filled.database) != before


def test_a_file_that_is_no_database_is_written_anew_with_one_warning(
    filled: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    overwrite(filled.database, 0, b"no SQLite")
    with entered(filled) as found:
        assert found.look_over
        assert found.database.select(schema.GIT_SNAPSHOTS) == []
    assert capsys.readouterr().err.count("warning:") == 1


def test_a_crash_between_the_renames_is_gone_on_from(filled: Layout) -> None:
    """The old file is aside, the new one is whole and has not got its name yet."""
    os.mkdir(filled.path("snapshots", "some"))
    with sqlite3.connect(filled.database) as c:
        c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    c.close()
    os.rename(filled.database, filled.database + NEW)
    with entered(filled) as found:
        assert len(found.database.select(schema.GIT_SNAPSHOTS)) == 4


def test_a_new_file_of_a_crash_is_not_taken_for_the_one_that_is_there(filled: Layout) -> None:
    Path(filled.database + NEW).write_bytes(b"left by a crash")
    mark(filled.database, Mark(inode(filled.database), alone=True, told=False))
    with entered(filled) as found:
        assert len(found.database.select(schema.GIT_SNAPSHOTS)) == 4


def test_a_lost_database_is_noticed_by_the_snapshots_that_are_there(filled: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkdir(filled.path("snapshots", "some"))
    os.unlink(filled.database)
    with entered(filled) as found:
        assert found.look_over
    assert "is empty" in capsys.readouterr().err
    recovery.done(filled)
    with entered(filled) as found:
        assert not found.look_over


# ------------------------------------------------------------------------------------------------ what is taken for damage
def sqlite_error(layout: Layout, sql: str) -> StoreError:
    database = Database(layout.database)
    try:
        database.rows(sql)
    except StoreError as e:
        return e
    finally:
        database.close()
    raise AssertionError(sql)


def test_errors_are_no_damage_while_the_database_is_sound(filled: Layout) -> None:
    for error in (KeyError("x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), StoreError("x"), SourceError("x"), TypeError("x")):
        assert not is_damaged(error, filled.database)
    assert not is_damaged(sqlite_error(filled, "SELECT nothing FROM nowhere"), filled.database)


def test_any_error_that_lost_rows_may_cause_is_damage_where_the_database_is_damaged(filled: Layout) -> None:
    suspected(filled)
    for error in (KeyError("x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), StoreError("x"), SourceError("x"), TypeError("x")):
        assert is_damaged(error, filled.database)
    for error in (UsageError("x"), StepError("x"), CancelledError("x"), OSError(2, "x")):
        assert not is_damaged(error, filled.database)
    assert is_damaged(DamagedStoreError("x"), filled.database)


def test_a_table_that_is_gone_from_the_schema_is_damage(filled: Layout) -> None:
    with sqlite3.connect(filled.database) as c:
        c.execute("DROP TABLE git_snapshots")
    c.close()
    assert is_damaged(sqlite_error(filled, "SELECT * FROM git_snapshots"), filled.database)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR])
def test_errors_of_the_moment_are_no_damage(filled: Layout, code: int) -> None:
    suspected(filled)
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    assert not is_damaged(error, filled.database)


def test_a_damaged_file_is_written_anew_twice_and_then_the_error_is_told(
    filled: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time without saving anything: whatever it was, it is not in what is saved."""
    started: list[str] = []
    monkeypatch.setattr(os, "execv", lambda *_: started.append(os.environ["PYBUILD_DAMAGED"]))
    monkeypatch.setenv("PYBUILD_DAMAGED", "")
    monkeypatch.delenv("PYBUILD_DAMAGED")
    for _ in range(4):
        recovery.restart(DamagedStoreError("x"), filled.database)
    assert started == [inode(filled.database), inode(filled.database) + "+"]
    with entered(filled) as found:
        assert found.database.select(schema.GIT_SNAPSHOTS) == []


def test_processes_that_wait_to_be_alone_do_not_wait_for_one_another(filled: Layout) -> None:
    mark(filled.database, Mark(inode(filled.database), alone=True, told=False))
    found: list[recovery.Entered] = []
    threads = [threading.Thread(target=lambda: found.append(recovery.enter(filled))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [len(e.database.select(schema.GIT_SNAPSHOTS)) for e in found] == [4] * 4
    for e in found:
        os.close(e.lock)


def test_who_waited_to_be_alone_goes_on_once_another_has_mended_the_database(
    filled: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has it open until its build ends: to wait for that would be for nothing."""
    mark(filled.database, Mark(inode(filled.database), alone=True, told=False))
    try_lock_fd, decided, mended = recovery.locks.try_lock_fd, threading.Event(), threading.Event()

    def late(fd: int, *, shared: bool = False) -> bool:
        if threading.current_thread() is waiting and not shared:
            try_lock_fd(fd, shared=True)
            fcntl.flock(fd, fcntl.LOCK_UN)
            decided.set()
            assert mended.wait(60)
        return try_lock_fd(fd, shared=shared)

    found: list[recovery.Entered] = []
    waiting = threading.Thread(target=lambda: found.append(recovery.enter(filled)))
    monkeypatch.setattr(recovery.locks, "try_lock_fd", late)
    waiting.start()
    assert decided.wait(60)
    with entered(filled):
        mended.set()
        waiting.join(60)
        assert [len(e.database.select(schema.GIT_SNAPSHOTS)) for e in found] == [4]
    for e in found:
        os.close(e.lock)


def test_damage_that_sqlite_finds_is_past_for_whoever_opens_the_root_next(filled: Layout) -> None:
    """Also where no command line starts itself again: in a program that uses the library."""
    pages = read_pages(filled.database)
    overwrite(filled.database, (pages.leaves["git_snapshots"][0] - 1) * pages.size, b"\xff" * pages.size)
    with entered(filled) as found, pytest.raises(StoreError):
        found.database.select(schema.GIT_SNAPSHOTS)
    with entered(filled) as found:
        assert found.look_over
        assert found.database.select(schema.GIT_SNAPSHOTS) == []
        assert len(found.database.select(schema.REF_CHECKSUMS)) == MANY


def test_who_was_told_of_damaged_rows_is_not_told_again_when_more_is_damaged(
    filled: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    suspected(filled)
    database = Database(filled.database)
    database.suspect("rows")
    pages = read_pages(filled.database)
    overwrite(filled.database, (pages.leaves["git_snapshots"][0] - 1) * pages.size, b"\xff" * pages.size)
    with pytest.raises(StoreError):
        database.select(schema.GIT_SNAPSHOTS)
    database.close()
    with entered(filled) as found:
        assert len(found.database.select(schema.REF_CHECKSUMS)) == MANY - 1
    assert capsys.readouterr().err.count("warning:") == 1


def test_where_there_is_no_room_for_what_could_be_saved_an_empty_database_will_do(
    filled: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspected(filled)
    real = os.fsync

    def full(fd: int) -> None:
        if os.fstat(fd).st_size > 200_000:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with entered(filled) as found:
        assert found.look_over
        assert found.database.select(schema.GIT_SNAPSHOTS) == []
