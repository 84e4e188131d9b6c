"""Why a step ran: from data alone, and through the solver."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import StepError
from builder.graph.vertex import Edge, VertexMeta
from builder.oci.digest import Digest
from builder.solver import steplog
from builder.solver.errors import SolveError
from builder.solver.explain import Difference, Explanations, InputRecord, Past, StepRecord, differences, explain, nearest
from builder.solver.steplog import KEPT, StepLog, decode_step, encode_step
from builder.solver.types import OpContext
from builder.state.database import Database
from builder.state.schema import SOLVER_STEPS
from tests.builder.solver.world import World
from tests.support.rows import change


def said(old: StepRecord, new: StepRecord) -> list[str]:
    return [text(d) for d in differences(old, new)]


def text(d: Difference) -> str:
    return " ".join(x for x in (d.change, d.kind, d.name, d.old, d.new) if x)


def past(*steps: StepRecord, failed: bool = False, here: bool = True) -> list[Past]:
    return [Past(s, 100 - i, failed, here) for i, s in enumerate(steps)]


def step(title: str = "RUN make", stage: str = "build", *inputs: InputRecord, **parts: str) -> StepRecord:
    return StepRecord("exec", stage, title, tuple(parts.items()), inputs)


def test_equal_records_have_no_differences() -> None:
    a = step("RUN make", "build", InputRecord("base", "sel", ("k1", "k2"), ""), user="root")
    b = step("RUN make", "build", InputRecord("base", "sel", ("k2", "k3"), ""), user="root")
    assert differences(a, b) == ()


def test_parts_are_compared_by_name() -> None:
    old = step(workdir="/a", user="root", gone="x")
    new = step(workdir="/b", user="root", fresh="y")
    assert said(old, new) == ["added option fresh y", "removed option gone x", "changed option workdir /a /b"]


def test_variables_are_of_arg_or_of_env() -> None:
    old = StepRecord("exec", "s", "RUN x", (("env A", "1"), ("env B", "1")), args=("A",))
    new = StepRecord("exec", "s", "RUN x", (("env A", "2"), ("env B", "2")), args=("A",))
    assert said(old, new) == ["changed arg A 1 2", "changed env B 1 2"]


def test_another_instruction_says_what_its_words_say() -> None:
    """The command and the paths are in it; the user isn't."""
    old, new = step("RUN a", command="a", user="1"), step("RUN b", command="b", user="2")
    assert said(old, new) == ["changed instruction RUN a RUN b", "changed option user 1 2"]


def test_what_has_no_name_is_not_passed_over() -> None:
    """The digest differs, no part does."""
    old, new = (StepRecord("exec", "s", "RUN", digest=d) for d in "ab")
    assert said(old, new) == ["changed definition"]


def test_content_wins_over_definition() -> None:
    """An input that was built anew with the same content does not differ."""
    old = step("COPY", "s", InputRecord("stage", "sel", ("k1",), "sha256:c"))
    new = step("COPY", "s", InputRecord("stage", "sel", ("k9",), "sha256:c"))
    assert said(old, new) == []


def test_files_are_named() -> None:
    old = step("COPY", "s", InputRecord("ctx", "", (), "c1", (("a", "1"), ("b", "1"), ("gone", "1"))))
    new = step("COPY", "s", InputRecord("ctx", "", (), "c2", (("a", "1"), ("b", "2"), ("new", "1"))))
    assert said(old, new) == ["changed file b", "removed file gone", "added file new"]


def test_lists_that_were_cut_only_tell_of_files_that_both_have() -> None:
    old = step("COPY", "s", InputRecord("ctx", "", (), "c1", (("a", "1"), ("b", "1")), complete=False))
    new = step("COPY", "s", InputRecord("ctx", "", (), "c2", (("a", "2"), ("c", "1")), complete=False))
    assert said(old, new) == ["changed file a", "changed files ctx"]


def test_content_without_a_list_is_told_as_a_whole() -> None:
    old, new = (step("COPY", "s", InputRecord("ctx", "", (), c)) for c in ("c1", "c2"))
    assert said(old, new) == ["changed content ctx"]


def test_other_paths_of_an_input_are_no_changed_files() -> None:
    old, new = (step("COPY", "s", InputRecord("ctx", sel, (), sel, (("f", sel),))) for sel in ("s1", "s2"))
    assert said(old, new) == ["changed paths ctx"]


def test_an_input_that_changed_is_named() -> None:
    """An image with its digests."""
    old = step("RUN", "s", InputRecord("FROM x", "", ("k1",), identity="sha256:1"))
    new = step("RUN", "s", InputRecord("FROM x", "", ("k2",), identity="sha256:2"))
    assert differences(old, new) == (Difference("changed", "input", "FROM x", "sha256:1", "sha256:2"),)


def test_the_nearest_has_the_same_place_and_the_least_differences() -> None:
    other_stage = step("RUN make", "test", A="1")
    far = step("RUN make", "build", A="2", B="2")
    near = step("RUN make", "build", A="1", B="2")
    found = nearest(step("RUN make", "build", A="1", B="1"), past(other_stage, far, near))
    assert found is not None
    assert found.step is near


def test_another_instruction_is_compared_where_it_stood_on_the_same() -> None:
    """In its place; not one that stands elsewhere in the stage."""
    new = step("RUN b", "s", InputRecord("p", "", ("k1",)))
    here, elsewhere = (step("RUN a", "s", InputRecord("p", "", (k,))) for k in ("k1", "k2"))
    found = nearest(new, past(elsewhere, here))
    assert found is not None
    assert found.step is here
    assert nearest(new, past(elsewhere)) is None
    assert nearest(new, past(here, here=False)) is None


def test_reasons() -> None:
    s = step(A="1")
    assert explain(s, []).reason == "first"
    assert explain(s, past(s)).reason == "gone"
    assert explain(s, past(s, failed=True)).reason == "failed"
    assert explain(s, past(step(A="2"))).reason == "different"
    assert explain(s, past(s), ignored=True).reason == "ignored"


def test_records_survive_storing() -> None:
    i = InputRecord("n", "sel", ("k",), "c", (("f", "d"), ("\udcff", "x")), False, "sha256:1")
    s = StepRecord("exec", "s", "RUN", (("env A", "ü"),), (i,), "[1/1] RUN", ("A",), "d")
    assert decode_step(encode_step(s)) == s


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(str(tmp_path / "db"))


def run(world: World, database: Database, a: str, top: str, *, ignore_cache: bool = False) -> dict[str, tuple[str, list[str]]]:
    """A build; why each of its steps ran."""
    log = StepLog(database, f"build {next(world._ids)}", "scope")
    meta = VertexMeta(name="top", stage="s", instruction="RUN top", ignore_cache=ignore_cache)
    vertex = world.vertex("top", world.vertex("a", key=a, value=a), key=top, slow={0: lambda v: v}, meta=meta)
    world.build(vertex, explanations=lambda: log)
    return {m.step.title: (m.reason, [text(d) for d in m.differences]) for m in log.misses()}


def test_misses_of_builds(world: World, database: Database) -> None:
    """First build, nothing changed, the instruction changed, the content below changed, the result pruned, the cache ignored."""
    assert run(world, database, "a1", "t1") == {"a": ("first", []), "RUN top": ("first", [])}
    assert run(world, database, "a1", "t1") == {}
    assert run(world, database, "a1", "t2") == {"RUN top": ("different", ["changed option seed t1 t2"])}
    assert run(world, database, "a2", "t2") == {
        "a": ("different", ["changed option seed a1 a2"]),
        "RUN top": ("different", ["changed content a"]),
    }
    world.results.values.clear()
    assert run(world, database, "a2", "t2")["RUN top"] == ("gone", [])
    assert run(world, database, "a2", "t2", ignore_cache=True) == {"RUN top": ("ignored", [])}


def test_nothing_is_asked_for_when_nothing_runs(world: World, database: Database) -> None:
    """A cached build does not even make the tables."""

    def refuse() -> Explanations:
        raise AssertionError("nothing ran")

    run(world, database, "a1", "t1")
    vertex = world.vertex("top", world.vertex("a", key="a1", value="a1"), key="t1", slow={0: lambda v: v})
    world.build(vertex, explanations=refuse)


def test_a_failed_step_is_told_when_it_runs_again(world: World, database: Database) -> None:
    def fail(_: OpContext) -> None:
        raise StepError("exit code 1")

    def build() -> list[tuple[str, bool]]:
        log = StepLog(database, f"build {next(world._ids)}", "scope")
        with pytest.raises(SolveError):
            world.build(world.vertex("a", key="a", on_exec=fail), explanations=lambda: log)
        return [(m.reason, m.failed) for m in log.misses()]

    assert build() == [("first", True)]
    assert build() == [("failed", True)]


def test_internal_steps_are_not_recorded(world: World, database: Database) -> None:
    log = StepLog(database, "b", "scope")
    world.build(world.vertex("a", meta=VertexMeta(name="[internal] a", internal=True)), explanations=lambda: log)
    assert log.misses() == []


def test_a_plan_explains_too(world: World, database: Database) -> None:
    """Without recording anything."""
    run(world, database, "a1", "t1")
    log = StepLog(database, "plan", "scope")
    with world.solver(explanations=lambda: log) as solver:
        vertex = world.vertex("a", key="a9")
        for _ in range(2):
            solver.plan([Edge(vertex)])
    (miss,) = log.planned.values()
    assert [text(d) for d in miss.differences] == ["changed option seed a1 a9"]
    assert log.misses() == []


def test_credentials_of_urls_are_masked(world: World, database: Database) -> None:
    log = StepLog(database, "b", "scope")
    url = "https://user:hunter2@host/x"
    meta = VertexMeta(name=f"ADD {url}", instruction=f"ADD {url} /")
    world.build(world.vertex("a", key=url, meta=meta), explanations=lambda: log)
    assert "hunter2" not in repr(log.misses())
    assert "host/x" in repr(log.misses())


def test_the_last_build_is_the_last_that_ran_something(world: World, database: Database) -> None:
    assert StepLog(database, "", "").last() is None
    run(world, database, "a1", "t1")
    run(world, database, "a1", "t2")
    log = StepLog(database, "", "")
    last = log.last()
    assert last is not None
    assert last.scope == "scope"
    assert [text(d) for m in log.misses(last) for d in m.differences] == ["changed option seed t1 t2"]


def test_old_records_are_dropped(database: Database) -> None:
    log = StepLog(database, "b", "scope")
    for i in range(KEPT * 2):
        log.ran(Digest.of(b"v"), step(A=str(i)), ignored=False, failed=False)
    assert [dict(m.step.parts)["A"] for m in log.misses()] == [str(i) for i in range(KEPT, KEPT * 2)]


def test_records_of_one_scope_do_not_push_out_those_of_another(database: Database) -> None:
    mine, other = StepLog(database, "b1", "mine"), StepLog(database, "b2", "other")
    mine.ran(Digest.of(b"v"), step(A="1"), ignored=False, failed=False)
    for i in range(KEPT * 2):
        other.ran(Digest.of(b"v"), step(A=str(i)), ignored=False, failed=False)
    assert len(mine.misses()) == 1


def test_trimming_takes_the_old_and_the_oldest_of_too_many(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    log = StepLog(database, "b", "scope")
    for i in range(3):
        log.ran(Digest.of(b"v"), step(f"RUN {i}"), ignored=False, failed=False)
    change(database, SOLVER_STEPS, {"title": "RUN 1"}, created_ns=0)
    log.trim()
    assert [m.step.title for m in log.misses()] == ["RUN 0", "RUN 2"]
    monkeypatch.setattr(steplog, "_BYTES", len(encode_step(step("RUN 2"))))
    log.trim()
    assert [m.step.title for m in log.misses()] == ["RUN 2"]
