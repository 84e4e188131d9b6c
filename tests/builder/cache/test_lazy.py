"""Layers from a registry: nothing is fetched before it is needed, everything is verified, and each is unpacked once."""

from __future__ import annotations

import gzip
import threading

import pytest

from builder.content.types import Compression
from builder.errors import IntegrityError, NotFoundError, StoreError
from builder.oci.digest import Digest, chain_id
from builder.values import replace
from tests.builder.cache.conftest import tar_of
from tests.support.records import is_lazy


def chain(manager, layers, **options):
    ref = None
    for layer in layers:
        ref = manager.get_by_blob(layer, ref, **options)
    return ref


def test_get_by_blob_downloads_nothing(manager, registry):
    ref = chain(manager, [registry.layer({"a": "1"}), registry.layer({"b": "2"})])
    assert is_lazy(ref)
    assert registry.opened == []
    assert manager.snapshotter.calls == []


def test_chain_ids_are_those_of_the_image_spec(manager, registry):
    one, two = registry.layer({"a": "1"}), registry.layer({"b": "2"})
    ref = chain(manager, [one, two])
    assert ref.diff_id == two.diff_id
    assert ref.chain_id == chain_id([one.diff_id, two.diff_id])
    pairs = [chain_id([x.descriptor.digest, x.diff_id]) for x in (one, two)]
    assert ref.blob_chain_id == chain_id(pairs)


def test_a_mount_fetches_each_layer_once(manager, registry, files_of):
    ref = chain(manager, [registry.layer({"a": "1"}), registry.layer({"b": "2", ".wh.a": ""}), registry.layer({"c": "3"})])
    assert files_of(ref) == {"b": "2", "c": "3"}
    assert files_of(ref) == {"b": "2", "c": "3"}
    assert len(registry.opened) == 3
    assert manager.snapshotter.calls.count("apply") == 3
    assert not is_lazy(ref)


def test_a_layer_unpacked_by_another_process_is_not_unpacked_again(manager, opened, registry, files_of):
    layers = [registry.layer({"a": "1"}), registry.layer({"b": "2"})]
    mine, other = chain(manager, layers), opened()
    theirs = chain(other, layers)
    assert mine.id == theirs.id
    assert files_of(theirs) == files_of(mine) == {"a": "1", "b": "2"}
    assert len(registry.opened) == 2
    assert "apply" not in manager.snapshotter.calls


def test_the_same_image_pulled_by_many_threads_at_once_is_one_chain_unpacked_once(manager, registry, files_of):
    layers = [registry.layer({f"f{n}": str(n)}) for n in range(4)]
    refs, trees = [], []

    def pull():
        ref = chain(manager, layers)
        refs.append(ref)
        trees.append(files_of(ref))

    threads = [threading.Thread(target=pull) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len({r.id for r in refs}) == 1
    assert trees == [{f"f{n}": str(n) for n in range(4)}] * 6
    assert len(registry.opened) == 4
    assert manager.snapshotter.calls.count("apply") == 4


def test_the_same_blob_chain_is_the_same_record(manager, registry):
    layers = [registry.layer({"a": "1"}), registry.layer({"b": "2"})]
    assert chain(manager, layers).id == chain(manager, layers).id


def test_the_same_content_in_another_compression_shares_the_snapshot(manager, registry, files_of):
    files = {"a": "1" * 1000}
    first = chain(manager, [registry.layer(files)])
    assert files_of(first) == files
    other = registry.layer(files, level=1)
    second = chain(manager, [other])
    assert second.id != first.id
    assert second.record.snapshot == first.record.snapshot
    assert files_of(second) == files
    assert other.descriptor.digest not in registry.opened
    assert second.remote()[0].descriptor == other.descriptor


def test_layers_that_need_their_parents_are_unpacked_again_in_order(manager, registry, files_of):
    manager.snapshotter.parallel_apply = True
    layers = [registry.layer({f"f{n}": str(n)}) for n in range(3)]
    ref = chain(manager, layers)
    assert files_of(ref) == {"f0": "0", "f1": "1", "f2": "2"}
    assert sorted(set(registry.opened)) == sorted(x.descriptor.digest for x in layers)


WRONG = {
    "a bit": lambda good: good[:-1] + bytes([good[-1] ^ 1]),
    "noise": lambda good: bytes((n * 7 + 1) % 251 for n in range(len(good))),
    "another archive": lambda good: gzip.compress(tar_of({"b": "2"}), mtime=0).ljust(len(good), b"\0")[: len(good)],
    "an archive that is refused": lambda good: tar_of({"../b": ""})[: len(good)],
    "a page": lambda good: b"<html>not found</html>".ljust(len(good)),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_bytes_that_have_another_digest_leave_nothing_and_are_told_as_that(manager, registry, wrong):
    layer = registry.layer({"a": "1" * 700})
    good = registry.blobs[layer.descriptor.digest]
    registry.blobs[layer.descriptor.digest] = wrong(good)
    ref = chain(manager, [layer])
    with pytest.raises(IntegrityError, match=f"blob {layer.descriptor.digest}: the bytes have digest sha256:"):
        ref.unlazy()
    assert is_lazy(ref)
    assert list(manager.snapshotter.keys()) == []
    assert not manager.content.has(layer.descriptor.digest)
    registry.blobs[layer.descriptor.digest] = good
    ref.unlazy()


def test_a_diff_id_that_does_not_fit_leaves_no_snapshot(manager, registry):
    layer = replace(registry.layer({"a": "1"}), diff_id=Digest.of(b"something else"))
    ref = chain(manager, [layer])
    with pytest.raises(IntegrityError, match="diffID"):
        ref.unlazy()
    assert list(manager.snapshotter.keys()) == []
    assert is_lazy(ref)


def test_bytes_after_the_end_of_the_tar_count_for_the_diff_id(manager, registry, files_of):
    import gzip

    from builder.content.types import Layer
    from builder.oci.descriptor import OCI_LAYER_GZIP, Descriptor
    from tests.builder.cache.conftest import tar_of

    tar = tar_of({"a": "1"}) + b"\0" * 20480
    blob = gzip.compress(tar, mtime=0)
    registry.blobs[Digest.of(blob)] = blob
    ref = chain(manager, [Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob)), Digest.of(tar), registry)])
    assert files_of(ref) == {"a": "1"}


def test_a_blob_that_nobody_provides_is_refused_at_once(manager, registry):
    layer = registry.layer({"a": "1"})
    with pytest.raises(NotFoundError, match="not in the content store"):
        manager.get_by_blob(replace(layer, provider=None), None)


def test_a_layer_on_a_record_without_digests_is_refused(manager, registry, step):
    with pytest.raises(StoreError, match="no layer digests"):
        manager.get_by_blob(registry.layer({"a": "1"}), step(manager, None, {"b": "2"}))


def test_a_lazy_record_of_an_earlier_process_is_found_again_through_its_source(manager, opened, registry, files_of):
    ref = chain(manager, [registry.layer({"a": "1"}, source="docker.io/library/x")])
    manager.close()
    lonely = opened()
    assert not lonely.exists(ref.id)
    ref = chain(lonely, [registry.layer({"a": "1"}, source="docker.io/library/x")])
    lonely.close()
    other = opened()
    asked: list[str] = []
    other.providers.set_resolver(lambda source, descriptor: asked.append(source) or registry)
    assert other.exists(ref.id)
    assert registry.opened == []
    assert files_of(other.load(ref.id)) == {"a": "1"}
    assert asked == ["docker.io/library/x"]


def test_a_lazy_record_of_an_earlier_process_takes_an_offered_provider(manager, opened, registry, files_of):
    layer = registry.layer({"a": "1"})
    ref = chain(manager, [layer])
    manager.close()
    other = opened()
    other.providers.offer([layer])
    assert files_of(other.load(ref.id)) == {"a": "1"}


def test_a_rotten_blob_is_fetched_again(manager, registry, files_of, warnings):
    layer = registry.layer({"a": "1"})
    ref = chain(manager, [layer])
    rot(manager, layer, registry)
    assert files_of(ref) == {"a": "1"}
    assert any("damaged" in w for w in warnings)


def rot(manager, layer, registry):
    """A blob in the store with the right size and wrong bytes."""
    path = manager.content.path(layer.descriptor.digest)
    import os

    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(registry.blobs[layer.descriptor.digest][:-5] + b"wrong")


def test_a_rotten_blob_that_nobody_has_makes_the_record_a_miss(manager, registry, warnings):
    layer = registry.layer({"a": "1"})
    manager.content.put(registry.blobs[layer.descriptor.digest])
    ref = chain(manager, [replace(layer, provider=None, source="")])
    rot_there = manager.content.path(layer.descriptor.digest)
    import os

    os.chmod(rot_there, 0o600)
    rot(manager, layer, registry)
    with pytest.raises(IntegrityError, match=f"blob {layer.descriptor.digest} was damaged"):
        ref.unlazy()
    assert manager.load(ref.id) is None
    assert any("dropped" in w for w in warnings)


def test_a_truncated_blob_is_fetched_again(manager, registry, files_of, warnings):
    layer = registry.layer({"a": "1"})
    ref = chain(manager, [layer])
    rot(manager, layer, registry)
    import os

    os.truncate(manager.content.path(layer.descriptor.digest), 7)
    assert files_of(ref) == {"a": "1"}
    assert any("7 bytes" in w for w in warnings)


def test_lost_files_are_unpacked_again_from_the_blob(manager, opened, registry, files_of, warnings):
    import shutil

    layers = [registry.layer({"a": "1"}), registry.layer({"b": "2"})]
    ref = chain(manager, layers)
    assert files_of(ref) == {"a": "1", "b": "2"}
    manager.close()
    shutil.rmtree(manager.layout.path("snapshots", ref.record.snapshot))
    other = opened()
    assert files_of(other.load(ref.id)) == {"a": "1", "b": "2"}
    assert len(registry.opened) == 2
    assert any("made anew" in w for w in warnings)


def test_progress_tells_bytes_and_the_end(manager, registry):
    seen = []
    layer = registry.layer({"a": "1"})
    ref = chain(manager, [layer], progress=lambda d, done, total, end: seen.append((done, total, end)))
    ref.unlazy()
    size = layer.descriptor.size
    assert seen[0] == (10, size, False)
    assert seen[-1] == (size, size, True)


def test_the_blobs_of_lazy_layers_are_exported_without_a_download(manager, registry):
    layers = [registry.layer({"a": "1"}), registry.layer({"b": "2"})]
    remote = chain(manager, layers).remote(Compression("zstd"))
    assert [x.descriptor for x in remote] == [x.descriptor for x in layers]
    assert all(x.provider is registry for x in remote)
    assert registry.opened == []


def test_a_failing_layer_stops_the_others_and_the_error_is_its_own(manager, registry):
    manager.snapshotter.parallel_apply = True
    layers = [registry.layer({f"f{n}": str(n)}) for n in range(5)]
    del registry.blobs[layers[2].descriptor.digest]
    with pytest.raises(NotFoundError):
        chain(manager, layers).unlazy()
