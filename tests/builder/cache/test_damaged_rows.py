"""A record whose row is damaged, or lost, is a cache miss: never one with other parents, other files or other blobs."""

from __future__ import annotations

import os
import shutil

import pytest

from builder.cache.types import PrunePolicy
from builder.content.types import Compression
from builder.errors import DamagedStoreError, StoreError
from builder.files.statcache import RefChecksums
from builder.files.types import ChecksumOptions
from builder.oci.digest import Digest
from builder.state.schema import BLOB_RECORDS, LEASE_RECORDS, RECORD_CHILDREN, RECORDS, REF_CHECKSUMS, SNAPSHOTS
from tests.support.rows import change, garble

ALL = PrunePolicy(all=True)
OTHER = Digest.of(b"other")


@pytest.fixture
def told(opened, monkeypatch):
    """Warnings of databases, of every manager that ``opened`` gives."""
    from builder.state.database import Database

    texts: list[str] = []
    monkeypatch.setattr(Database, "suspect", _and_tell(Database.suspect, texts))
    return texts


def _and_tell(suspect, texts):
    def tell(self, why):
        self.warn = texts.append
        suspect(self, why)

    return tell


@pytest.fixture
def store(manager, registry, step):
    """(manager, a layer of a base, a step on it), both released."""
    base = manager.get_by_blob(registry.layer({"a": "1"}), None)
    top = step(manager, base, {"b": "2"})
    top.remote()
    top.release()
    base.release()
    return manager, base.id, top.id


@pytest.mark.parametrize("column", RECORDS.columns)
def test_whatever_of_a_record_is_damaged_it_is_gone_and_so_is_what_stands_on_it(store, opened, told, warnings, column):
    manager, base, top = store
    garble(manager.database, RECORDS, {"id": base}, **{column: "x"})
    other = opened()
    assert not other.exists(base)
    assert not other.exists(top)
    for gone in (base, top):
        with pytest.raises(KeyError):
            other.get(gone)
    assert len(told) <= 1, "an id that is another one is no damage but a record nobody asks for"
    assert not warnings


def test_a_step_without_its_parent_is_no_step_on_nothing(store, opened):
    """The fault that all this is about: a parent that was read as "none" gave an image without its base."""
    manager, _, top = store
    for parents in ("", "x"):
        garble(manager.database, RECORDS, {"id": top}, parents=parents)
        assert opened().load(top) is None
    change(manager.database, RECORDS, {"id": top}, parents="")
    with pytest.raises(KeyError):  # sealed, and still not true: the chainID is of two layers
        opened().get(top)


def test_a_base_layer_is_fetched_again_and_has_the_same_record_below_new_steps(store, opened, registry, files_of):
    manager, base, _ = store
    garble(manager.database, RECORDS, {"id": base}, diff_id=OTHER)
    again = opened().get_by_blob(registry.layer({"a": "1"}), None)
    assert again.id != base
    assert files_of(again) == {"a": "1"}


def test_records_that_disagree_are_gone(store, opened, told):
    """Each has its seal; only together they can't be true."""
    manager, base, top = store
    change(manager.database, RECORDS, {"id": base}, chain_id=OTHER, blob_chain_id=OTHER)
    other = opened()
    assert not other.exists(top)
    assert len(told) == 1
    assert other.database.is_suspect


def test_a_chain_that_another_process_has_made_anew_is_no_damage(manager, opened, step, told):
    """The blob of the layer below was lost and made anew by another compression: both processes know the records."""
    base = step(manager, None, {"a": "1" * 5000})
    top = step(manager, base, {"b": "2"})
    top.remote()
    other = opened()
    assert other.exists(base.id)
    digest = base.remote()[0].descriptor.digest
    manager.content.delete(digest)
    top.remote(Compression("zstd"))
    assert manager.records.get(base.id).blobs[0].descriptor.digest != digest
    assert other.exists(top.id)
    assert opened().exists(top.id)
    assert not told
    assert manager.check.damage() == []


def test_a_digest_in_an_index_that_leads_elsewhere_is_no_hit(store, opened, registry, files_of):
    """The row is sound, its entry in the index by blobChainID is not."""
    manager, base, _ = store
    wanted = registry.layer({"else": "where"})
    with manager.database.transaction() as c:
        c.execute("DROP INDEX records_by_blob_chain_id")
        c.execute("CREATE INDEX records_by_blob_chain_id ON records (blob_chain_id)")
    ref = opened().get_by_blob(wanted, None)
    assert ref.id != base
    assert files_of(ref) == {"else": "where"}


# ------------------------------------------------------------------------------------------------------------ snapshots
@pytest.mark.parametrize("column", ["driver", "kind", "parent", "layers", "explicit"])
def test_a_snapshot_with_a_damaged_row_is_made_anew_of_its_blob(store, opened, warnings, told, files_of, column):
    manager, _, top = store
    garble(manager.database, SNAPSHOTS, {"key": top}, **{column: "x"})
    other = opened()
    assert files_of(other.get(top)) == {"a": "1", "b": "2"}
    assert len(told) == 1
    assert not warnings, "one warning, not another one for what follows"


def test_files_that_bear_another_id_are_not_the_snapshots(store, opened, warnings, files_of):
    manager, base, top = store
    shutil.rmtree(manager.layout.path("snapshots", top))
    shutil.copytree(manager.layout.path("snapshots", base), manager.layout.path("snapshots", top), symlinks=True)
    other = opened()
    assert files_of(other.get(top)) == {"a": "1", "b": "2"}
    assert "are gone" in warnings[0]


def test_a_snapshot_bears_its_id(store):
    manager, base, top = store
    for key in (base, top):
        assert os.readlink(manager.layout.path("snapshots", key, "id")) == key


# ------------------------------------------------------------------------------------------------------------ checksums
def test_a_checksum_that_is_damaged_is_computed_again(store, opened):
    manager, base, _ = store
    right = manager.get(base).checksum("/", ChecksumOptions())
    garble(manager.database, REF_CHECKSUMS, {"ref": base}, digest=OTHER)
    other = opened()
    assert RefChecksums(other.database).get(base, "/", ChecksumOptions()) is None
    assert other.get(base).checksum("/", ChecksumOptions()) == right


# ------------------------------------------------------------------------------------------------------------ collecting
@pytest.mark.parametrize(
    ("table", "column"),
    [(RECORDS, "snapshot"), (RECORD_CHILDREN, "child"), (BLOB_RECORDS, "digest"), (LEASE_RECORDS, "record")],
)
def test_nothing_is_deleted_while_rows_are_damaged(manager, opened, step, registry, told, table, column):
    """What no row names may be what a damaged row named, and somebody uses."""
    base = manager.get_by_blob(registry.layer({"a": "1"}), None)
    top = step(manager, base, {"b": "2"})
    top.remote()
    with manager.database.transaction() as c:
        c.execute(f"UPDATE {table.name} SET {column} = 'x' || {column}")
    before = sorted(manager.snapshotter.keys()), sorted(d for d, _, _ in manager.content.walk())
    other = opened()
    with pytest.raises(DamagedStoreError):
        other.collector.prune([ALL])
    assert other.collector.collect([ALL], seconds=5) == []
    assert (sorted(manager.snapshotter.keys()), sorted(d for d, _, _ in manager.content.walk())) == before
    assert len(told) == 1


def test_tables_that_lost_rows_of_what_they_repeat_are_damage(store, opened):
    manager, *_ = store
    with manager.database.transaction() as c:
        c.execute("DELETE FROM record_children")
    with pytest.raises(DamagedStoreError):
        opened().collector.prune([ALL])
    assert "metadata database: record_children does not fit the records" in manager.check.damage()


def test_a_record_that_is_gone_under_its_writer_is_said_in_words(manager):
    work = manager.new(None)
    garble(manager.database, RECORDS, {"id": work.id}, state="x")
    with pytest.raises(StoreError, match=f"cache record {work.id} is gone"):
        work.commit()


# -------------------------------------------------------------------------------------------------------------- exports
def written(manager, ref, base=None):
    from types import SimpleNamespace

    from builder.exporters.image import ImageOptions, write_image
    from builder.exporters.types import BuildOutput, SolvedTarget
    from builder.oci.image import ImageConfig
    from builder.oci.platform import Platform

    config = ImageConfig(platform=Platform("linux", "amd64"))
    below = None if base is None else ImageConfig(platform=config.platform, diff_ids=tuple(str(d) for d in base))
    target = SolvedTarget(config.platform, ref, config, below)
    worker = SimpleNamespace(cache=manager, content=manager.content)
    return write_image(worker, BuildOutput((target,)), ImageOptions(), lambda _: None)


def test_an_image_is_not_written_with_other_layers_than_it_was_built_of(store):
    manager, base, top = store
    ref = manager.get(top)
    assert len(written(manager, ref, [manager.known.get(base).diff_id]).manifests[0].layers) == 2
    change(manager.database, RECORDS, {"id": top}, chain_id=OTHER, blob_chain_id=OTHER)
    with pytest.raises(DamagedStoreError, match="2 layers that are known of the image are not those"):
        written(manager, ref)


def test_an_image_without_the_layers_of_its_base_is_not_written(store):
    manager, base, _ = store
    ref = manager.get(base)
    with pytest.raises(DamagedStoreError, match="1 layers"):
        written(manager, ref, [ref.diff_id, OTHER])


def test_an_image_is_written_while_another_process_makes_a_blob_anew(store, opened, step):
    manager, _, top = store
    ref, other = manager.get(top), opened()
    manager.content.delete(ref.remote()[-1].descriptor.digest)
    other.get(top).remote(Compression("zstd"))
    assert ref.chain_id is not None
    assert len(written(manager, ref).manifests[0].layers) == 2


# ---------------------------------------------------------------------------------------------------- looking it over
def test_looking_over_drops_what_does_not_stand_and_keeps_the_rest(store, opened, step, registry, warnings):
    manager, base, _ = store
    side = step(manager, None, {"c": "3"})
    side.release()
    lazy = manager.get_by_blob(registry.layer({"lazy": "1"}), None)
    lazy.release()
    mount = manager.mounts.acquire("key", "shared")
    mount.release()
    with manager.database.transaction() as c:
        c.execute("DELETE FROM records WHERE id = ?", (base,))
        c.execute("DELETE FROM record_children")
    manager.close()
    other = opened()
    other.repair.look_over()
    assert set(other.records.ids()) == {side.id, lazy.id, mount.id}
    assert other.check.damage() == []
    assert other.check.garbage() == []
    assert not warnings


def test_looking_over_drops_records_whose_files_are_lost(store, opened, warnings):
    manager, base, top = store
    with manager.database.transaction() as c:
        c.execute("DELETE FROM snapshots WHERE key = ?", (top,))
    manager.close()
    other = opened()
    other.repair.look_over()
    assert other.records.ids() == [base]
    assert other.check.damage() == []
    assert not warnings


def test_looking_over_leaves_alone_what_a_living_process_makes(store, opened):
    """Its row comes before its files."""
    manager, *_ = store
    work = manager.new(None)
    with manager.database.transaction() as c:
        c.execute("DELETE FROM snapshots WHERE key = ?", (work.id,))
    opened().repair.look_over()
    assert work.id in manager.records.ids()
    work.release()
