"""Layers as blobs; merges and diffs."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import sys
import threading

import pytest

from builder.cache.blobs import NoBlobsError
from builder.content.compression import decompress
from builder.content.types import Compression
from builder.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from builder.oci.digest import Digest, chain_id
from tests.support.records import is_lazy


def names(manager, layer):
    """What a layer's tar holds."""
    from builder.files.tar import TarReader

    return [e.name for e in TarReader(decompress(manager.content.chunks(layer.descriptor.digest)))]


def test_a_blob_is_what_its_digests_say(manager, step):
    ref = step(manager, step(manager, None, {"a": "1"}), {"b": "2"})
    layers = ref.remote()
    assert len(layers) == 2
    for layer in layers:
        blob = manager.content.read(layer.descriptor.digest)
        assert layer.descriptor.size == len(blob)
        assert layer.descriptor.media_type == OCI_LAYER_GZIP
        assert Digest("sha256:" + hashlib.sha256(gzip.decompress(blob)).hexdigest()) == layer.diff_id
    assert names(manager, layers[1]) == ["b"]


def test_blobs_are_made_once_and_remembered(manager, opened, step):
    ref = step(manager, step(manager, None, {"a": "1"}), {"b": "2"})
    first = ref.remote()
    manager.snapshotter.calls.clear()
    assert ref.remote() == first
    other = opened()
    assert other.get(ref.id).remote() == first
    assert manager.snapshotter.calls == []
    assert other.snapshotter.calls == []


def test_chain_ids_come_with_the_blobs(manager, step):
    ref = step(manager, step(manager, None, {"a": "1"}), {"b": "2"})
    assert ref.chain_id is None
    layers = ref.remote()
    assert ref.chain_id == chain_id([x.diff_id for x in layers])
    assert ref.blob_chain_id == chain_id([chain_id([x.descriptor.digest, x.diff_id]) for x in layers])
    assert ref.parent.chain_id == layers[0].diff_id


def test_a_pulled_copy_of_a_built_image_is_the_built_record(manager, step):
    ref = step(manager, step(manager, None, {"a": "1"}), {"b": "2"})
    found = None
    for layer in ref.remote():
        found = manager.get_by_blob(layer, found)
    assert found.id == ref.id


def test_many_threads_make_a_blob_once(manager, step):
    ref = step(manager, None, {"a": "1"})
    results = []
    threads = [threading.Thread(target=lambda: results.append(ref.remote())) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(results)) == 1
    assert manager.snapshotter.calls.count("diff") == 1


def test_without_create_a_missing_blob_is_an_error(manager, step):
    ref = step(manager, None, {"a": "1"})
    with pytest.raises(NoBlobsError):
        ref.remote(create=False)
    ref.remote()
    assert len(ref.remote(create=False)) == 1


def test_another_compression_is_for_new_layers_only(manager, step):
    base = step(manager, None, {"a": "1"})
    base.remote()
    top = step(manager, base, {"b": "2"})
    types = [x.descriptor.media_type for x in top.remote(Compression("zstd"))]
    assert types == [OCI_LAYER_GZIP, OCI_LAYER_ZSTD]


def test_forced_compression_converts_and_remembers_both(manager, registry):
    layer = registry.layer({"a": "1"})
    ref = manager.get_by_blob(layer, None)
    forced = ref.remote(Compression("uncompressed", force=True))[0]
    assert forced.descriptor.media_type == OCI_LAYER
    assert forced.descriptor.digest == forced.diff_id == layer.diff_id
    assert ref.remote()[0].descriptor == layer.descriptor
    assert ref.remote(Compression("uncompressed", force=True)) == (forced,)
    assert len(registry.opened) == 1


def test_forced_compression_keeps_layers_lazy_that_have_it(manager, registry):
    layer = registry.layer({"a": "1"})
    ref = manager.get_by_blob(layer, None)
    assert ref.remote(Compression("gzip", force=True))[0].descriptor == layer.descriptor
    assert registry.opened == []


def test_a_lost_blob_is_made_again(manager, step):
    ref = step(manager, None, {"a": "1"})
    layer = ref.remote()[0]
    manager.content.delete(layer.descriptor.digest)
    again = ref.remote()[0]
    assert manager.content.has(again.descriptor.digest)
    assert again.diff_id == layer.diff_id
    assert ref.chain_id == again.diff_id


def test_an_empty_step_is_a_layer_too(manager, step):
    ref = step(manager, step(manager, None, {"a": "1"}), {})
    layers = ref.remote()
    assert len(layers) == 2
    assert names(manager, layers[1]) == []


# ----------------------------------------------------------------------------------------------------- merge and diff
def test_a_merge_lays_its_inputs_over_one_another(manager, step, files_of):
    one, two = step(manager, None, {"a": "1", "b": "1"}), step(manager, None, {"b": "2", "c": "2"})
    merged = manager.merge([one, two])
    assert is_lazy(merged)
    assert files_of(merged) == {"a": "1", "b": "2", "c": "2"}


def test_a_merge_has_its_inputs_layers_and_mounts_nothing(manager, registry):
    base = manager.get_by_blob(registry.layer({"a": "1"}), None)
    link = manager.get_by_blob(registry.layer({"b": "2"}), None)
    merged = manager.merge([base, link])
    assert [x.id for x in merged.layers()] == [base.id, link.id]
    layers = merged.remote()
    assert merged.chain_id == chain_id([x.diff_id for x in layers])
    assert registry.opened == []
    assert manager.snapshotter.calls == []


def test_merging_is_associative_and_of_one_the_one_itself(manager, step):
    a, b, c = (step(manager, None, {n: n}) for n in "abc")
    left = manager.merge([manager.merge([a, b]), c])
    assert left.record.parents == (a.id, b.id, c.id)
    assert manager.merge([None, a]).id == a.id
    assert manager.merge([]) is None


def test_a_step_on_a_merge(manager, step, files_of):
    merged = manager.merge([step(manager, None, {"a": "1"}), step(manager, None, {"b": "2"})])
    top = step(manager, merged, {"c": "3", "a": None})
    assert files_of(top) == {"b": "2", "c": "3"}
    layers = top.remote()
    assert len(layers) == len(top.layers()) == 3
    assert top.chain_id == chain_id([x.diff_id for x in layers])


def test_steps_on_merges_of_steps_need_no_stack(manager, step):
    """COPY --link and RUN in turn: below every step lies a merge, below that a step."""
    top = step(manager, None, {"base": ""})
    expected = [top.id]
    for i in range(100):
        link = step(manager, None, {f"l{i}": ""})
        top = step(manager, manager.merge([top, link]), {f"s{i}": ""})
        expected += [link.id, top.id]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 40)
    try:
        found = top.layers()
    finally:
        sys.setrecursionlimit(before)
    assert [x.id for x in found] == expected


def test_a_diff_of_one_layer_is_that_layer(manager, step, files_of):
    base = step(manager, None, {"a": "1"})
    top = step(manager, base, {"b": "2"})
    diff = manager.diff(base, top)
    assert [x.id for x in diff.layers()] == [top.id]
    assert files_of(diff) == {"b": "2"}
    layers = diff.remote()
    assert layers == top.remote()[1:]


def test_a_diff_along_a_chain_is_the_rest_of_the_layers(manager, step, files_of):
    base = step(manager, None, {"a": "1"})
    middle = step(manager, base, {"b": "2"})
    top = step(manager, middle, {"c": "3"})
    diff = manager.diff(base, top)
    assert [x.id for x in diff.layers()] == [middle.id, top.id]
    assert files_of(diff) == {"b": "2", "c": "3"}
    assert diff.remote() == top.remote()[1:]


def test_a_diff_of_strangers_compares_the_trees(manager, step, files_of):
    lower, upper = step(manager, None, {"a": "1", "b": "1"}), step(manager, None, {"b": "changed", "c": "3"})
    diff = manager.diff(lower, upper)
    assert files_of(diff) == {"b": "changed", "c": "3"}
    layers = diff.remote()
    assert len(layers) == 1
    assert names(manager, layers[0]) == [".wh.a", "b", "c"]


def test_differences_with_nothing(manager, step, files_of):
    ref = step(manager, None, {"a": "1"})
    assert manager.diff(None, None) is None
    assert manager.diff(ref, ref) is None
    assert manager.diff(None, ref).id == ref.id
    gone = manager.diff(ref, None)
    assert files_of(gone) == {}
    assert names(manager, gone.remote()[0]) == [".wh.a"]


def test_merge_of_base_and_diff_is_upper(manager, step, files_of):
    lower = step(manager, None, {"a": "1", "b": "1"})
    upper = step(manager, step(manager, lower, {"a": None}), {"c": "3", "b": "2"})
    merged = manager.merge([lower, manager.diff(lower, upper)])
    assert files_of(merged)["b"] == "2"
    assert files_of(merged)["c"] == "3"
