"""How vertices are executed: in parallel, with errors, cancelled, between processes; and what that costs the scheduler."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from builder.errors import CancelledError, StepError
from builder.graph.vertex import Edge, Vertex
from builder.progress.events import VertexCompleted, VertexStarted
from builder.solver.edge import ActiveEdge
from builder.solver.errors import SolveError
from builder.solver.keycache import KeyCache
from builder.solver.keystore import MemoryKeyStore
from builder.solver.requests import EdgeRequest, Pending
from builder.solver.scheduler import Scheduler
from builder.solver.types import OpContext
from builder.state.cancel import Token, scope
from tests.builder.solver.world import World, nothing

TIMEOUT = 20.0


def wait(event: threading.Event | Token) -> None:
    assert event.wait(TIMEOUT), "what should have happened did not"


def until_cancelled(context: OpContext) -> None:
    wait(context.cancelled)
    raise CancelledError("stopped")


# ------------------------------------------------------------------------------------------------ parallel
def test_independent_inputs_run_at_the_same_time(world: World) -> None:
    """Two inputs of one step each wait for the other to have begun."""
    barrier = threading.Barrier(2, timeout=TIMEOUT)
    inputs = [world.vertex(n, on_exec=lambda _: barrier.wait()) for n in ("a", "b")]
    world.build(world.vertex("top", *inputs))


def test_keys_of_sources_are_asked_for_at_the_same_time(world: World) -> None:
    """Two tags are resolved: neither answers before the other was asked."""
    barrier = threading.Barrier(2, timeout=TIMEOUT)
    inputs = [world.vertex(n, on_map=lambda _: barrier.wait()) for n in ("a", "b")]
    world.build(world.vertex("top", *inputs))


def test_parallelism_bounds_executions(world: World) -> None:
    """Ten steps could run at once, two may."""
    lock, running, most = threading.Lock(), [0], [0]

    def busy(_: OpContext) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1

    world.build(world.vertex("top", *[world.vertex(f"v{i}", on_exec=busy) for i in range(10)]), parallelism=2)
    assert most[0] <= 2
    assert sum(world.executed.values()) == 11


def test_one_at_a_time_is_enough(world: World) -> None:
    """With a parallelism of one nothing waits for ever, whatever the shape."""
    a = world.vertex("a")
    top = world.vertex("top", world.vertex("b", a), world.vertex("c", a, slow={0: lambda v: v}))
    world.build(top, parallelism=1)
    assert world.executed == {"a": 1, "b": 1, "c": 1, "top": 1}


# ------------------------------------------------------------------------------------------------ errors
def test_the_error_names_its_vertex(world: World) -> None:
    """A step below the target fails: the caller gets its text, and the vertex with its place in the Dockerfile."""

    def fail(_: OpContext) -> None:
        raise StepError("exit code: 1", hint="look there")

    broken = world.vertex("broken", on_exec=fail)
    with pytest.raises(SolveError, match=r"^exit code: 1$") as caught:
        world.build(world.vertex("top", broken))
    assert caught.value.vertex is broken
    assert isinstance(caught.value.cause, StepError)
    assert caught.value.hint == "look there"
    assert "top" not in world.executed


def test_an_error_of_a_key_is_one_too(world: World) -> None:
    """A tag can't be resolved: BuildKit's words lead the cause."""

    def fail(_: OpContext) -> None:
        raise StepError("no such tag")

    with pytest.raises(SolveError, match=r"^failed to load cache key: no such tag$"):
        world.build(world.vertex("top", world.vertex("a", on_map=fail)))
    assert world.executed == {}


def test_an_error_of_a_content_key_belongs_to_the_consumer(world: World) -> None:
    """A file to be copied does not exist in the input: the COPY is at fault, not the input."""

    def missing(_: str) -> str:
        raise StepError('"/x": not found')

    copy = world.vertex("copy", world.vertex("a"), slow={0: missing})
    with pytest.raises(SolveError, match=r'^failed to compute cache key: "/x": not found$') as caught:
        world.build(copy)
    assert caught.value.vertex is copy
    assert world.executed == {"a": 1}


def test_an_error_of_the_system_has_one_line(world: World) -> None:
    """The disk is full while a step works."""

    def fail(_: OpContext) -> None:
        raise OSError(28, "No space left on device", "/f")

    with pytest.raises(SolveError, match=r"^/f: No space left on device$") as caught:
        world.build(world.vertex("a", on_exec=fail))
    assert "prune" in caught.value.hint


def test_a_bug_in_an_op_keeps_its_type(world: World) -> None:
    """What is no expected error comes through as it is, with a note of where it happened."""

    def fail(_: OpContext) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        world.build(world.vertex("a", on_exec=fail))
    assert "while solving a" in caught.value.__notes__[0]


def test_a_failing_step_stops_its_siblings(world: World) -> None:
    """Two inputs run. One fails when the other is under way: the other is told to stop, and the error is that of the one that
    failed."""
    started, stopped = threading.Event(), threading.Event()

    def slow(context: OpContext) -> None:
        started.set()
        wait(context.cancelled)
        stopped.set()
        raise CancelledError("stopped")

    def fail(_: OpContext) -> None:
        wait(started)
        raise StepError("exit code: 1")

    with pytest.raises(SolveError, match="exit code: 1"):
        world.build(world.vertex("top", world.vertex("slow", on_exec=slow), world.vertex("broken", on_exec=fail)))
    assert stopped.is_set()
    ends = {e.name: e for e in world.events if isinstance(e, VertexCompleted) and e.error}
    assert ends["slow"].cancelled
    assert not ends["broken"].cancelled


def test_a_failing_target_stops_the_others(world: World) -> None:
    """Two targets have nothing in common; the first error of one ends the other."""
    started = threading.Event()

    def slow(context: OpContext) -> None:
        started.set()
        until_cancelled(context)

    def fail(_: OpContext) -> None:
        wait(started)
        raise StepError("exit code: 1")

    with pytest.raises(SolveError, match="exit code: 1"):
        world.build(world.vertex("slow", on_exec=slow), world.vertex("broken", on_exec=fail))


def test_finished_steps_of_a_failed_build_stay_cached(world: World) -> None:
    """The second of two steps fails. Mended, only that one runs."""

    def fail(_: OpContext) -> None:
        raise StepError("exit code: 1")

    with pytest.raises(SolveError):
        world.build(world.vertex("b", world.vertex("a"), on_exec=fail))
    world.build(world.vertex("b", world.vertex("a")))
    assert world.executed == {"b": 1}


def test_a_failed_vertex_fails_all_who_use_it_once(world: World) -> None:
    """Two steps use a broken one: it runs once, and fails both."""

    def fail(_: OpContext) -> None:
        raise StepError("exit code: 1")

    broken = world.vertex("broken", on_exec=fail)
    with pytest.raises(SolveError):
        world.build(world.vertex("x", broken), world.vertex("y", broken))
    assert world.executed == {"broken": 1}


def test_an_output_that_is_not_there(world: World) -> None:
    """A vertex gives one output, the second is asked for: an error, no hang."""
    with pytest.raises(RuntimeError, match="output 1 is wanted, there are 1"):
        world.build(Edge(world.vertex("a"), 1))


# ------------------------------------------------------------------------------------------------ cancelling
@pytest.mark.parametrize("where", ["on_map", "on_exec"])
def test_cancel_stops_what_runs(world: World, where: str) -> None:
    """From another thread, while a source resolves or a step runs."""
    solver = world.solver()

    def slow(context: OpContext) -> None:
        solver.cancel()
        until_cancelled(context)

    on_map, on_exec = (slow, nothing) if where == "on_map" else (nothing, slow)
    source = world.vertex("a", on_map=on_map, on_exec=on_exec)
    with solver, pytest.raises(CancelledError):
        world.finish(solver, world.vertex("top", source))


def test_cancelled_steps_can_be_run_again(world: World) -> None:
    """A cancelled execution is no verdict: the next build runs it to its end."""
    solver = world.solver()

    def slow(context: OpContext) -> None:
        solver.cancel()
        until_cancelled(context)

    with solver, pytest.raises(CancelledError):
        world.finish(solver, world.vertex("a", on_exec=slow))
    assert world.build(world.vertex("a")) == ["value of a"]
    assert world.executed == {"a": 1}


def test_a_solver_that_was_cancelled_builds_no_more(world: World) -> None:
    """Ctrl-C between two builds counts for the second."""
    with world.solver() as solver:
        solver.cancel()
        with pytest.raises(CancelledError):
            world.finish(solver, world.vertex("a"))
    assert world.executed == {}


def test_ctrl_c_in_the_loop_stops_what_runs(world: World) -> None:
    """Python raises KeyboardInterrupt in the main thread, in the middle of whatever the loop does, while a source resolves
    elsewhere."""
    entered, stopped = threading.Event(), threading.Event()

    def slow(context: OpContext) -> None:
        entered.set()
        wait(context.cancelled)
        stopped.set()
        raise CancelledError("stopped")

    def interrupt(_: OpContext) -> None:
        wait(entered)
        raise KeyboardInterrupt

    top = world.vertex("top", world.vertex("middle", world.vertex("a"), on_map=interrupt), world.vertex("slow", on_map=slow))
    with pytest.raises(CancelledError):
        world.build(top)
    assert stopped.is_set()


def test_a_step_that_ends_despite_the_cancel_is_kept(world: World) -> None:
    """The step was told to stop, and was done already. Its result is stored."""
    solver = world.solver()
    with solver, pytest.raises(CancelledError):
        world.finish(solver, world.vertex("top", world.vertex("a", on_exec=lambda _: solver.cancel())))
    world.build(world.vertex("a"))
    assert world.executed == {}


# ------------------------------------------------------------------------------------------------ between processes
def test_two_solvers_run_a_step_once(world: World, tmp_path: Path) -> None:
    """Two processes of one root build the same two steps at the same time. The first holds the lock of the first step until the
    second one is waiting for it: each step is executed once in all, and both get the result."""
    entered = threading.Event()
    release = threading.Event()

    def slow(_: OpContext) -> None:
        entered.set()
        wait(release)

    def top() -> Vertex:
        return world.vertex("top", world.vertex("a", on_exec=slow), value=lambda i: "on " + i[0])

    values: list[object] = []

    def process() -> None:
        with world.solver(locks=str(tmp_path)) as solver:
            values.extend(world.finish(solver, top()))

    threads = [threading.Thread(target=process) for _ in range(2)]
    threads[0].start()
    wait(entered)
    threads[1].start()
    while world.mapped.get("a", 0) < 2:  # the second one has looked for records, in vain
        threading.Event().wait(0.001)
    release.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert values == ["on value of a"] * 2
    assert world.executed == {"a": 1, "top": 1}
    assert os.listdir(tmp_path) == []


def test_waiting_for_another_process_can_be_cancelled(world: World, tmp_path: Path) -> None:
    """The lock of a step is held by somebody who never ends."""
    from builder.state.locks import named_lock

    holder = world.solver(locks=str(tmp_path))
    waiter = world.solver(locks=str(tmp_path))
    entered = threading.Event()

    def slow(context: OpContext) -> None:
        entered.set()
        until_cancelled(context)

    def hold() -> None:
        with holder, pytest.raises(CancelledError):
            world.finish(holder, world.vertex("a", on_exec=slow))

    thread = threading.Thread(target=hold)
    thread.start()
    wait(entered)
    (name,) = os.listdir(tmp_path)
    cancelled = Token()
    cancelled.set()
    with pytest.raises(CancelledError), scope(cancelled), named_lock(str(tmp_path), name):
        pass

    def stop() -> None:
        while world.mapped.get("b", 0) < 1:
            threading.Event().wait(0.001)
        waiter.cancel()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with waiter, pytest.raises(CancelledError):
        world.finish(waiter, world.vertex("b", key="key of a"))
    assert "b" not in world.executed
    holder.cancel()
    thread.join(TIMEOUT)
    stopper.join(TIMEOUT)


def test_a_holder_that_was_killed_leaves_the_lock_free(tmp_path: Path) -> None:
    """A file of a dead process lies there unlocked: it is taken, and cleaned away."""
    from builder.state.locks import named_lock

    (tmp_path / "step-x").write_bytes(b"")
    with named_lock(str(tmp_path), "step-x") as waited:
        assert not waited
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------ merging
def test_merging_makes_no_circle(world: World) -> None:
    """Two vertices have one key, and one is the input of the other (a step that changes nothing, in effect): merging them would
    make the edge wait for itself."""
    a = world.vertex("a", key="k", value="x")
    b = world.vertex("b", a, key="same", value="x")
    c = world.vertex("c", b, key="same", value="x")
    assert world.build(world.vertex("top", b, c, slow={0: lambda v: v, 1: lambda v: v})) == ["value of top"]


def test_edges_merged_both_ways_make_no_circle(world: World) -> None:
    """Vertices of two outputs turn out equal output by output, found in opposite orders: whoever owns an edge of the other goes on
    owning."""

    def pair(n: str) -> Vertex:
        return world.vertex(
            "pair" + n, world.vertex("in" + n, key=f"in {n}", value="same"), key="pair", outputs=2, slow={0: lambda v: v}, value="p"
        )

    p, q = pair("1"), pair("2")
    x = world.vertex("x", Edge(p, 0), Edge(q, 1), value=lambda i: i)
    y = world.vertex("y", Edge(q, 0), Edge(p, 1), value=lambda i: i)
    assert world.build(x, y) == [["p", "p#1"], ["p", "p#1"]]


def test_a_merged_chain_goes_on_above(world: World) -> None:
    """The inputs differ in definition and are the same in content, which is known only after they ran: from there on the two
    chains are one, and everything above runs once."""

    def chain(n: str) -> Vertex:
        low = world.vertex("low" + n, world.vertex("in" + n, key=f"in {n}", value="same"), key="low", slow={0: lambda v: v})
        return world.vertex("high" + n, low, key="high", value="h")

    assert world.build(chain("1"), chain("2")) == ["h", "h"]
    assert sum(n for name, n in world.executed.items() if name.startswith("low")) == 1
    assert sum(n for name, n in world.executed.items() if name.startswith("high")) == 1


def test_one_forced_and_one_plain_of_the_same_key(world: World) -> None:
    """Different vertices with one key, one of which must run: the plain one takes the forced one's result or the record; it may
    not be the other way round."""
    world.build(world.vertex("a", key="k", value="old"))
    forced = world.vertex("f", key="k", value="new", ignore_cache=True)
    plain = world.vertex("p", key="k", value="never")
    values = world.build(forced, plain)
    assert values[0] == "new"
    assert values[1] in ("new", "old")
    assert world.executed == {"f": 1}


# ------------------------------------------------------------------------------------------------ progress
def shown(world: World) -> list[tuple[str, str]]:
    out = []
    for e in world.events:
        if isinstance(e, VertexStarted):
            out.append((e.name, "start"))
        elif isinstance(e, VertexCompleted):
            out.append((e.name, "CACHED" if e.cached else "ERROR" if e.error else "done"))
    return out


def test_progress_of_a_first_build(world: World) -> None:
    """A source is shown when its key is asked for and again when it is executed; a step when it is executed."""
    world.build(world.vertex("top", world.vertex("a")))
    a, top = [("a", "start"), ("a", "done")], [("top", "start"), ("top", "done")]
    assert shown(world) == a + a + top


def test_progress_of_a_cached_chain(world: World) -> None:
    """Only the last record is loaded; the steps below are shown as cached just before it, inputs first. The source has shown
    itself."""

    def chain() -> Vertex:
        return world.vertex("c", world.vertex("b", world.vertex("a")))

    world.build(chain())
    world.build(chain())
    assert shown(world) == [
        ("a", "start"), ("a", "done"), ("b", "start"), ("b", "CACHED"), ("c", "start"), ("c", "CACHED"),
    ]  # fmt: skip


def test_an_error_is_shown_at_its_vertex(world: World) -> None:
    """The failing content key is an error of the consumer."""

    def missing(_: str) -> str:
        raise StepError("not found")

    with pytest.raises(SolveError):
        world.build(world.vertex("copy", world.vertex("a"), slow={0: missing}))
    assert shown(world)[-2:] == [("copy", "start"), ("copy", "ERROR")]


# ------------------------------------------------------------------------------------------------ plan
def verdicts(world: World, *targets: Vertex) -> dict[str, str]:
    with world.solver() as solver:
        plan = solver.plan([Edge(t) for t in targets])
    return {p.vertex.meta.name: p.verdict for p in plan.vertices}


def test_a_plan_executes_nothing(world: World) -> None:
    """Nothing is stored: all would run, and afterwards nothing has."""
    assert verdicts(world, world.vertex("top", world.vertex("a"))) == {"a": "run", "top": "run"}
    assert world.executed == {}
    assert world.results.values == {}
    assert world.keys.result_ids() == []


def test_a_plan_of_something_built_is_all_cached(world: World) -> None:
    """What was built is there, also what lies below it."""

    def top() -> Vertex:
        return world.vertex("top", world.vertex("a"), slow={0: lambda v: v})

    world.build(top())
    assert verdicts(world, top()) == {"a": "cached", "top": "cached"}


def test_a_plan_can_not_know_content_that_is_not_there(world: World) -> None:
    """The input would run. Whether its consumer does depends on what comes out."""

    def top(a: str) -> Vertex:
        return world.vertex("top", world.vertex("a", key=a), slow={0: lambda v: v})

    world.build(top("a1"))
    assert verdicts(world, top("a2")) == {"a": "run", "top": "maybe"}


def test_a_plan_looks_at_local_files(world: World) -> None:
    """Content of a local folder is at hand: the plan hashes it, and knows."""

    def top(content: str) -> Vertex:
        return world.vertex("top", world.vertex("local", ephemeral=True, value=content), slow={0: lambda v: v})

    world.build(top("files"))
    assert verdicts(world, top("files")) == {"local": "cached", "top": "cached"}
    assert verdicts(world, top("other")) == {"local": "cached", "top": "run"}


def test_a_plan_can_not_know_content_that_takes_more_than_a_look(world: World) -> None:
    """The input is there, its content was never hashed: no mount is made to find out. A build hashes it, and hits."""

    def top(key: str, *, costly_content: bool = True) -> Vertex:
        return world.vertex("top", world.vertex("a", key=key, value="same"), slow={0: lambda v: v}, costly_content=costly_content)

    world.build(top("a1"))
    world.build(world.vertex("a", key="a2", value="same"))
    assert verdicts(world, top("a2")) == {"a": "cached", "top": "maybe"}
    assert verdicts(world, top("a2", costly_content=False)) == {"a": "cached", "top": "cached"}
    world.build(top("a2"))
    assert world.executed == {}


def test_a_plan_makes_nothing_of_a_remote_cache_its_own(world: World) -> None:
    """What is imported counts as cached, and is kept by nobody."""
    v = world.vertex("a")
    world.build(v)
    world.imported = [KeyCache(world.keys, world.results)]
    world.keys = MemoryKeyStore()
    assert verdicts(world, v) == {"a": "cached"}
    assert world.keys.result_ids() == []
    world.build(v)
    assert len(world.keys.result_ids()) == 1


def test_a_build_after_a_plan_runs_for_real(world: World) -> None:
    """Placeholders of the plan never get into the build of the same solver."""
    v = world.vertex("a")
    with world.solver() as solver:
        solver.plan([Edge(v)])
        assert world.finish(solver, v) == ["value of a"]


# ------------------------------------------------------------------------------------------------ cost
def steps(world: World, target: Vertex | Edge) -> int:
    with world.solver() as solver:
        world.finish(solver, target)
        return int(solver.steps)


@pytest.mark.parametrize("slow", [False, True], ids=["definitions", "content"])
def test_steps_per_vertex_do_not_grow_with_the_chain(world: World, slow: bool) -> None:
    """A chain of 1000 vertices costs ten times the steps of one of 100: executed, and cached. (Counted, not timed.)"""

    def chain(n: int) -> Vertex:
        v = world.vertex("0", seed=f"{n}")
        for i in range(1, n):
            v = world.vertex(f"{n}:{i}", v, slow={0: lambda value: value} if slow else {})
        return v

    few, many = steps(world, chain(100)), steps(world, chain(1000))
    assert many < few * 11
    few, many = steps(world, chain(100)), steps(world, chain(1000))
    assert many < few * 11


def test_steps_per_vertex_do_not_grow_with_the_width(world: World) -> None:
    """A merge of 500 layers against one of 50."""

    def wide(n: int) -> Vertex:
        base = world.vertex("base", seed="b")
        return world.vertex(f"top {n}", *[world.vertex(f"{n}:{i}", base) for i in range(n)])

    few, many = steps(world, wide(50)), steps(world, wide(500))
    assert many < few * 11


def test_a_step_of_many_inputs_is_looked_at_a_few_times(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look goes over all its inputs, so it must not be looked at whenever one of them has news."""
    looks: list[Vertex] = []
    real = ActiveEdge.unpark

    def counted(
        edge: ActiveEdge,
        incoming: Sequence[EdgeRequest],
        updates: Sequence[EdgeRequest | Pending],
        outgoing: Sequence[EdgeRequest | Pending],
        scheduler: Scheduler,
    ) -> None:
        looks.append(edge.vertex.vertex)
        real(edge, incoming, updates, outgoing, scheduler)

    monkeypatch.setattr(ActiveEdge, "unpark", counted)
    base = world.vertex("base")
    top = world.vertex("top", *[world.vertex(str(i), base) for i in range(500)])
    world.build(top)
    looks.clear()
    world.build(top)
    assert world.executed == {}
    assert looks.count(top) < 20


def test_a_lattice_is_solved_without_walking_its_paths(world: World) -> None:
    """Forty levels of two vertices, each using both of the level below: 2^40 paths, 80 vertices."""
    level = [world.vertex("l"), world.vertex("r")]
    for i in range(40):
        level = [world.vertex(f"l{i}", *level), world.vertex(f"r{i}", *level)]
    top = world.vertex("top", *level)
    assert steps(world, top) < 83 * 20
    assert sum(world.executed.values()) == 83
