"""What is called off in the middle leaves a store that is as sound as a kill does: the next one takes up where it stopped."""

from __future__ import annotations

import pytest

from builder.cache.types import PrunePolicy
from builder.errors import CancelledError
from builder.state.cancel import Token, scope

ALL = PrunePolicy(all=True)


def test_a_collection_stops_between_two_batches_and_keeps_what_it_did(manager, step):
    for number in range(20):
        step(manager, None, {"f": str(number)}).release()
    token = Token()
    told = []

    def stop(line):
        told.append(line.id)
        token.set()

    with scope(token), pytest.raises(CancelledError):
        manager.collector.prune([ALL], removed=stop)
    assert 0 < len(told) < 20
    left = set(manager.records.ids())
    assert len(left) == 20 - len(told)
    assert left.isdisjoint(told)
    assert manager.check.damage() == []
    assert len(manager.collector.prune([ALL])) == len(left)


def test_a_collection_after_a_build_says_that_it_was_called_off_and_goes_on_at_the_next(manager, step, monkeypatch):
    for number in range(40):
        step(manager, None, {"f": str(number)}).release()
    token = Token()
    delete = manager.deleter.delete_records

    def stop(record_ids):
        token.set()
        return delete(record_ids)

    with monkeypatch.context() as m:
        m.setattr(manager.deleter, "delete_records", stop)
        with scope(token), pytest.raises(CancelledError, match=r"removing unused cache was cancelled: 16 records are removed"):
            manager.collector.collect([ALL], seconds=9)
    assert len(manager.records.ids()) == 24
    assert manager.check.damage() == []
    assert manager.check.garbage() == []
    assert len(manager.collector.collect([ALL], seconds=9)) == 24, "the cancelled collection does not count for the pace"


def test_a_collection_that_was_called_off_before_it_began_removes_nothing(manager, step):
    step(manager, None, {"f": "1"}).release()
    token = Token()
    token.set()
    with scope(token), pytest.raises(CancelledError, match=r"0 records are removed"):
        manager.collector.collect([ALL], seconds=9)
    assert len(manager.collector.collect([ALL], seconds=9)) == 1


def test_a_check_stops_and_calls_no_blob_damaged_for_it(manager, step):
    step(manager, None, {"a": "1"}).remote()
    token = Token()
    token.set()
    with scope(token), pytest.raises(CancelledError):
        manager.check.damage(verify=True)
    assert manager.check.damage(verify=True) == []


def test_unpacking_stops_between_two_layers(manager, registry):
    below = manager.get_by_blob(registry.layer({"a": "1"}), None)
    token = Token()
    top = manager.get_by_blob(registry.layer({"b": "2"}), below, progress=lambda *_: token.set())
    with scope(token), pytest.raises(CancelledError):
        top.unlazy()
    assert not manager.snapshotter.exists(top.record.snapshot)
    assert manager.check.damage() == []
    top.unlazy()
    assert manager.snapshotter.exists(top.record.snapshot)
