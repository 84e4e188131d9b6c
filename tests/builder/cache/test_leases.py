"""What a live process uses stays, what a dead one used is swept; kill -9 at any time leaves a sound store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from builder.cache.manager import CacheManager
from builder.cache.types import PrunePolicy
from builder.errors import StoreError
from builder.oci.digest import Digest
from builder.state.schema import LEASE_RECORDS, LEASES
from tests.support.rows import change

ALL = PrunePolicy(all=True)

HOLD = """
import sys
from tests.builder.cache.test_leases import child_manager
manager = child_manager(sys.argv[1])
work = manager.new(None)
with work.mount() as folder:
    open(folder + "/f", "w").write("x" * 1000)
if sys.argv[2] == "commit":
    ref = work.commit()
print(work.id, flush=True)
sys.stdin.read()
"""

LOOP = """
import os, sys
from builder.cache.types import PrunePolicy
from builder.content.types import Compression
from tests.builder.cache.conftest import Registry
from tests.builder.cache.test_leases import child_manager
manager = child_manager(sys.argv[1])
registry = Registry()
print("ready", flush=True)
for n in range(10_000):
    lower = manager.get_by_blob(registry.layer({"common": "c" * 5000}), None)
    base = manager.get_by_blob(registry.layer({f"d/{i}": str(n % 5) * 2000 for i in range(10)}), lower)
    work = manager.new(base)
    with work.mount() as folder:
        for i in range(5):
            open(f"{folder}/{i}", "w").write(str(os.getpid()) * 100)
    ref = work.commit() if n % 3 else work.release()
    if ref is not None:
        ref.remote(Compression("gzip" if n % 2 else "zstd"))
        merged = manager.merge([lower, ref])
        merged.unlazy()
        merged.release()
        ref.release()
    manager.mounts.acquire("k", "shared" if n % 2 else "private").release()
    base.release()
    lower.release()
    if n % 4 == 3:
        manager.collector.prune([PrunePolicy(keep_duration_ns=0)])
"""


def child_manager(root: str):
    from builder.cache.manager import CacheManager
    from builder.content.store import ContentStore
    from builder.snapshots.native import NativeSnapshotter
    from builder.state.database import Database
    from builder.state.layout import Layout

    layout = Layout(root)
    layout.create()
    database = Database(layout.database)
    snapshotter = NativeSnapshotter(layout, database, bind=False)
    manager = CacheManager(layout, database, ContentStore(layout), snapshotter, warn=lambda _: None)
    manager.use_snapshots()
    return manager


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    return subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=top, **pipes)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_live_process_keeps_what_it_holds_and_a_killed_one_does_not(manager, opened):
    child = start(HOLD, manager.layout.root, "commit")
    record = child.stdout.readline().strip()
    try:
        assert manager.collector.prune([ALL]) == []
        assert next(x for x in manager.collector.disk_usage() if x.id == record).in_use
    finally:
        kill(child)
    assert [x.id for x in opened().collector.prune([ALL])] == [record]


def test_what_a_killed_process_was_writing_is_swept_at_the_next_start(manager, opened):
    child = start(HOLD, manager.layout.root, "write")
    record = child.stdout.readline().strip()
    kill(child)
    assert manager.snapshotter.exists(record)
    other = opened()
    assert not other.snapshotter.exists(record)
    assert other.check.damage() == []
    assert [n for n in os.listdir(manager.layout.locks) if n.startswith("lease-")] == []


def test_a_committed_step_of_a_killed_process_is_a_result(manager, opened, files_of):
    child = start(HOLD, manager.layout.root, "commit")
    record = child.stdout.readline().strip()
    kill(child)
    assert files_of(opened().load(record)) == {"f": "x" * 1000}


def test_a_lazy_layer_that_one_process_can_not_get_stays_for_another_that_can(manager, opened, registry, files_of):
    below = manager.get_by_blob(registry.layer({"a": "1"}), None)
    above = manager.get_by_blob(registry.layer({"b": "2"}), below)
    stranger = opened()
    assert stranger.load(above.id) is None
    again = stranger.get_by_blob(registry.layer({"a": "1"}), None)
    assert files_of(again) == {"a": "1"}
    assert files_of(above) == {"a": "1", "b": "2"}
    manager.close()
    lost = opened().get_by_blob(registry.layer({"c": "3"}), None)
    stranger.close()
    assert opened().load(lost.id) is None


def test_a_lease_without_its_file_is_dead(manager, step):
    step(manager, None, {"a": "1"}).release()
    with manager.database.transaction() as c:
        manager.database.put(c, LEASES, [("gone", 1)])
        manager.database.put(c, LEASE_RECORDS, [(record_id, "gone") for record_id in manager.records.ids()])
    assert len(manager.collector.prune([ALL])) == 1


def test_closing_gives_back_everything(manager, opened, step):
    ref = step(manager, None, {"a": "1"})
    manager.hold_blobs([Digest.of(b"x")])
    manager.close()
    other = opened()
    assert os.listdir(manager.layout.locks) == [] or not any(n.startswith("lease-") for n in os.listdir(manager.layout.locks))
    assert [x.id for x in other.collector.prune([ALL])] == [ref.id]


def test_nothing_is_held_after_a_rolled_back_transaction(manager, step):
    ref = step(manager, None, {"a": "1"})
    with pytest.raises(RuntimeError), manager.lease.transaction() as c:
        manager.lease.hold(c, "something")
        raise RuntimeError
    assert not manager.lease.holds("something")
    assert manager.lease.holds(ref.id)


def test_held_blobs_stay_and_others_go(manager, opened):
    held, orphan = manager.content.put(b"held"), manager.content.put(b"orphan")
    long_ago = time.time() - 90_000
    for digest in (held, orphan):
        os.utime(manager.content.path(digest), (long_ago, long_ago))
    manager.hold_blobs([held])
    change(manager.database, LEASES, {}, started_ns=time.time_ns())
    opened().collector.prune([ALL])
    assert manager.content.has(held)
    assert not manager.content.has(orphan)


def test_a_blob_that_a_live_process_may_have_just_put_stays(manager, opened, step):
    step(manager, None, {"a": "1"})
    fresh = manager.content.put(b"a manifest that no row names yet")
    opened().collector.prune([ALL])
    assert manager.content.has(fresh)


def test_kill_nine_at_random_instants_leaves_a_sound_store(manager, opened):
    instants = random.Random(4)
    root = manager.layout.root
    for _ in range(4):
        children = [start(LOOP, root) for _ in range(2)]
        for child in children:
            assert child.stdout.readline() == "ready\n", child.stderr.read()
        for child in children:
            try:
                child.wait(instants.uniform(0.05, 0.4))
                pytest.fail(child.stderr.read())
            except subprocess.TimeoutExpired:
                kill(child)
    other = opened()
    # What is lazy can't be had again here: its registry was the child's memory.
    told = other.check.damage(verify=True)
    assert [p for p in told if "not known where it came from" not in p and "nothing names it" not in p] == []
    other.collector.prune([ALL])
    assert other.check.damage(verify=True) == []
    assert list(other.snapshotter.keys()) == []
    assert list(other.content.walk()) == []
    leftover = [n for n in os.listdir(other.layout.snapshots) if not n.startswith((".overlay", ".canary"))]
    assert leftover == []


def test_a_sweep_that_takes_a_new_lease_for_a_dead_one_stops_nobody(manager, opened, step, monkeypatch):
    """The sweep holds the lock of the file and waits for the write transaction in which the lease is being made."""
    import fcntl

    from builder.cache import leases

    taken: list[int] = []
    real = os.open

    def open_and_lose(path, flags, *rest):
        fd = real(path, flags, *rest)
        if os.path.basename(path).startswith("lease-") and not taken:
            taken.append(real(path, os.O_RDWR))
            fcntl.flock(taken[0], fcntl.LOCK_EX)
        return fd

    monkeypatch.setattr(leases.os, "open", open_and_lose)
    ref = step(manager, None, {"a": "1"})
    os.close(taken[0])
    assert opened().collector.prune([ALL]) == []
    assert manager.exists(ref.id)


def test_while_nobody_holds_anything_every_blob_without_a_name_goes(manager):
    orphan = manager.content.put(b"orphan")
    manager.collector.prune([ALL])
    assert not manager.content.has(orphan)


class FullDisk:
    """Transactions that delete records fail until it has room."""

    def __init__(self, manager: CacheManager, monkeypatch: pytest.MonkeyPatch, *, failures: int) -> None:
        self.failures = failures
        self._delete = manager.records.delete
        monkeypatch.setattr(manager.records, "delete", self.delete)

    def delete(self, *args: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise StoreError("database or disk is full")
        return self._delete(*args)


def test_files_go_before_their_row_where_the_disk_is_full(manager: CacheManager, monkeypatch: pytest.MonkeyPatch) -> None:
    work = manager.new(None)
    snapshot, delete = work.record.snapshot, manager.records.delete

    def full(*args: Any) -> Any:
        if manager.snapshotter.exists(snapshot):
            raise StoreError("database or disk is full")
        return delete(*args)

    monkeypatch.setattr(manager.records, "delete", full)
    work.release()
    assert list(manager.snapshotter.keys()) == []
    assert manager.records.get(work.id) is None


def test_what_a_full_disk_kept_from_going_is_swept_by_the_next_process(
    opened: Callable[..., CacheManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = opened()
    work = manager.new(None)
    FullDisk(manager, monkeypatch, failures=2)
    with pytest.raises(StoreError):
        work.release()
    manager.close()
    assert manager.records.get(work.id) is not None
    assert opened().records.get(work.id) is None


def test_a_step_that_can_not_be_committed_gives_its_files_back(manager: CacheManager, monkeypatch: pytest.MonkeyPatch) -> None:
    work = manager.new(None)

    def full(*_: object, **__: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(manager.records, "update", full)
    with pytest.raises(StoreError):
        work.commit()
    work.release()
    assert list(manager.snapshotter.keys()) == []
