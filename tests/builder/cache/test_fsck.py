"""fsck names every kind of damage, and nothing where there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from builder.cache.types import PrunePolicy
from builder.files.tar import CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry, TarWriter


@pytest.fixture
def store(manager, registry, step):
    """A store with a bit of everything, all of it sound."""
    base = manager.get_by_blob(registry.layer({"a": "1"}), None)
    top = step(manager, base, {"b": "2"})
    top.remote()
    manager.merge([base, top]).unlazy()
    manager.diff(step(manager, None, {"x": "1"}), top).unlazy()
    manager.get_by_blob(registry.layer({"lazy": "1"}), None)
    manager.mounts.acquire("k", "shared").release()
    assert manager.check.damage(verify=True) == []
    return manager, base, top


def test_missing_files(store):
    manager, base, _ = store
    shutil.rmtree(manager.layout.path("snapshots", base.record.snapshot))
    assert any(base.id in p and "missing" in p for p in manager.check.damage())


def test_a_truncated_and_a_rotten_blob(store):
    manager, _, top = store
    digest = top.remote()[-1].descriptor.digest
    path = manager.content.path(digest)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.write(b"xx")
    assert manager.check.damage() == []
    assert manager.check.damage(verify=True) == [f"blob {digest}: its bytes have another digest"]
    os.truncate(path, 3)
    assert any(f"blob {digest}: 3 bytes" in p for p in manager.check.damage())


def test_a_missing_parent(store):
    manager, base, top = store
    with manager.database.transaction() as c:
        c.execute("DELETE FROM records WHERE id = ?", (base.id,))
    problems = manager.check.damage()
    assert f"record {top.id}: its parent {base.id} is missing" in problems
    assert "metadata database: blob_records does not fit the records" in problems


def test_leftovers(store):
    manager, *_ = store
    digest = manager.content.put(b"orphan")
    manager.snapshotter.prepare("stray", None)
    os.mkdir(manager.layout.path("snapshots", "folder"))
    assert manager.check.damage() == []
    assert manager.check.garbage() == [
        f"blob {digest}: nothing names it",
        "snapshot folder folder: no snapshot",
        "snapshot stray: no record names it",
    ]


def test_a_sound_store_is_sound_after_everything_was_pruned(store, opened):
    manager, *_ = store
    manager.close()
    other = opened()
    other.collector.prune([PrunePolicy(all=True)])
    assert other.check.damage(verify=True) == []
    assert list(other.content.walk()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"X"),
        lambda path: path.write_bytes(b"longer"),
        lambda path: path.chmod(0o600),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("a")),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
@pytest.mark.parametrize("of", ["pulled", "made"])
def test_files_that_are_not_those_of_the_blob(store, of, change):
    manager, base, top = store
    record, name = (base, "a") if of == "pulled" else (top, "b")
    path = Path(manager.layout.path("snapshots", record.record.snapshot, "fs", name))
    status = path.stat()
    change(path)
    if path.exists():
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
    assert manager.check.damage() == []
    found = manager.check.damage(verify=True)
    assert any(p.startswith(f"record {record.id}: /{name} is not what blob sha256:") for p in found), found


@pytest.mark.skipif(os.geteuid() != 0, reason="makes devices")
def test_a_layer_of_every_kind_of_file_is_what_its_blob_has(manager, registry):
    below = registry.layer({"gone": "1", "d/old": "1", "kept/f": "1", "l/x": "1"})
    members = [
        Entry("d/", DIR, 0o700, 1, 2), Entry(".wh.gone"), Entry("d/.wh..wh..opq"), Entry("f", REG, 0o4755, 5, 6, size=3),
        Entry("hard", LINK, 0o4711, 9, 9, linkname="f"), Entry("link", SYMLINK, 0o777, 7, 8, linkname="/nowhere"),
        Entry("null", CHAR, 0o666, devmajor=1, devminor=3), Entry("pipe", FIFO, 0o600),
        Entry("twice/", DIR), Entry("twice/f", REG), Entry("twice", REG, size=3), Entry("l", SYMLINK, linkname="kept"),
        Entry("kept/", DIR, 0o755), Entry("l/new", REG, size=3), Entry("kept/lower", LINK, linkname="kept/f"),
    ]  # fmt: skip
    out: list[bytes] = []
    writer = TarWriter(out.append)
    for entry in members:
        writer.add(entry, [b"abc"] if entry.size else ())
    writer.close()
    ref = manager.get_by_blob(registry.stored(b"".join(out)), manager.get_by_blob(below, None))
    ref.unlazy()
    assert manager.check.damage(verify=True) == []
    snapshot = manager.layout.path("snapshots", ref.record.snapshot, "fs")
    Path(snapshot, "gone").touch()
    assert [p.split(" is ")[0] for p in manager.check.damage(verify=True)] == [f"record {ref.id}: /gone"]
