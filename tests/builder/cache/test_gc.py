"""Collection by buildkitd's rules, disk usage, filters."""

from __future__ import annotations

import os
import time

import pytest

from builder.cache.filters import compile_filters, parse
from builder.cache.prune import keep_bytes, order
from builder.cache.types import PrunePolicy, UsageRecord
from builder.errors import UsageError
from builder.oci.digest import Digest
from builder.state.schema import RECORDS, REF_CHECKSUMS
from tests.support.rows import change

ALL = PrunePolicy(all=True)


def line(name="x", **changes):
    values = {
        "id": name, "parents": (), "size": 1, "mutable": False, "in_use": False, "created_at_ns": 0, "last_used_at_ns": 1,
        "usage_count": 1, "description": "", "record_type": "regular", "shared": False,
    }  # fmt: skip
    return UsageRecord(**(values | changes))


def records(manager):
    return {x.id: x for x in manager.collector.disk_usage() if x.record_type != "internal"}


def set_used(manager, ref, ago, count=1):
    """As if the record had been used ``count`` times, last ``ago`` seconds ago."""
    manager.collector.disk_usage()
    change(manager.database, RECORDS, {"id": ref.id}, last_used_ns=time.time_ns() - ago * 10**9, usage_count=count)


# ------------------------------------------------------------------------------------------------------------- pruning
def test_children_go_before_parents_and_everything_with_them(manager, step):
    base = step(manager, None, {"a": "1"})
    top = step(manager, base, {"b": "2"})
    blobs = [x.descriptor.digest for x in top.remote()]
    base.release()
    top.release()
    assert [x.id for x in manager.collector.prune([ALL])] == [top.id, base.id]
    assert records(manager) == {}
    assert list(manager.snapshotter.keys()) == []
    assert not any(manager.content.has(b) for b in blobs)
    assert manager.check.damage() == []


def test_what_is_in_use_stays_with_all_it_stands_on(manager, opened, step):
    base = step(manager, None, {"a": "1"})
    top = step(manager, base, {"b": "2"})
    side = step(manager, base, {"c": "3"})
    base.release()
    side.release()
    for one in (opened(), manager):
        gone = one.collector.prune([ALL])
    assert [x.id for x in gone] == [side.id]
    usage = records(manager)
    assert usage[base.id].in_use
    assert usage[top.id].in_use


def test_a_snapshot_that_two_records_share_goes_with_the_second(manager, registry, files_of):
    files = {"a": "1" * 3000}
    first, second = (manager.get_by_blob(registry.layer(files, level=n), None) for n in (1, 9))
    first.unlazy()
    first.release()
    assert [x.id for x in manager.collector.prune([ALL])] == [first.id]
    assert files_of(second) == files
    second.release()
    manager.collector.prune([ALL])
    assert list(manager.snapshotter.keys()) == []


def test_a_blob_that_two_records_share_goes_with_the_second(manager, registry):
    layer = registry.layer({"a": "1"})
    below = manager.get_by_blob(layer, None)
    above = manager.get_by_blob(layer, manager.get_by_blob(registry.layer({"b": "2"}), None))
    above.unlazy()
    below.release()
    manager.collector.prune([ALL])
    assert manager.content.has(layer.descriptor.digest)


def test_keep_duration_spares_what_was_used_lately(manager, step):
    old, new = step(manager, None, {"a": "1"}), step(manager, None, {"b": "2"})
    old.release()
    new.release()
    set_used(manager, old, ago=7200)
    assert [x.id for x in manager.collector.prune([PrunePolicy(keep_duration_ns=3600 * 10**9)])] == [old.id]


def test_filters_choose(manager, step):
    local = step(manager, None, {"a": "1"}, record_type="source.local")
    regular = step(manager, None, {"b": "2"})
    local.release()
    regular.release()
    assert [x.id for x in manager.collector.prune([PrunePolicy(filters=("type==source.local",))])] == [local.id]
    assert [x.id for x in manager.collector.prune([PrunePolicy(filters=(f"id~=^{regular.id[:6]}",))])] == [regular.id]


def test_without_all_internal_and_shared_records_stay(manager, registry, step):
    roots: list[Digest] = []
    manager.gc_roots.append(lambda: roots)
    internal = step(manager, None, {"a": "1"}, record_type="internal")
    shared = manager.get_by_blob(registry.layer({"b": "2"}), None)
    shared.unlazy()
    roots.append(shared.remote()[0].descriptor.digest)
    internal.release()
    shared.release()
    assert records(manager)[shared.id].shared
    assert manager.collector.prune([PrunePolicy()]) == []
    assert {x.id for x in manager.collector.prune([ALL])} == {internal.id, shared.id}
    assert manager.content.has(roots[0])


def test_usage_above_the_bound_goes_least_used_first(manager, step):
    refs = [step(manager, None, {"f": "x" * 200_000}) for _ in range(4)]
    for age, ref in enumerate(refs):
        ref.finalize()
        ref.release()
        set_used(manager, ref, ago=1000 - 100 * age)
    size = records(manager)[refs[0].id].size
    assert size > 200_000
    gone = manager.collector.prune([PrunePolicy(max_used_space=2 * size + 1)])
    assert [x.id for x in gone] == [refs[0].id, refs[1].id]
    assert manager.collector.prune([PrunePolicy(max_used_space=100 * size)]) == []


def test_pruning_stops_when_its_time_is_over(manager, step):
    for number in range(40):
        step(manager, None, {"f": str(number)}).release()
    gone = manager.collector.prune([ALL], seconds=0)
    assert 0 < len(gone) < 40


def test_what_goes_is_told_as_it_goes(manager, step):
    ref = step(manager, None, {"a": "1"})
    ref.release()
    told: list[UsageRecord] = []
    assert manager.collector.prune([ALL], removed=told.append) == told


def test_checksums_of_pruned_records_are_forgotten(manager, step):
    from builder.files.types import ChecksumOptions

    ref = step(manager, None, {"a": "1"})
    ref.checksum("/", ChecksumOptions())
    ref.release()
    manager.collector.prune([ALL])
    assert manager.database.select(REF_CHECKSUMS) == []


@pytest.mark.parametrize(
    ("policy", "total", "free", "keep"),
    [
        (PrunePolicy(), 100, 0, 0),
        (PrunePolicy(max_used_space=50), 100, 1000, 50),
        (PrunePolicy(max_used_space=50, reserved_space=80), 100, 1000, 80),
        (PrunePolicy(reserved_space=80), 100, 1000, 80),
        (PrunePolicy(min_free_space=30), 100, 10, 80),
        (PrunePolicy(min_free_space=30), 100, 40, 100),
        (PrunePolicy(min_free_space=30, max_used_space=60), 100, 10, 60),
        (PrunePolicy(min_free_space=90, max_used_space=60), 100, 10, 20),
        (PrunePolicy(min_free_space=90, max_used_space=60, reserved_space=40), 100, 10, 40),
    ],
)
def test_how_much_may_stay(policy, total, free, keep):
    assert keep_bytes(policy, total, free) == keep


def test_old_and_seldom_used_go_first():
    three = line("old", last_used_at_ns=1), line("new", last_used_at_ns=9), line("seldom", last_used_at_ns=9, usage_count=1)
    ranks = order(three)
    assert ranks["old"] < ranks["new"] == ranks["seldom"]
    lines = [line("often", last_used_at_ns=5, usage_count=9), line("once", last_used_at_ns=5), line("never", last_used_at_ns=None)]
    ranks = order(lines)
    assert ranks["never"] < ranks["once"] < ranks["often"]


# ---------------------------------------------------------------------------------------------------------- disk usage
def test_usage_adds_up_to_what_the_disk_holds(manager, registry, step):
    for number in range(3):
        manager.get_by_blob(registry.layer({f"{number}/{n}": "y" * 50_000 for n in range(20)}), None).unlazy()
    step(manager, None, {"big": "z" * 3_000_000}).remote()
    told = sum(x.size for x in manager.collector.disk_usage())
    real = 0
    for folder, _, files in os.walk(manager.layout.root):
        real += sum(os.lstat(os.path.join(folder, name)).st_blocks * 512 for name in [*files, "."])
    assert abs(told - real) < 0.05 * real


def test_a_record_shows_its_parents_use_and_description(manager, step):
    base = step(manager, None, {"a": "1"}, description="one")
    top = step(manager, base, {"b": "2"}, description="two")
    base.release()
    top.release()
    usage = records(manager)[top.id]
    assert (usage.parents, usage.description, usage.usage_count, usage.in_use) == ((base.id,), "two", 1, False)
    assert usage.last_used_at_ns is not None


# -------------------------------------------------------------------------------------------------------------- filters
@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("type==regular", True),
        ("type!=regular", False),
        ("id~=^x$,type==regular", True),
        ("id==y,type==regular", False),
        ('description=="a, \\"b\\""', True),
        ("inuse", False),
        ("immutable", True),
        ("private", True),
        ("shared", False),
        ("parents", False),
        ("unknown", False),
        ("unknown!=x", True),
        ("unknown==x", False),
    ],
)
def test_filters_match_as_containerds(text, matches):
    assert compile_filters([text])(line(description='a, "b"')) is matches


def test_one_of_several_filters_is_enough():
    assert compile_filters(["id==y", "id==x"])(line())
    assert compile_filters([])(line())


@pytest.mark.parametrize("text", ["=", "id==", "id=x", "id==x,", "id~=[", "id == x y", '"'])
def test_malformed_filters_are_refused(text):
    with pytest.raises(UsageError, match="filter"):
        parse(text)


# ---------------------------------------------------------------------------------------------------- git repositories
def repository(manager, name="r"):
    path = os.path.join(manager.layout.git, name)
    os.makedirs(path)
    with open(os.path.join(path, "pack"), "w", encoding="utf-8") as file:
        file.write("x" * 100_000)
    return path


def test_git_repositories_are_counted_and_pruned(manager):
    path = repository(manager)
    assert records(manager)["git-r"].size > 100_000
    assert [x.id for x in manager.collector.prune([ALL])] == ["git-r"]
    assert not os.path.exists(path)
    assert os.listdir(manager.layout.tmp) == []


def test_a_git_repository_in_use_stays(manager):
    from builder.state.locks import locked

    path = repository(manager)
    with locked(os.path.join(manager.layout.locks, "git-r")):
        assert records(manager)["git-r"].in_use
        assert manager.collector.prune([ALL]) == []
    assert os.path.exists(path)


# ----------------------------------------------------------------------------------------------------- after each build
def test_after_a_build_that_added_nothing_nothing_is_collected(manager, opened, step):
    step(manager, None, {"a": "1"}).release()
    manager.close()
    assert opened().collector.collect([ALL], seconds=9) == []
    assert len(opened().collector.prune([ALL])) == 1


def test_builds_collect_once_a_minute(manager, step):
    first = step(manager, None, {"a": "1"})
    first.release()
    assert [x.id for x in manager.collector.collect([ALL], seconds=9)] == [first.id]
    second = step(manager, None, {"b": "1"})
    second.release()
    assert manager.collector.collect([ALL], seconds=9) == []
    long_ago = time.time() - 61
    os.utime(manager.layout.path("locks", "collect"), (long_ago, long_ago))
    third = step(manager, None, {"c": "1"})
    third.release()
    assert {x.id for x in manager.collector.collect([ALL], seconds=9)} == {second.id, third.id}


def test_a_big_cache_mount_is_measured_once_after_each_use(manager):
    ref = manager.mounts.acquire("k", "shared")
    ref.release()
    records(manager)
    walked: list[str] = []
    usage = manager.snapshotter.usage
    manager.snapshotter.usage = lambda key: walked.append(key) or usage(key)
    records(manager)
    assert walked == []
    manager.mounts.acquire("k", "shared").release()
    records(manager)
    assert walked == [ref.record.snapshot]
