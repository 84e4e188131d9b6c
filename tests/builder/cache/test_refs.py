"""Life of refs: new, commit, finalize, release; what is shared, what is held, what comes back."""

from __future__ import annotations

import os

import pytest

from builder.errors import StoreError
from builder.files.types import ChecksumOptions


def test_a_committed_step_shows_its_files_over_its_parents(manager, step, files_of):
    base = step(manager, None, {"a": "1", "b": "2"})
    top = step(manager, base, {"b": "3", "c": "4", "a": None})
    assert files_of(top) == {"b": "3", "c": "4"}
    assert files_of(base) == {"a": "1", "b": "2"}


def test_commit_writes_metadata_only_and_finalize_comes_when_the_files_are_needed(manager, step):
    ref = step(manager, None, {"a": "1"})
    assert ref.record.state == "committed"
    ref.finalize()
    assert ref.record.state == "ready"
    ref.finalize()


def test_an_unfinalized_record_is_finalized_by_another_process(manager, opened, step, files_of):
    ref = step(manager, None, {"a": "1"})
    other = opened()
    assert files_of(other.get(ref.id)) == {"a": "1"}
    assert files_of(ref) == {"a": "1"}


def test_releasing_an_uncommitted_ref_leaves_nothing(manager):
    work = manager.new(None)
    work.release()
    assert list(manager.snapshotter.keys()) == []
    with pytest.raises(KeyError):
        manager.get(work.id)
    assert manager.check.damage() == []


def test_a_committed_ref_is_not_writable(manager):
    work = manager.new(None)
    work.commit()
    with pytest.raises(StoreError, match="not writable"):
        work.mount().__enter__()
    with pytest.raises(StoreError, match="can't be committed"):
        work.commit()
    work.release()
    assert manager.exists(work.id)


def test_an_uncommitted_record_is_nobodys_result(manager):
    work = manager.new(None)
    assert not manager.exists(work.id)
    assert manager.load(work.id) is None
    work.release()


def test_results_survive_the_process(manager, opened, step, files_of):
    ref = step(manager, step(manager, None, {"a": "1"}), {"b": "2"})
    saved = manager.save(ref)
    manager.close()
    other = opened()
    assert other.exists(saved)
    assert files_of(other.load(saved)) == {"a": "1", "b": "2"}
    assert not other.exists("0" * 24)
    assert other.load("0" * 24) is None


def test_release_counts_each_ref_once(manager, opened, step):
    ref = step(manager, None, {"a": "1"})
    clone = ref.clone()
    ref.release()
    ref.release()
    assert opened().collector.prune([everything()]) == []
    clone.release()
    manager.close()
    assert [r.id for r in opened().collector.prune([everything()])] == [ref.id]


def everything():
    from builder.cache.types import PrunePolicy

    return PrunePolicy(all=True)


def test_a_view_of_a_layer_needs_no_release_of_its_own(manager, step):
    top = step(manager, step(manager, None, {"a": "1"}, description="first"), {"b": "2"}, description="second")
    assert [layer.description for layer in top.layers()] == ["first", "second"]
    assert top.parent.description == "first"
    assert top.parent.parent is None
    top.layers()[0].release()
    assert top.parent.id == top.layers()[0].id


def test_the_content_hash_is_computed_once_also_for_other_processes(manager, opened, step):
    ref = step(manager, None, {"d/a": "1"})
    first = ref.checksum("/d", ChecksumOptions())
    manager.snapshotter.calls.clear()
    assert ref.checksum("/d", ChecksumOptions()) == first
    other = opened()
    assert other.get(ref.id).checksum("/d", ChecksumOptions()) == first
    assert manager.snapshotter.calls == []
    assert other.snapshotter.calls == []
    with pytest.raises(FileNotFoundError):
        ref.checksum("/no", ChecksumOptions())


def test_a_parent_that_is_gone_is_an_error_in_one_line(manager, step):
    base = step(manager, None, {"a": "1"})
    base.unlazy()
    base.release()
    with manager.lease.transaction():
        pass
    manager.collector.prune([everything()])
    with pytest.raises((KeyError, StoreError)):
        manager.new(base)


def test_a_record_that_lost_its_files_is_a_miss_with_a_warning(manager, opened, step, warnings):
    base = step(manager, None, {"a": "1"})
    top = step(manager, base, {"b": "2"})
    manager.close()
    snapshot = base.record.snapshot
    os.rename(manager.layout.path("snapshots", snapshot), manager.layout.path("tmp", "lost"))
    other = opened()
    assert not other.exists(top.id)
    assert any("damaged" in w for w in warnings)
    assert other.load(base.id) is None
    assert other.check.damage() == []


def test_a_cached_build_asks_for_many_records_with_few_statements(manager, opened, step):
    ref = None
    for number in range(20):
        ref = step(manager, ref, {f"f{number}": "x"})
    manager.close()
    other = opened()
    statements: list[str] = []
    other.database.connection().set_trace_callback(statements.append)
    assert other.exists(ref.id)
    loaded = other.load(ref.id)
    loaded.release()
    other.database.connection().set_trace_callback(None)
    own = [s for s in statements if "FROM snapshots" not in s]
    assert len(own) < 25, own
    assert other.snapshotter.calls == []


def test_asking_bottom_up_costs_the_same_for_each_record(manager, opened, step):
    ids, ref = [], None
    for number in range(30):
        ref = step(manager, ref, {"f": str(number)})
        ids.append(ref.id)
    manager.close()
    other = opened()
    counts = []
    for record_id in ids:
        statements: list[str] = []
        other.database.connection().set_trace_callback(statements.append)
        assert other.exists(record_id)
        counts.append(len(statements))
    other.database.connection().set_trace_callback(None)
    assert max(counts[1:]) == min(counts[1:])
