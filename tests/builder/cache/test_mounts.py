"""Cache mounts: persistent folders with three ways of sharing."""

from __future__ import annotations

import os
import threading

import pytest

from builder.cache.types import PrunePolicy
from builder.errors import CancelledError, UnsupportedError
from builder.state.cancel import Token, scope


def write(ref, name, text="x"):
    with ref.mount() as root, open(os.path.join(root, name), "w", encoding="utf-8") as file:
        file.write(text)


def names(ref):
    with ref.mount() as root:
        return sorted(os.listdir(root))


def test_files_stay_for_the_next_build(manager, opened):
    first = manager.mounts.acquire("apt", "shared")
    write(first, "a")
    first.release()
    manager.close()
    again = opened().mounts.acquire("apt", "locked")
    assert again.id == first.id
    assert names(again) == ["a"]


def test_keys_have_folders_of_their_own(manager):
    assert manager.mounts.acquire("a", "shared").id != manager.mounts.acquire("b", "shared").id


def test_shared_is_one_folder_for_threads_and_processes(manager, opened):
    one, two, three = [m.mounts.acquire("k", "shared") for m in (manager, manager, opened())]
    assert one.id == two.id == three.id


def test_private_is_a_folder_that_nobody_else_uses(manager, opened):
    one, two, three = [m.mounts.acquire("k", "private") for m in (manager, manager, opened())]
    assert len({one.id, two.id, three.id}) == 3
    two.release()
    assert manager.mounts.acquire("k", "private").id == two.id


def test_shared_does_not_join_a_private_one(manager):
    private = manager.mounts.acquire("k", "private")
    assert manager.mounts.acquire("k", "shared").id != private.id


@pytest.mark.parametrize("held", ["shared", "private", "locked"])
def test_locked_waits_until_nobody_uses_the_folder(manager, opened, held):
    first = manager.mounts.acquire("k", held)
    got, began = [], threading.Event()

    class Watched(Token):
        def wait(self, timeout=None):
            began.set()
            return super().wait(timeout)

    def take():
        with scope(Watched()):
            got.append(other.mounts.acquire("k", "locked"))

    thread = threading.Thread(target=take)
    other = opened()
    thread.start()
    assert began.wait(10)
    assert got == []
    first.release()
    thread.join(10)
    assert got[0].id == first.id


def test_waiting_ends_when_the_build_is_cancelled(manager):
    first = manager.mounts.acquire("k", "locked")
    cancelled = Token()
    cancelled.set()
    with pytest.raises(CancelledError), scope(cancelled):
        manager.mounts.acquire("k", "locked")
    first.release()


def test_an_unknown_sharing_is_refused(manager):
    with pytest.raises(UnsupportedError, match="sharing"):
        manager.mounts.acquire("k", "often")


def test_a_base_gives_the_first_files_and_is_part_of_the_key(manager, step):
    base = step(manager, None, {"seed": "1"})
    plain, seeded = manager.mounts.acquire("k", "shared"), manager.mounts.acquire("k", "shared", base)
    assert plain.id != seeded.id
    assert names(seeded) == ["seed"]


def test_a_shared_mount_on_a_base_is_shared_by_threads_only(manager, opened, step):
    base = step(manager, None, {"seed": "1"})
    one, two = manager.mounts.acquire("k", "shared", base), manager.mounts.acquire("k", "shared", base)
    other = opened()
    three = other.mounts.acquire("k", "shared", other.get(base.id))
    assert one.id == two.id != three.id
    one.release()
    assert manager.mounts.acquire("k", "shared", base).id == two.id


def test_mounts_are_counted_and_pruned_when_nobody_uses_them(manager, opened):
    ref = manager.mounts.acquire("k", "shared")
    write(ref, "a", "x" * 100_000)
    line = usage_of(manager, ref.id)
    assert (line.record_type, line.mutable, line.in_use) == ("exec.cachemount", True, True)
    for one in (manager, opened()):
        assert one.collector.prune([PrunePolicy(filters=("type==exec.cachemount",))]) == []
    ref.release()
    line = usage_of(manager, ref.id)
    assert line.size > 100_000
    assert [r.id for r in manager.collector.prune([PrunePolicy(filters=("type==exec.cachemount",))])] == [ref.id]
    fresh = manager.mounts.acquire("k", "shared")
    assert fresh.id != ref.id
    assert names(fresh) == []


def usage_of(manager, record_id):
    return next(line for line in manager.collector.disk_usage() if line.id == record_id)


def test_a_folder_that_was_lost_is_replaced(manager, opened, warnings):
    import shutil

    ref = manager.mounts.acquire("k", "shared")
    ref.release()
    shutil.rmtree(manager.layout.path("snapshots", ref.record.snapshot))
    assert opened().mounts.acquire("k", "shared").id != ref.id
    assert any("damaged" in w for w in warnings)


def test_a_forgotten_key_begins_anew_and_its_folder_is_deleted(manager):
    old = manager.mounts.acquire("k", "shared")
    write(old, "a")
    old.release()
    manager.mounts.forget("k", based=False)
    assert names(manager.mounts.acquire("k", "shared")) == []
    with pytest.raises(KeyError):
        manager.known.get(old.id)


def test_a_forgotten_folder_in_use_stays_with_its_users(manager):
    old = manager.mounts.acquire("k", "shared")
    manager.mounts.forget("k", based=False)
    write(old, "a")
    assert manager.mounts.acquire("k", "shared").id != old.id
    assert names(old) == ["a"]
    old.release()
    assert old.id in [r.id for r in manager.collector.prune([PrunePolicy(filters=("type==exec.cachemount",))])]


def test_forgetting_tells_folders_on_a_base_from_those_on_none(manager, step):
    base = step(manager, None, {"seed": "1"})
    wanted = [("k", None), ("k", base), ("k2", base)]

    def ids():
        refs = [manager.mounts.acquire(key, "shared", on) for key, on in wanted]
        for ref in refs:
            ref.release()
        return [ref.id for ref in refs]

    before = ids()
    manager.mounts.forget("k", based=True)
    assert [a == b for a, b in zip(before, ids(), strict=True)] == [True, False, True]
