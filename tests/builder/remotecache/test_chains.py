"""Records of the solver to a config and back: the solver finds by the import what was exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from builder.content.types import Layer
from builder.errors import IntegrityError
from builder.graph.vertex import Edge
from builder.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from builder.oci.digest import Digest
from builder.remotecache.chains import Chains, marshal
from builder.remotecache.config import CacheConfig, CacheInput, CacheLayer, CacheResult, ChainedResult, ConfigRecord, parse
from builder.remotecache.imported import ImportedResults, key_cache
from builder.remotecache.types import RemoteLayer
from builder.solver.exporter import ExportedRecord, ExportedResult, Mode, export_chains
from builder.solver.keycache import KeyCache
from tests.builder.solver.world import Value, World


def layer(name: str) -> RemoteLayer:
    digest = Digest.of(name.encode())
    return RemoteLayer(Layer(Descriptor(OCI_LAYER_GZIP, digest, 1), digest))


def exported(digest: str, *inputs: Sequence[tuple[int, str]], result: str = "", created_ns: int = 0) -> ExportedRecord:
    results = (ExportedResult(result, created_ns, "v", 0, True),) if result else ()
    return ExportedRecord(digest, tuple(tuple(i) for i in inputs), results)


X, Y, Z = (str(Digest.of(n)) for n in (b"x", b"y", b"z"))


def test_layers_are_named_once_a_chain() -> None:
    """The same blob on another parent is another layer, of the same blob."""
    a, b, c = layer("a"), layer("b"), layer("c")
    records = [exported(X), exported(Y, [(0, "")], result="ab"), exported(Z, [(0, "")], result="cb")]
    chains = marshal(records, {"ab": [a, b], "cb": [c, b]})
    assert sorted(x.blob for x in chains.config.layers) == sorted([a.digest, c.digest, b.digest, b.digest])
    assert set(chains.blobs) == {a.digest, b.digest, c.digest}


def test_records_that_lead_to_no_result_are_left_out() -> None:
    records = [exported(X), exported(Y), exported(Z, [(0, "s")], result="a"), exported(Y, [(2, "")], result="gone")]
    config = marshal(records, {"a": [layer("a")]}).config
    assert {r.digest for r in config.records} == {X, Z}


def test_records_of_one_name_become_one() -> None:
    """The one with a result: the other is the same key seen from another store."""
    records = [exported(X), exported(Y, [(0, "")]), exported(Y, [(0, "")], result="a"), exported(Z, [(1, ""), (2, "")], result="a")]
    config = marshal(records, {"a": [layer("a")]}).config
    assert [r.digest for r in config.records].count(Y) == 1
    (z,) = [r for r in config.records if r.digest == Z]
    assert len(z.inputs[0]) == 1


def test_the_order_of_records_does_not_show() -> None:
    """One config whatever the solver came by first."""
    layers = {"a": [layer("a")], "b": [layer("a"), layer("b")]}
    one = [exported(X), exported(Y), exported(Z, [(0, ""), (1, "t")], result="a"), exported(X, [(2, "")], result="b")]
    two = [exported(Y), exported(X), exported(Z, [(0, "t"), (1, "")], result="a"), exported(X, [(2, "")], result="b")]
    assert marshal(one, layers).config.to_json() == marshal(two, layers).config.to_json()


# ------------------------------------------------------------------------------------- through the solver
class OnLayers(Value):
    """A value that is layers on layers; ``layers`` gives views, as a ref's does."""

    names: tuple[str, ...] = ()

    def layers(self) -> list[_View]:
        return [_View(self, self.names[: i + 1]) for i in range(len(self.names))]

    def clone(self) -> OnLayers:
        super().clone().release()
        return on_layers(self.world, self.names)


class _View:
    def __init__(self, value: OnLayers, names: tuple[str, ...]) -> None:
        self._value, self._names = value, names

    def layers(self) -> list[_View]:
        return [_View(self._value, self._names[: i + 1]) for i in range(len(self._names))]

    def clone(self) -> OnLayers:
        return on_layers(self._value.world, self._names)


def on_layers(world: World, names: tuple[str, ...]) -> OnLayers:
    made = OnLayers(world, "/".join(n[7:12] for n in names), "layers " + " ".join(names))
    made.names = names
    return made


class Layers:
    """Stands in for the cache manager: a ref on layers is a value of the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.loaded = 0

    def get_by_blob(self, layer: Layer, parent: OnLayers | None, **_: Any) -> OnLayers:
        self.loaded += 1
        return on_layers(self.world, (*(parent.names if parent else ()), layer.diff_id))


def export(world: World, top: Any, mode: Mode = "max") -> Chains:
    """Every result has one layer on those of its inputs; the documents go through their bytes."""
    with world.solver() as solver:
        results = solver.build([Edge(top)])
        records = export_chains(results, mode)
        for r in results:
            r.release()
    layers = {x.id: [layer(x.id)] for r in records for x in r.results}
    chains = marshal(records, layers)
    assert parse(chains.config.to_json()) == chains.config
    return chains


def imported(world: World, chains: Chains) -> KeyCache:
    return key_cache("remote", chains.config, chains.blobs, cast("Any", Layers(world)), priority=1)


def stages(world: World, middle: str = "m") -> Any:
    base = world.vertex("base", key=["manifest", "chain"])
    tool = world.vertex("tool", base, value="made")
    copy = world.vertex("copy", base, world.vertex("local", ephemeral=True, value="files"), slow={1: lambda v: v})
    other = world.vertex("other", copy, tool, slow={1: lambda v: v}, selectors={1: "made"})
    return world.vertex("top", world.vertex(middle, other))


def test_another_world_executes_nothing() -> None:
    first, second = World(), World()
    cache = imported(second, export(first, stages(first)))
    second.imported = [cache]
    assert second.build(stages(second)) != []
    assert second.executed == {"local": 1}, "the local folder is read, for its content is the key"


def test_a_hit_below_is_enough() -> None:
    """Another step in the middle: what is below it comes from the cache, it and what follows are executed."""
    first, second = World(), World()
    second.imported = [imported(second, export(first, stages(first)))]
    second.build(stages(second, "n"))
    assert second.executed == {"local": 1, "n": 1, "top": 1}


def test_content_finds_what_definitions_do_not() -> None:
    """The tool's stage was made otherwise, with the same content: its consumer hits."""
    first, second = World(), World()
    second.imported = [imported(second, export(first, stages(first)))]
    base = second.vertex("base", key=["manifest", "chain"])
    tool = second.vertex("another tool", base, value="made")
    copy = second.vertex("copy", base, second.vertex("local", ephemeral=True, value="files"), slow={1: lambda v: v})
    second.build(second.vertex("other", copy, tool, slow={1: lambda v: v}, selectors={1: "made"}))
    assert second.executed.keys() == {"another tool", "local", "base"}


def test_what_was_loaded_is_kept_without_the_cache() -> None:
    first, second = World(), World()
    second.imported = [imported(second, export(first, stages(first)))]
    second.build(stages(second))
    second.imported = []
    second.build(stages(second))
    assert second.executed == {"local": 1}


def test_steps_below_a_hit_come_with_it() -> None:
    """Their layers are the lower ones of its own. Later, without the cache, they are hits for another step on them."""
    first, second = World(), World()

    def steps(world: World, last: str) -> Any:
        return world.vertex(last, world.vertex("b", world.vertex("a", world.vertex("base"))))

    with first.solver() as solver:
        (result,) = solver.build([Edge(steps(first, "c"))])
        records = export_chains([result], "max")
        result.release()
    made = [x.id for r in records for x in r.results]
    cache = imported(second, marshal(records, {id: [layer(n) for n in made[: i + 1]] for i, id in enumerate(made)}))
    second.imported = [cache]
    assert len(made) == 3
    second.build(steps(second, "c"))
    second.imported = []
    second.build(steps(second, "another"))
    assert second.executed == {"another": 1}
    assert +second.alive == {}


def test_min_has_the_result_of_the_target() -> None:
    first, second = World(), World()
    chains = export(first, stages(first), "min")
    second.imported = [imported(second, chains)]
    second.build(stages(second))
    assert second.executed == {"local": 1}


def test_a_cached_build_exports_what_the_first_one_did() -> None:
    """All ways in, those by content too, which a hit by definitions never looks at."""
    world = World()
    built = export(world, stages(world)).config.to_json()
    assert export(world, stages(world)).config.to_json() == built


def test_an_import_is_exported_again_whole() -> None:
    first, second = World(), World()
    chains = export(first, stages(first))
    cache = imported(second, chains)
    second.imported = [cache]
    with second.solver() as solver:
        results = solver.build([Edge(stages(second))])
        records = export_chains(results, "max")
        for r in results:
            r.release()
    assert isinstance(cache.results, ImportedResults)
    layers = {x.id: cache.results.layers(x.id) or () for r in records for x in r.results}
    assert marshal(records, layers).config.to_json() == chains.config.to_json()


# ------------------------------------------------------------------------------------- configs of strangers
def read(config: CacheConfig, known: Sequence[RemoteLayer]) -> KeyCache:
    world = World()
    return key_cache("remote", config, {x.digest: x for x in known}, cast("Any", Layers(world)), priority=1)


def test_a_result_whose_layers_are_not_all_there_is_none() -> None:
    a, b = layer("a"), layer("b")
    record = ConfigRecord(X, (), (CacheResult(1),), (ChainedResult((1,)), ChainedResult((0, 1))))
    config = CacheConfig((CacheLayer(a.digest), CacheLayer(b.digest, 0)), (record,))
    assert len(read(config, [a, b]).keys.results(X)) == 3
    assert len(read(config, [b]).keys.results(X)) == 1, "the chain of b alone"
    assert read(config, [a]).keys.results(X) == []


def test_chains_are_loaded_in_their_order() -> None:
    a, b = layer("a"), layer("b")
    config = CacheConfig((CacheLayer(a.digest), CacheLayer(b.digest, 0)), (ConfigRecord(X, (), (), (ChainedResult((1, 0)),)),))
    cache = read(config, [a, b])
    (stored,) = cache.keys.results(X)
    assert isinstance(cache.results, ImportedResults)
    assert cache.results.layers(stored.id) == (b, a)
    assert cache.results.layers("another#layer:0") is None


def test_an_empty_chain_is_no_result() -> None:
    a = layer("a")
    config = CacheConfig((CacheLayer(a.digest),), (ConfigRecord(X, (), (), (ChainedResult(()),)),))
    assert read(config, [a]).keys.results(X) == []


def test_circles_are_refused() -> None:
    a = layer("a")
    with pytest.raises(IntegrityError, match="looping layer"):
        read(CacheConfig((CacheLayer(a.digest, 0),)), [a])
    with pytest.raises(IntegrityError, match="looping record"):
        read(CacheConfig((), (ConfigRecord(X, ((CacheInput(0),),)),)), [])
