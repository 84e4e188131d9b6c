"""Chains of records as data for a remote cache."""

from __future__ import annotations

from builder.graph.vertex import Edge, Vertex
from builder.solver.cachekey import root_key
from builder.solver.exporter import ExportedRecord, Mode, export_chains
from tests.builder.solver.world import World, digest


def chains(world: World, target: Vertex, mode: Mode = "min", *, roots: bool = False) -> tuple[ExportedRecord, ...]:
    with world.solver() as solver:
        results = solver.build([Edge(target)])
        try:
            return export_chains(results, mode, roots=roots)
        finally:
            for result in results:
                result.release()


def named(name: str, records: tuple[ExportedRecord, ...]) -> ExportedRecord:
    (found,) = [r for r in records if r.digest == root_key(digest(f"key of {name}"), 0)]
    return found


def chain(world: World) -> Vertex:
    return world.vertex("c", world.vertex("b", world.vertex("a")), selectors={0: "sel"})


def test_inputs_come_first_and_are_linked_by_place(world: World) -> None:
    """A chain of three: each record names the place of its input, and the selector it goes through."""
    records = chains(world, chain(world), mode="max")
    assert [r.digest for r in records] == [root_key(digest(f"key of {n}"), 0) for n in "abc"]
    assert [r.inputs for r in records] == [(), (((0, ""),),), (((1, "sel"),),)]


def test_a_cached_chain_is_exported_as_a_built_one(world: World) -> None:
    """The second build executes nothing and loads one record; what it exports is the same."""

    def shape(records: tuple[ExportedRecord, ...]) -> list[object]:
        return [(r.digest, r.inputs, [(x.id, x.make) for x in r.results]) for r in records]

    built = shape(chains(world, chain(world), mode="max"))
    assert shape(chains(world, chain(world), mode="max")) == built


def test_max_exports_every_step_but_sources(world: World) -> None:
    records = chains(world, chain(world), mode="max")
    assert [len(r.results) for r in records] == [0, 1, 1]
    assert all(x.make for r in records for x in r.results)
    records = chains(world, chain(world), mode="max", roots=True)
    assert [len(r.results) for r in records] == [1, 1, 1]


def test_min_makes_blobs_for_the_target_alone(world: World) -> None:
    """What is below the target is exported only if it has blobs already."""
    records = chains(world, chain(world), mode="min")
    assert [[x.make for x in r.results] for r in records] == [[], [False], [True]]


def test_content_keys_are_alternatives_of_the_definition(world: World) -> None:
    """A consumer with a content key is reached through the content and through the definition."""
    top = world.vertex("top", world.vertex("a", value="x"), slow={0: lambda v: v})
    records = chains(world, top, mode="max")
    (alternatives,) = named("top", records).inputs
    assert {records[place].digest for place, _ in alternatives} == {
        root_key(digest("key of a"), 0),
        root_key(digest("x"), -1),
    }


def test_ephemeral_keys_are_left_out(world: World) -> None:
    """Of a local folder only the content is exported; a step that has nothing else to be found by is not exported at all."""
    local = world.vertex("local", ephemeral=True, value="files")
    records = chains(world, world.vertex("top", local, slow={0: lambda v: v}), mode="max")
    assert len(records) == 2
    assert chains(world, world.vertex("top2", local), mode="max") == ()


def test_every_cache_map_of_a_source_is_exported(world: World) -> None:
    """A step on a source with two keys can be reached by either."""
    top = world.vertex("top", world.vertex("a", key=["k1", "k2"]))
    records = chains(world, top, mode="max")
    assert {len(alternatives) for alternatives in named("top", records).inputs} == {2}


def test_merged_edges_export_both_ways_in(world: World) -> None:
    """Two steps turned out equal by content; the one that ran is reachable by the definitions of both inputs."""

    def low(n: str) -> Vertex:
        return world.vertex("low", world.vertex("in" + n, value="same"), slow={0: lambda v: v})

    top = world.vertex("top", low("1"), low("2"))
    records = chains(world, top, mode="max")
    (alternatives,) = named("low", records).inputs
    reached = {records[place].digest for place, _ in alternatives}
    assert {root_key(digest("key of in1"), 0), root_key(digest("key of in2"), 0)} <= reached


def test_long_chains_need_no_stack(world: World) -> None:
    """As many steps as no Dockerfile has."""
    v = world.vertex("0")
    for i in range(3000):
        v = world.vertex(f"v{i}", v)
    assert len(chains(world, v, mode="max")) == 3001
    assert len(chains(world, v, mode="max")) == 3001
