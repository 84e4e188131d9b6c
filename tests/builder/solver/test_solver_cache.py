"""Which vertices are executed, and which are not, by what is stored."""

from __future__ import annotations

from builder.graph.vertex import Edge, Vertex
from builder.solver.keystore import MemoryKeyStore
from tests.builder.solver.world import World


def test_a_second_build_executes_nothing(world: World) -> None:
    """A vertex is executed. Another vertex, with another definition but the same key, then needs no execution: its record is
    loaded."""
    assert world.build(world.vertex("a", value="one")) == ["one"]
    assert world.executed == {"a": 1}
    assert world.build(world.vertex("a", value="two")) == ["one"]
    assert world.executed == {}
    assert world.mapped == {"a": 1}


def test_another_key_is_executed(world: World) -> None:
    """The same vertex name with another key shares nothing with the first."""
    world.build(world.vertex("a", key="k1", value="one"))
    assert world.build(world.vertex("a", key="k2", value="two")) == ["two"]
    assert world.executed == {"a": 1}


def test_a_vertex_stays_known_to_its_solver(world: World) -> None:
    """While a solver is open, the same vertex is neither mapped nor executed again, even if the stores have lost everything."""
    v = world.vertex("a")
    with world.solver() as solver:
        world.finish(solver, v)
        world.results.values.clear()
        assert world.finish(solver, v) == ["value of a"]
    assert world.executed == {"a": 1}
    assert world.mapped == {"a": 1}


def test_a_hit_of_the_final_vertex_runs_nothing_below(world: World) -> None:
    """Three steps upon one another were built. In the next build only keys are asked for: one record is loaded, that of the last
    step."""

    def chain() -> Vertex:
        return world.vertex("c", world.vertex("b", world.vertex("a")))

    world.build(chain())
    loads = world.results.loads
    world.build(chain())
    assert world.executed == {}
    assert world.mapped == {"a": 1, "b": 1, "c": 1}
    assert world.results.loads == loads + 1


def test_a_change_in_the_middle_loads_what_is_below_and_runs_what_is_above(world: World) -> None:
    """Of three steps the second changed. The first is loaded, as it is an input of something that runs; second and third run."""
    world.build(world.vertex("c", world.vertex("b", world.vertex("a"))))
    loads = world.results.loads
    world.build(world.vertex("c", world.vertex("b", world.vertex("a"), key="changed")))
    assert world.executed == {"b": 1, "c": 1}
    assert world.results.loads == loads + 1


def test_equal_vertices_of_one_build_run_once(world: World) -> None:
    """Two vertices of one build with different definitions and the same key are merged: one execution, one result for both."""
    assert world.build(world.vertex("a", key="k", value="x"), world.vertex("b", key="k", value="x")) == ["x", "x"]
    assert sum(world.executed.values()) == 1


def test_equal_chains_of_one_build_run_once(world: World) -> None:
    """Two chains of two steps, equal in keys but not in definitions: each step runs once, for both."""

    def chain(n: str) -> Vertex:
        return world.vertex("top" + n, world.vertex("base" + n, key="base"), key="top", value="t")

    assert world.build(chain("1"), chain("2")) == ["t", "t"]
    assert sum(world.executed.values()) == 2


def test_a_diamond_runs_its_bottom_once(world: World) -> None:
    """Two steps use the same vertex; a third uses both."""
    bottom = world.vertex("bottom", value=1)
    left = world.vertex("left", bottom, value=lambda i: i[0] + 10)
    right = world.vertex("right", bottom, value=lambda i: i[0] + 100)
    top = world.vertex("top", left, right, value=sum)
    assert world.build(top) == [112]
    assert world.executed == {"bottom": 1, "left": 1, "right": 1, "top": 1}


def test_results_flow_through_levels(world: World) -> None:
    """A graph with shared parts of different depth computes what a recursion would."""
    a, b = world.vertex("a", value=1), world.vertex("b", value=2)
    s0 = world.vertex("s0", a, b, value=sum)  # 3
    s1 = world.vertex("s1", a, s0, s0, value=sum)  # 7
    s2 = world.vertex("s2", a, world.vertex("c", value=2), s1, value=sum)  # 10
    assert world.build(world.vertex("top", s2, s0, s1, value=lambda i: sum(i) + 3)) == [23]


def test_one_output_of_several(world: World) -> None:
    """A vertex with two outputs is executed once for both, and each is stored under a key of its own."""
    v = world.vertex("a", outputs=2, value="x")
    assert world.build(Edge(v, 0), Edge(v, 1)) == ["x", "x#1"]
    assert world.executed == {"a": 1}
    again = world.vertex("a", outputs=2, value="y")
    assert world.build(Edge(again, 1), Edge(again, 0)) == ["x#1", "x"]
    assert world.executed == {}


def test_only_the_output_that_was_asked_for_is_stored(world: World) -> None:
    """Output 0 was built. Output 1 is wanted now: the vertex must run again."""
    world.build(Edge(world.vertex("a", outputs=2, value="x"), 0))
    assert world.build(Edge(world.vertex("a", outputs=2, value="y"), 1)) == ["y#1"]
    assert world.executed == {"a": 1}


def test_wide_hit_needs_every_input(world: World) -> None:
    """A step of two inputs was built. With one of them changed there is no record; with both as before there is."""

    def top(a: str, b: str) -> Vertex:
        return world.vertex("top", world.vertex("a", key=a), world.vertex("b", key=b))

    world.build(top("a1", "b1"))
    world.build(top("a1", "b2"))
    assert world.executed == {"b": 1, "top": 1}
    world.build(top("a1", "b1"))
    assert world.executed == {}
    world.build(top("a2", "b2"))
    assert world.executed == {"a": 1, "top": 1}
    world.build(top("a2", "b1"))
    assert world.executed == {"top": 1}


def test_inputs_in_another_order_are_another_key(world: World) -> None:
    """diff(a, b) is not diff(b, a)."""
    world.build(world.vertex("top", world.vertex("a"), world.vertex("b")))
    world.build(world.vertex("top", world.vertex("b"), world.vertex("a")))
    assert world.executed == {"top": 1}


# ------------------------------------------------------------------------------------------------ selectors
def test_the_selector_is_part_of_the_key(world: World) -> None:
    """The same step on the same input hits only for the part of the input it was built with."""

    def top(part: str) -> Vertex:
        return world.vertex("top", world.vertex("a"), selectors={0: part})

    world.build(top("p1"))
    world.build(top("p1"))
    assert world.executed == {}
    world.build(top("p2"))
    assert world.executed == {"top": 1}


def test_content_keys_leave_the_selector_out(world: World) -> None:
    """The input changed, and so did the selector; the content selected is the same. That is all that counts."""

    def top(a: str, part: str) -> Vertex:
        return world.vertex("top", world.vertex("a", key=a), selectors={0: part}, slow={0: lambda _: "content"})

    world.build(top("a1", "p1"))
    world.build(top("a2", "p2"))
    assert world.executed == {"a": 1}
    assert world.hashed == {"top": 1}


# ------------------------------------------------------------------------------------------------ content
def test_an_input_rebuilt_with_the_same_content_hits(world: World) -> None:
    """The input's definition changed, so it runs; it gives the same content, so its consumer's record is good."""

    def top(a: str) -> Vertex:
        return world.vertex("top", world.vertex("a", key=a, value="same"), slow={0: lambda v: v})

    world.build(top("a1"))
    assert world.executed == {"a": 1, "top": 1}
    world.build(top("a2"))
    assert world.executed == {"a": 1}


def test_other_content_runs(world: World) -> None:
    """The input's definition changed and its content too."""
    world.build(world.vertex("top", world.vertex("a", key="a1", value="v1"), slow={0: lambda v: v}))
    world.build(world.vertex("top", world.vertex("a", key="a2", value="v2"), slow={0: lambda v: v}))
    assert world.executed == {"a": 1, "top": 1}


def test_a_definition_that_hit_by_content_hits_by_itself_next_time(world: World) -> None:
    """A changed input led to a hit by content. In the third build its definition alone is enough: nothing is executed or hashed."""

    def top(a: str) -> Vertex:
        return world.vertex("top", world.vertex("a", key=a, value="same"), slow={0: lambda v: v})

    world.build(top("a1"))
    world.build(top("a2"))
    world.build(top("a2"))
    assert world.executed == {}
    assert world.hashed == {}


def test_content_is_not_looked_at_when_definitions_match(world: World) -> None:
    """Nothing changed: no content key is computed, and the input is not loaded for it."""

    def top() -> Vertex:
        return world.vertex("top", world.vertex("a"), slow={0: lambda v: v})

    world.build(top())
    loads = world.results.loads
    world.build(top())
    assert world.hashed == {}
    assert world.results.loads == loads + 1


def test_content_is_not_looked_at_when_it_cannot_help(world: World) -> None:
    """The first input counts by definition alone, and its definition leads nowhere. The second input's content could not make a
    record out of that; but the step is going to run, and its result is stored under the content key, which has to be computed
    once."""

    def top(a: str, b: str) -> Vertex:
        return world.vertex("top", world.vertex("a", key=a), world.vertex("b", key=b), slow={1: lambda v: v})

    world.build(top("a1", "b1"))
    world.build(top("a2", "b1"))
    assert world.executed == {"a": 1, "top": 1}
    assert world.hashed == {"top": 1}


def test_the_input_without_a_match_is_hashed_first(world: World) -> None:
    """Two inputs with content keys. The first matches by definition, the second's definition is new. Only the second is built and
    hashed, its content leads to the record, and the first is never touched."""

    def top(b: str) -> Vertex:
        a = world.vertex("a", key="a")
        return world.vertex("top", a, world.vertex("b", key=b, value="same"), slow={0: lambda v: v, 1: lambda v: v})

    world.build(top("b1"))
    loads = world.results.loads
    world.build(top("b2"))
    assert world.executed == {"b": 1}
    assert world.hashed == {"top": 1}
    assert world.results.loads == loads + 1  # top's own


def test_content_of_a_loaded_input(world: World) -> None:
    """The consumer changed, its input didn't: the input is loaded and hashed, not executed."""
    world.build(world.vertex("top", world.vertex("a"), slow={0: lambda v: v}))
    world.build(world.vertex("top", world.vertex("a"), key="changed", slow={0: lambda v: v}))
    assert world.executed == {"top": 1}


def test_content_carries_over_to_higher_levels(world: World) -> None:
    """A stage changed at its bottom; the copy from it gives the same content. Everything above the copy hits without running, and
    the result at the top is the only one loaded."""

    def top(a: str) -> Vertex:
        stage = world.vertex("stage", world.vertex("bottom", key=a), value="same")
        copy = world.vertex("copy", world.vertex("base"), stage, slow={1: lambda v: v})
        return world.vertex("top", world.vertex("middle", copy))

    world.build(top("a1"))
    world.build(top("a2"))
    assert world.executed == {"bottom": 1, "stage": 1}


def test_a_local_folder_hits_by_content_alone(world: World) -> None:
    """A source whose key holds for one build only is looked at in every build; its consumer hits by what it holds. Nothing of the
    source is stored, however often that happens."""

    def top(content: str) -> Vertex:
        return world.vertex(
            "top", world.vertex("local", key=f"random {content}", ephemeral=True, value=content), slow={0: lambda v: v}
        )

    world.build(top("files"))
    assert isinstance(world.keys, MemoryKeyStore)
    stored = dict(world.results.values)
    links = {k: dict(v) for k, v in world.keys._links.items()}
    for _ in range(3):
        world.build(top("files"))
        assert world.executed == {"local": 1}
    assert world.results.values == stored
    assert world.keys._links == links
    world.build(top("other files"))
    assert world.executed == {"local": 1, "top": 1}


# ------------------------------------------------------------------------------------------------ several cache maps
def test_any_cache_map_can_hit(world: World) -> None:
    """A source has two keys. A record stored under both is found by either, and maps are asked for only until one has a record."""
    world.build(world.vertex("a", key=["k1", "k2"], value="x"))
    assert world.mapped == {"a": 2}
    assert world.build(world.vertex("b", key=["other", "k2"], value="y")) == ["x"]
    assert world.build(world.vertex("c", key=["k1", "whatever"], value="z")) == ["x"]
    assert world.mapped == {"c": 1}


def test_an_input_with_several_cache_maps_leads_on(world: World) -> None:
    """A step was built on a source with two keys. Another source shares the second key only: the step hits."""
    world.build(world.vertex("top", world.vertex("a", key=["k1", "k2"])))
    world.build(world.vertex("top", world.vertex("b", key=["k3", "k2"])))
    assert world.executed == {}


# ------------------------------------------------------------------------------------------------ ignoring the cache
def test_ignore_cache_runs_though_there_is_a_record(world: World) -> None:
    """The vertex runs; what it gives is stored, and newer than what was there."""
    world.build(world.vertex("a", value="old"))
    assert world.build(world.vertex("a", value="new", ignore_cache=True)) == ["new"]
    assert world.build(world.vertex("a", value="newest")) == ["new"]


def test_what_uses_an_ignoring_input_runs_too(world: World) -> None:
    """The bottom ignores the cache, so its result is new; the top has no content key, so it can't know better than to run."""

    def top(ignore: bool) -> Vertex:
        return world.vertex("top", world.vertex("a", ignore_cache=ignore))

    world.build(top(False))
    world.build(top(True))
    assert world.executed == {"a": 1, "top": 1}


def test_what_uses_an_ignoring_input_resumes_by_content(world: World) -> None:
    """The bottom ignores the cache and gives the same content: its consumer with a content key is cached."""

    def top(ignore: bool) -> Vertex:
        return world.vertex("top", world.vertex("a", ignore_cache=ignore, value="same"), slow={0: lambda v: v})

    world.build(top(False))
    world.build(top(True))
    assert world.executed == {"a": 1}


def test_the_same_vertex_with_and_without_cache_in_one_build_runs_once(world: World) -> None:
    """One target ignores the cache for a vertex, another doesn't. Whichever is loaded first, the forced run serves what comes
    after it."""
    world.build(world.vertex("a", seed="s", value="old"))
    forced = world.vertex("a", seed="s", value="new", ignore_cache=True)
    plain = world.vertex("a", seed="s", value="new")
    assert world.build(forced, plain) == ["new", "new"]
    assert world.executed == {"a": 1}


def test_ignoring_twice_in_one_solver_runs_once(world: World) -> None:
    """A vertex that ignores the cache is still one vertex: two targets with it run it once."""
    bottom = world.vertex("a", ignore_cache=True)
    world.build(world.vertex("x", bottom), world.vertex("y", bottom))
    assert world.executed == {"a": 1, "x": 1, "y": 1}


# ------------------------------------------------------------------------------------------------ records that are gone
def test_a_record_whose_result_is_gone_is_no_hit(world: World) -> None:
    """The result was pruned behind the key store's back: the vertex runs, and the dead record is forgotten."""
    world.build(world.vertex("a"))
    world.results.values.clear()
    world.build(world.vertex("a"))
    assert world.executed == {"a": 1}
    assert len(world.keys.result_ids()) == 1


def test_a_gone_result_in_the_middle_does_not_matter(world: World) -> None:
    """The intermediate result was pruned, the final one is there: its key is found through the intermediate key all the same."""

    def top() -> Vertex:
        return world.vertex("top", world.vertex("a"))

    world.build(top())
    (a_id, _) = sorted(world.results.values)
    del world.results.values[a_id]
    world.build(top())
    assert world.executed == {}


def test_a_gone_final_result_loads_the_intermediate(world: World) -> None:
    """The final result was pruned: only that step runs, on the intermediate result that is still there."""
    world.build(world.vertex("top", world.vertex("a")))
    (_, top_id) = sorted(world.results.values)
    del world.results.values[top_id]
    world.build(world.vertex("top", world.vertex("a")))
    assert world.executed == {"top": 1}


def test_a_record_that_cannot_be_loaded_is_a_miss(world: World) -> None:
    """The store says that the result exists, and fails when it is loaded: a warning, and the vertex runs."""
    from builder.progress.events import Warned

    world.build(world.vertex("a", value="old"))
    world.results.broken = set(world.results.values)
    assert world.build(world.vertex("a", value="new")) == ["new"]
    assert any(isinstance(e, Warned) for e in world.events)


def test_a_failed_load_goes_on_to_the_inputs(world: World) -> None:
    """The final record can't be loaded. Its inputs, which were let go of when the load began, are asked again and loaded."""
    world.build(world.vertex("top", world.vertex("a")))
    (_, top_id) = sorted(world.results.values)
    world.results.broken = {top_id}
    world.build(world.vertex("top", world.vertex("a")))
    assert world.executed == {"top": 1}


def test_the_next_record_is_tried_when_one_fails(world: World) -> None:
    """Two records are under one key; the newer one is damaged, the older one serves."""
    world.build(world.vertex("a", value="old"))
    (old,) = world.results.values
    world.build(world.vertex("a", value="new", ignore_cache=True))
    world.results.broken = set(world.results.values) - {old}
    assert world.build(world.vertex("a")) == ["old"]
    assert world.executed == {}


# ------------------------------------------------------------------------------------------------ imported caches
def test_an_imported_cache_hits_and_is_kept(world: World) -> None:
    """The own store is empty; a remote one knows the whole chain. One result is loaded from there and saved in the own store,
    which then hits without the remote one."""
    from builder.solver.keycache import KeyCache
    from builder.solver.keystore import MemoryKeyStore

    def top() -> Vertex:
        return world.vertex("top", world.vertex("a"))

    world.build(top())
    remote = KeyCache(world.keys, world.results, priority=1)
    world.keys, world.results = MemoryKeyStore(), type(world.results)(world)
    world.imported = [remote]
    world.build(top())
    assert world.executed == {}
    world.imported = []
    world.build(top())
    assert world.executed == {}


def test_sources_that_know_different_parts_are_combined(world: World) -> None:
    """One store knows the bottom, another a top that was built elsewhere on the same keys."""
    from builder.solver.keycache import KeyCache
    from builder.solver.keystore import MemoryKeyStore

    world.build(world.vertex("top", world.vertex("a")))
    remote = KeyCache(world.keys, world.results, priority=1)
    world.keys, world.results = MemoryKeyStore(), type(world.results)(world)
    world.build(world.vertex("a"))
    world.imported = [remote]
    world.build(world.vertex("top2", world.vertex("a")), world.vertex("top", world.vertex("a")))
    assert world.executed == {"top2": 1}
