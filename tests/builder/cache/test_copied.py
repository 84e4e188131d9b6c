"""A store whose snapshots were lost in a copy: who gives them up, when, and what is kept."""

from __future__ import annotations

import os
import threading

import pytest

from builder.cache import copied
from builder.cache.changes import RecordChanges
from builder.cache.record import LAZY
from builder.errors import CancelledError, StoreError
from builder.files.owners import Real, chosen
from builder.snapshots.native import NativeSnapshotter
from builder.state import cancel


def damage(manager) -> None:
    """As a copy that keeps no hard links does."""
    tree = manager.layout.path("snapshots", ".canary-native", "tree")
    os.unlink(f"{tree}/linked")
    os.close(os.open(f"{tree}/linked", os.O_CREAT, 0o600))


@pytest.fixture
def store(manager, registry, step):
    """A pulled layer, a step with a blob, one without and one on that, a merge, a cache mount; closed again. Gives ids."""
    base = manager.get_by_blob(registry.layer({"a": "1"}), None)
    packed = step(manager, base, {"b": "2"})
    packed.remote()
    bare = step(manager, base, {"c": "3"})
    above = step(manager, bare, {"d": "4"})
    merged = manager.merge([base, packed])
    merged.unlazy()
    mount = manager.mounts.acquire("k", "shared")
    ids = {"base": base.id, "packed": packed.id, "bare": bare.id, "above": above.id, "merged": merged.id, "mount": mount.id}
    mount.release()
    manager.close()
    return manager, ids


def test_layers_with_a_blob_are_unpacked_again_and_the_rest_is_missed(store, opened, warnings, files_of):
    manager, ids = store
    damage(manager)
    other = opened()
    assert len(warnings) == 1
    assert "hard links: 3 cached steps dropped, 3 layers to be unpacked again" in warnings[0]
    assert {name for name, i in ids.items() if other.records.get(i) is not None} == {"base", "packed", "merged"}
    assert other.get(ids["packed"]).record.state == LAZY
    assert files_of(other.get(ids["packed"])) == {"a": "1", "b": "2"}
    assert files_of(other.get(ids["merged"])) == {"a": "1", "b": "2"}
    assert other.check.damage(verify=True) == other.check.garbage() == []
    opened()
    assert len(warnings) == 1


def test_fsck_tells_and_changes_nothing(store, opened, warnings):
    manager, ids = store
    damage(manager)
    other = opened(repair=False)
    assert [line for line in other.check.damage() if "copied without its hard links" in line]
    assert all(other.records.get(i) is not None for i in ids.values())
    assert warnings == []


class OtherSnapshotter(NativeSnapshotter):
    """Keeps the same folders by another name."""

    def __init__(self, *args, **options):
        with chosen(Named()):
            super().__init__(*args, **options)


class Named(Real):
    suffix = "-kept"


def test_snapshots_of_another_kind_are_given_up_with_a_word(store, opened, warnings, files_of):
    """A state folder that goes from a machine with overlays to a container without."""
    _, ids = store
    other = opened(kind=OtherSnapshotter)
    assert warnings == [
        f"the state folder {other.layout.root} was used with the native snapshotter, and now with native-kept:"
        " 3 cached steps dropped, 3 layers to be unpacked again"
    ]
    assert {name for name, i in ids.items() if other.records.get(i) is not None} == {"base", "packed", "merged"}
    assert files_of(other.get(ids["packed"])) == {"a": "1", "b": "2"}
    assert files_of(other.get(ids["merged"])) == {"a": "1", "b": "2"}
    assert other.check.damage(verify=True) == other.check.garbage() == []
    opened(kind=OtherSnapshotter)
    assert len(warnings) == 1


def test_who_asks_for_another_kind_by_name_costs_nobody_a_cache(store, opened, warnings, files_of):
    _, ids = store
    with pytest.raises(StoreError, match="the native-kept snapshotter was asked for, and the state folder"):
        opened(kind=OtherSnapshotter, asked_for=True)
    again = opened()
    assert all(again.records.get(i) is not None for i in ids.values())
    assert files_of(again.get(ids["above"])) == {"a": "1", "c": "3", "d": "4"}
    assert warnings == []


def test_a_kill_before_snapshots_of_another_kind_are_given_up_is_noticed(store, opened, warnings, monkeypatch):
    """The canary that shows whose they are stays until their rows have gone."""
    manager, ids = store

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(copied.CopiedStore, "_judge", killed)
        with pytest.raises(Killed):
            opened(kind=OtherSnapshotter)
    assert os.path.isdir(manager.layout.path("snapshots", ".canary-native"))
    again = opened()
    assert all(again.records.get(i) is not None for i in ids.values())
    assert warnings == []


def test_two_kinds_never_use_a_store_at_once(opened):
    """The first one has no snapshot yet that could be looked at."""
    opened()
    token, told = cancel.Token(), []

    def tell(text):
        told.append(text)
        token.set()

    with cancel.scope(token), pytest.raises(CancelledError):
        opened(kind=OtherSnapshotter, warn=tell)
    assert "waiting for the builds that use it" in told[0]


@pytest.mark.parametrize("at", ["removed", "trust"])
def test_a_kill_while_snapshots_are_given_up_leaves_the_rest_to_the_next(store, opened, warnings, files_of, monkeypatch, at):
    """Before and after the canary is made anew."""
    manager, ids = store
    damage(manager)

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RecordChanges if at == "removed" else type(manager.snapshotter), at, killed)
        with pytest.raises(Killed):
            opened()
    other = opened()
    assert files_of(other.get(ids["packed"])) == {"a": "1", "b": "2"}
    assert other.records.get(ids["bare"]) is None
    other.collector.prune([])
    assert other.check.damage(verify=True) == other.check.garbage() == []


def test_of_several_that_open_it_at_once_one_gives_up_and_all_go_on(store, opened):
    """Each in a process of its own; what they say is counted."""
    manager, ids = store
    damage(manager)
    start, go = os.pipe()
    told, tell = os.pipe()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(go)
                os.read(start, 1)
                said = []
                other = opened(warn=said.append)
                os.write(tell, b"w" * len([text for text in said if "dropped" in text]) + b"o")
                code = 0 if other.get(ids["packed"]).record.state == LAZY else 2
            finally:
                os._exit(code)
        children.append(child)
    os.close(start)
    os.close(go)
    os.close(tell)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    with os.fdopen(told, "rb") as pipe:
        assert sorted(pipe.read()) == sorted(b"w" + b"o" * 6)
    assert opened().check.damage(verify=True) == []


def test_whoever_gives_up_waits_for_those_who_use_the_snapshots(store, opened, warnings, monkeypatch):
    manager, ids = store
    user = opened()
    held = user.get(ids["bare"])
    damage(manager)
    monkeypatch.setattr(copied, "_PATIENCE", 1)
    waiting = threading.Event()
    warnings_before = len(warnings)
    later = []

    def notice(text):
        later.append(text)
        waiting.set()

    thread = threading.Thread(target=lambda: opened(warn=notice))
    thread.start()
    assert waiting.wait(60)
    assert "waiting for the builds that use it" in later[0]
    assert user.exists(held.id)
    held.release()
    user.close()
    thread.join(60)
    assert "dropped" in later[-1]
    assert len(warnings) == warnings_before


class TestAStoreFromBeforeThereWereCanaries:
    @pytest.fixture
    def old(self, store):
        from builder.files.trees import remove_tree

        manager, ids = store
        remove_tree(manager.layout.path("snapshots", ".canary-native"))
        return manager, ids

    def test_is_trusted_if_what_its_steps_made_is_untouched(self, old, opened, warnings):
        manager, ids = old
        other = opened()
        assert warnings == []
        assert all(other.records.get(i) is not None for i in ids.values())
        assert os.path.isdir(manager.layout.path("snapshots", ".canary-native"))

    def test_is_not_trusted_if_the_kernel_saw_a_change_since(self, old, opened, warnings):
        manager, ids = old
        with manager.database.transaction() as c:
            for record in manager.records.all().values():
                manager.records.update(c, record.id, created_at_ns=record.created_at_ns - 1000 * 10**9)
        other = opened()
        assert "not known whether its files are as they were made" in warnings[0]
        assert other.records.get(ids["bare"]) is None
        assert other.records.get(ids["mount"]) is None

    def test_is_not_trusted_if_no_step_tells(self, old, opened, warnings):
        manager, ids = old
        with manager.database.transaction() as c:
            c.execute("DELETE FROM records WHERE id NOT IN (?, ?)", (ids["base"], ids["merged"]))
        assert opened().get(ids["base"]).record.state == LAZY
        assert len(warnings) == 1
