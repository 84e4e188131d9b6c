"""What is loaded, hashed and executed where several inputs, several builds and several outputs of one vertex come together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import CancelledError, StepError
from builder.graph.vertex import Edge, Vertex
from builder.progress.events import VertexCompleted
from builder.solver.errors import SolveError
from builder.solver.exporter import ExportedRecord, export_chains
from builder.solver.types import OpContext
from tests.builder.solver.world import Options, World

TIMEOUT = 20.0


def same(value: str) -> str:
    return value


def loaded(world: World, *targets: Vertex | Edge) -> int:
    """How many results a build of ``targets`` loads."""
    before = world.results.loads
    world.build(*targets)
    return int(world.results.loads - before)


# ------------------------------------------------------------------------------------------------ the least data
def test_an_input_that_counts_by_definition_is_not_loaded_for_the_content_of_another(world: World) -> None:
    """The second input changed and gives the content of before. The first is as it was, and nobody needs its files."""

    def top(b: str) -> Vertex:
        return world.vertex("top", world.vertex("a"), world.vertex("b", key=b, value="same"), slow={1: same})

    world.build(top("b1"))
    assert loaded(world, top("b2")) == 1, "the record of the top alone"
    assert world.executed == {"b": 1}


def test_two_changed_inputs_are_both_hashed_and_hit(world: World) -> None:
    """Neither definition leads anywhere; both contents do."""

    def top(n: str) -> Vertex:
        inputs = [world.vertex(name, key=name + n, value="same " + name) for name in "ab"]
        return world.vertex("top", *inputs, slow={0: same, 1: same})

    world.build(top("1"))
    assert loaded(world, top("2")) == 1
    assert world.executed == {"a": 1, "b": 1}
    assert world.hashed == {"top": 2}


def test_of_two_changed_inputs_one_with_other_content_is_enough_to_run(world: World) -> None:
    def top(n: str, b: str) -> Vertex:
        a = world.vertex("a", key="a" + n, value="same")
        return world.vertex("top", a, world.vertex("b", key="b" + n, value=b), slow={0: same, 1: same})

    world.build(top("1", "old"))
    world.build(top("2", "new"))
    assert world.executed == {"a": 1, "b": 1, "top": 1}


def test_content_below_a_hit_is_not_looked_at_however_late_the_hit_is_known(world: World) -> None:
    """The step at the top gives its key only when everything below it is at rest; what is below could have been hashed by then."""

    def top(middle_done: threading.Event) -> Vertex:
        def late(_: OpContext) -> None:
            assert middle_done.wait(TIMEOUT)

        middle = world.vertex(
            "middle", world.vertex("bottom"), selectors={0: "part"}, slow={0: same}, on_map=lambda _: middle_done.set()
        )
        return world.vertex("top", middle, world.vertex("late", on_map=late))

    world.build(top(threading.Event()))
    assert loaded(world, top(threading.Event())) == 1
    assert (world.executed, world.hashed) == ({}, {})


def test_content_of_a_match_waits_until_the_others_have_keys(world: World) -> None:
    """A step copies from two stages. One was rebuilt at its bottom and comes out the same. The other matches by its definition: it
    is not loaded to be hashed while the first one is still at work."""

    def top(seed: str) -> Vertex:
        first = world.vertex("first", world.vertex("bottom", key=seed, value="same"), slow={0: same})
        step = world.vertex("step", first, world.vertex("second"), slow={1: same})
        return world.vertex("top", step)

    world.build(top("old"))
    assert loaded(world, top("new")) == 1
    assert world.executed == {"bottom": 1}
    assert world.hashed == {"first": 1}


def test_inputs_known_from_different_builds_do_not_stop_the_solver(world: World) -> None:
    """Both inputs have led to a key, but never to the same one; of one the content counts now, of which nothing is known."""

    def top(n: str, a: str, b: str, slow: dict[int, Callable[..., str]] | None = None) -> Vertex:
        return world.vertex("top", world.vertex("a", key=a), world.vertex("b", key=b), key=n, slow=slow)

    world.build(top("t1", "a1", "b1"))
    world.build(top("t2", "a2", "b2"))
    world.build(top("t2", "a1", "b2", slow={1: same}))
    assert world.executed == {"top": 1}


def test_a_step_used_at_two_depths_is_one(world: World) -> None:
    """Equal vertices with different definitions meet at different levels of one graph, and more than once."""
    for _ in range(5):

        def two() -> Vertex:
            return world.vertex("two", world.vertex("const", key="2", value=2), key="sum", value=lambda i: i[0] + 2)

        left = world.vertex("left", two(), world.vertex("zero", value=0), value=sum)
        assert world.build(world.vertex("top", left, two(), value=lambda i: sum(i) + 3)) == [11]
        assert world.executed.get("two", 0) <= 1
        world.keys, world.results = type(world.keys)(), type(world.results)(world)


# ------------------------------------------------------------------------------------------------ one build after another
def test_builds_of_one_solver_find_each_others_equal_vertices(world: World) -> None:
    """Three builds with different definitions and equal keys: one execution, also when results of the first are given back."""

    def top(n: int) -> Vertex:
        return world.vertex(f"top{n}", world.vertex(f"in{n}", key="in"), key="top", value="t")

    with world.solver() as solver:
        for n in range(3):
            assert world.finish(solver, top(n)) == ["t"]
    assert sum(world.executed.values()) == 2


def test_nothing_is_merged_into_what_a_failed_build_left(world: World) -> None:
    """The solver goes on after a failure: an equal vertex is solved anew, not by the edge that was given up."""
    broken = [True]

    def maybe(_: OpContext) -> None:
        if broken:
            raise StepError("exit code: 1")

    def top(n: int) -> Vertex:
        return world.vertex("top", world.vertex("in", key="in", seed=str(n)), key="top", seed=str(n), on_exec=maybe)

    with world.solver() as solver:
        with pytest.raises(SolveError):
            world.finish(solver, top(1))
        broken.clear()
        assert world.finish(solver, top(2)) == ["value of top"]
    assert world.executed == {"in": 1, "top": 2}


def test_what_an_ignoring_vertex_gave_is_what_the_next_build_finds(world: World) -> None:
    """Three builds in a row ignore the cache; each runs once, and the record of the last one counts."""
    for n in range(3):
        assert world.build(world.vertex("top", world.vertex("a", value=f"v{n}", ignore_cache=True), value=same)) == [[f"v{n}"]]
        assert world.executed == {"a": 1, "top": 1}
    assert world.build(world.vertex("top", world.vertex("a", value="never"), value=same)) == [["v2"]]
    assert world.executed == {}


# ------------------------------------------------------------------------------------------------ who waits for a step
def test_a_step_that_two_wait_for_goes_on_when_one_has_what_it_needs(world: World) -> None:
    """Two outputs of one vertex are wanted while it runs; each asker gets its own of the one execution."""
    both = threading.Event()

    def slow(_: OpContext) -> None:
        assert both.wait(TIMEOUT)

    v = world.vertex("v", outputs=2, value="x", on_exec=slow)
    left = world.vertex("left", Edge(v, 0), world.vertex("l"), value=same)
    right = world.vertex("right", Edge(v, 1), world.vertex("r", on_exec=lambda _: both.set()), value=same)
    assert world.build(left, right) == [["x", "value of l"], ["x#1", "value of r"]]
    assert world.executed["v"] == 1


def test_an_error_does_not_wait_for_keys_that_are_asked_for_elsewhere(world: World) -> None:
    """A source never answers, and is told to stop as soon as another has failed; the error is the other's."""
    asked, stopped = threading.Event(), threading.Event()

    def silent(context: OpContext) -> None:
        asked.set()
        assert context.cancelled.wait(TIMEOUT)
        stopped.set()
        raise CancelledError("stopped")

    def fail(_: OpContext) -> None:
        assert asked.wait(TIMEOUT)
        raise StepError("no such tag")

    top = world.vertex("top", world.vertex("silent", on_map=silent), world.vertex("broken", on_map=fail))
    with pytest.raises(SolveError, match="no such tag"):
        world.build(top)
    assert stopped.is_set()
    assert {e.name: e.cancelled for e in world.events if isinstance(e, VertexCompleted)} == {"silent": True, "broken": False}


def test_a_failing_content_key_gives_back_what_it_was_made_of(world: World) -> None:
    """Of two consumers of one result one can't hash it. (That nothing is left held is checked after every test.)"""

    def missing(_: str) -> str:
        raise StepError("not found")

    a = world.vertex("a")
    with pytest.raises(SolveError, match="not found"):
        world.build(world.vertex("x", a, slow={0: missing}), world.vertex("y", a, slow={0: same}))
    world.build(world.vertex("y", a, slow={0: same}))
    assert "a" not in world.executed


# ------------------------------------------------------------------------------------------------ what is exported
def exported(world: World, target: Vertex) -> tuple[ExportedRecord, ...]:
    with world.solver() as solver:
        (result,) = solver.build([Edge(target)])
        result.release()
        return export_chains([result], "max")


def test_a_selected_input_is_exported_by_definition_by_content_and_by_what_it_was_before(world: World) -> None:
    """A step takes a part of its input. Built: a way in by the definition with the selector, and one by content without. Cached:
    the same. Rebuilt below with the same content: one more way. And all of them stay below a step that is put on top."""

    def step(seed: str) -> Vertex:
        return world.vertex("step", world.vertex("in", key=seed, value="files"), selectors={0: "part"}, slow={0: same})

    def ways(records: tuple[ExportedRecord, ...], at: int) -> list[str]:
        return sorted(selector for _, selector in records[at].inputs[0])

    built = exported(world, step("old"))
    assert ways(built, -1) == ["", "part"]
    again = exported(world, step("old"))
    assert [(r.digest, r.inputs, [x.id for x in r.results]) for r in again] == [
        (r.digest, r.inputs, [x.id for x in r.results]) for r in built
    ]
    rebuilt = exported(world, step("new"))
    assert ways(rebuilt, -1) == ["", "part", "part"]
    assert len(rebuilt) == len(built) + 1
    above = exported(world, world.vertex("above", step("new")))
    assert len(above) == len(rebuilt) + 1
    assert [len(r.results) for r in above[-2:]] == [1, 1]
    assert ways(above, -2) == ["", "part", "part"]


# ------------------------------------------------------------------------------------------------ other results than before
@pytest.fixture(params=["alone", "among processes"])
def locks(request: pytest.FixtureRequest, tmp_path: Path) -> Options:
    """Options of a build: with locks between processes, and without."""
    return {} if request.param == "alone" else {"locks": str(tmp_path)}


def test_everything_on_a_forced_step_runs(world: World, locks: Options) -> None:
    """Nothing above it counts by content, so all of it is made of what the forced step gave, however high."""

    def top(value: str, ignore: bool) -> Vertex:
        a = world.vertex("a", value=value, ignore_cache=ignore)
        return world.vertex("top", world.vertex("middle", a, value=same), value=same)

    assert world.build(top("old", False), **locks) == [[["old"]]]
    assert world.build(top("new", True), **locks) == [[["new"]]]
    assert world.executed == {"a": 1, "middle": 1, "top": 1}
    assert world.build(top("never", False), **locks) == [[["new"]]]
    assert world.executed == {}


def test_other_content_of_a_forced_step_runs_its_consumers(world: World, locks: Options) -> None:
    def top(value: str, ignore: bool) -> Vertex:
        copy = world.vertex("copy", world.vertex("a", value=value, ignore_cache=ignore), value=same, slow={0: same})
        return world.vertex("top", copy, value=same)

    world.build(top("old", False), **locks)
    assert world.build(top("new", True), **locks) == [[["new"]]]
    assert world.executed == {"a": 1, "copy": 1, "top": 1}
    assert world.build(top("never", False), **locks) == [[["new"]]]
    assert world.executed == {}


def test_content_leads_to_what_was_made_of_it_and_of_nothing_else(world: World, locks: Options) -> None:
    """One definition gave two contents. Another definition that gives the first one gets what was made of the first one, and what
    stands on that is told apart as well."""

    def top(key: str, value: str, ignore: bool = False) -> Vertex:
        copy = world.vertex("copy", world.vertex("a", key=key, value=value, ignore_cache=ignore), value=same, slow={0: same})
        return world.vertex("top", copy, value=same)

    world.build(top("k", "one"), **locks)
    world.build(top("k", "two", ignore=True), **locks)
    for key, value in (("other", "one"), ("another", "two"), ("third", "one")):
        assert world.build(top(key, value), **locks) == [[[value]]]
        assert world.executed == {"a": 1}


def test_a_step_that_was_pruned_and_gives_something_else_does_not_pass_for_the_old(world: World, locks: Options) -> None:
    """The result of a step is gone, what was made of it is not. A new consumer makes the step run again, and it gives other
    content than the first time: content of both is still told apart."""

    def a(value: str, key: str = "k") -> Vertex:
        return world.vertex("a", key=key, value=value)

    def copy(source: Vertex) -> Vertex:
        return world.vertex("copy", source, value=same, slow={0: same})

    world.build(copy(a("one")), **locks)
    (gone, *_) = sorted(world.results.values)
    del world.results.values[gone]
    world.build(world.vertex("new", a("two"), slow={0: same}), **locks)
    assert world.build(copy(a("two", key="other")), **locks) == [["two"]]
    assert world.build(copy(a("one", key="another")), **locks) == [["one"]]
