"""Locks of files that come and go: whoever sweeps may come at any moment, also between making a file and locking it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.content.store import ContentStore
from builder.snapshots.native import NativeSnapshotter
from builder.state import locks, scratch
from builder.state.database import Database
from builder.state.layout import Layout

Before = Callable[[Callable[[], object]], None]


@pytest.fixture
def before_the_lock(monkeypatch: pytest.MonkeyPatch) -> Before:
    """Have something done right before the next flock(2), once."""
    todo: list[Callable[[], object]] = []
    real = fcntl.flock

    def flock(fd: int, how: int) -> None:
        if todo:
            todo.pop()()
        real(fd, how)

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    return todo.append


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(str(tmp_path))
    layout.create()
    return layout


@pytest.fixture
def database(layout: Layout) -> Iterator[Database]:
    database = Database(layout.database)
    yield database
    database.close()


def test_a_blob_whose_file_is_swept_before_it_is_locked_is_stored(layout: Layout, before_the_lock: Before) -> None:
    store = ContentStore(layout)
    before_the_lock(lambda: ContentStore(layout).sweep(0.0))
    digest = store.put(b"bytes")
    assert store.read(digest) == b"bytes"
    assert os.listdir(layout.ingest) == []


def test_a_snapshot_whose_folder_is_swept_before_it_is_locked_is_made(
    layout: Layout, database: Database, before_the_lock: Before
) -> None:
    snapshotter = NativeSnapshotter(layout, database, bind=False)
    before_the_lock(NativeSnapshotter(layout, database, bind=False).sweep)
    snapshotter.prepare("new", None)
    assert snapshotter.exists("new")


def test_a_scratch_folder_that_is_swept_before_it_is_locked_is_made_anew(layout: Layout, before_the_lock: Before) -> None:
    own: list[scratch.Scratch] = []
    before_the_lock(lambda: own.append(scratch.enter(layout)))
    own.append(scratch.enter(layout))
    assert all(os.path.isdir(each.layout.tmp) for each in own)
    for each in own:
        each.close()
    assert os.listdir(layout.path("tmp")) == []


def test_what_was_renamed_or_unlinked_while_its_lock_was_waited_for_is_made_again(tmp_path: Path, before_the_lock: Before) -> None:
    path = str(tmp_path / "partial")
    before_the_lock(lambda: os.rename(path, f"{path}.done"))
    fd = locks.take(path)
    assert os.path.samestat(os.fstat(fd), os.stat(path))
    os.close(fd)


def test_what_is_left_is_locked_only_if_nobody_holds_it_and_it_is_still_there(tmp_path: Path, before_the_lock: Before) -> None:
    path, fd = locks.new_file(str(tmp_path), "x-")
    assert locks.try_lock_left(path) is None
    os.close(fd)
    left = locks.try_lock_left(path)
    assert left is not None
    os.close(left)
    before_the_lock(lambda: os.unlink(path))
    assert locks.try_lock_left(path) is None
    assert locks.try_lock_left(path) is None
    assert os.listdir(tmp_path) == []
