"""fsck names every kind of damage, and nothing where there is none."""

from __future__ import annotations

import os
import shutil

import pytest

from builder.cache.types import PrunePolicy


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
