"""Why a step ran: from data alone, and through the solver."""

from __future__ import annotations

from typing import Any

import pytest

from builder.graph.vertex import Edge, VertexMeta
from builder.solver.explain import (
    KEPT,
    Difference,
    InputRecord,
    StepRecord,
    StoredExplanations,
    decode_step,
    differences,
    encode_step,
    explain,
    nearest,
)
from builder.state.database import Database


def step(title: str = "RUN make", stage: str = "build", *inputs: InputRecord, **parts: str) -> StepRecord:
    return StepRecord("exec", stage, title, tuple(parts.items()), inputs)


def test_equal_records_have_no_differences() -> None:
    a = step("RUN make", "build", InputRecord("base", "sel", ("k1", "k2"), ""), user="root")
    b = step("RUN make", "build", InputRecord("base", "sel", ("k2", "k3"), ""), user="root")
    assert differences(a, b) == ()


def test_parts_are_compared_by_name() -> None:
    old = step(VERSION="1", user="root", gone="x")
    new = step(VERSION="2", user="root", fresh="y")
    assert [str(d) for d in differences(old, new)] == ["VERSION changed: 1 -> 2", "fresh was added", "gone was removed"]


def test_content_wins_over_definition() -> None:
    """An input that was built anew with the same content does not differ."""
    old = step("COPY", "s", InputRecord("stage", "sel", ("k1",), "sha256:c"))
    new = step("COPY", "s", InputRecord("stage", "sel", ("k9",), "sha256:c"))
    assert differences(old, new) == ()


def test_files_are_named() -> None:
    old = step("COPY", "s", InputRecord("ctx", "", (), "c1", (("a", "1"), ("b", "1"), ("gone", "1"))))
    new = step("COPY", "s", InputRecord("ctx", "", (), "c2", (("a", "1"), ("b", "2"), ("new", "1"))))
    assert [str(d) for d in differences(old, new)] == ["file b changed", "file gone was removed", "file new was added"]


def test_an_input_that_changed_is_named() -> None:
    old = step("RUN", "s", InputRecord("FROM x", "", ("k1",)))
    new = step("RUN", "s", InputRecord("FROM x", "", ("k2",)))
    assert differences(old, new) == (Difference("changed", "input FROM x"),)


def test_the_nearest_has_the_same_place_and_the_least_differences() -> None:
    other_stage = step("RUN make", "test", A="1")
    far = step("RUN make", "build", A="2", B="2")
    near = step("RUN make", "build", A="1", B="2")
    assert nearest(step("RUN make", "build", A="1", B="1"), [other_stage, far, near]) is near


def test_reasons() -> None:
    s = step(A="1")
    assert explain("d", s, []).reason == "first"  # type: ignore[arg-type]
    assert explain("d", s, [s]).reason == "gone"  # type: ignore[arg-type]
    assert explain("d", s, [step(A="2")]).reason == "different"  # type: ignore[arg-type]
    assert explain("d", s, [s], ignored=True).reason == "ignored"  # type: ignore[arg-type]


def test_records_survive_storing() -> None:
    s = step("RUN", "s", InputRecord("n", "sel", ("k",), "c", (("f", "d"), ("\udcff", "x"))), A="ü")
    assert decode_step(encode_step(s)) == s


@pytest.fixture
def explanations(tmp_path: Any) -> StoredExplanations:
    return StoredExplanations(Database(str(tmp_path / "db")))


def run(world: Any, explanations: StoredExplanations, a: str, top: str, **options: Any) -> dict[str, tuple[str, list[str]]]:
    explanations.misses.clear()
    meta = VertexMeta(name="top", stage="s", instruction="RUN top", **options)
    vertex = world.vertex("top", world.vertex("a", key=a, value=a), key=top, slow={0: lambda v: v}, meta=meta)
    world.build(vertex, explanations=explanations)
    return {m.title: (m.reason, [str(d) for d in m.differences]) for m in explanations.misses.values()}


def test_misses_of_builds(world: Any, explanations: StoredExplanations) -> None:
    """First build, nothing changed, the instruction changed, the content below changed, the result pruned, the cache ignored."""
    assert run(world, explanations, "a1", "t1") == {"a": ("first", []), "RUN top": ("first", [])}
    assert run(world, explanations, "a1", "t1") == {}
    assert run(world, explanations, "a1", "t2") == {"RUN top": ("different", ["seed changed: t1 -> t2"])}
    assert run(world, explanations, "a2", "t2") == {
        "a": ("different", ["seed changed: a1 -> a2"]),
        "RUN top": ("different", ["content of a changed"]),
    }
    world.results.values.clear()
    assert run(world, explanations, "a2", "t2")["RUN top"] == ("gone", [])
    assert run(world, explanations, "a2", "t2", ignore_cache=True) == {"RUN top": ("ignored", [])}


def test_a_plan_explains_too(world: Any, explanations: StoredExplanations) -> None:
    """Without recording anything."""
    run(world, explanations, "a1", "t1")
    explanations.misses.clear()
    with world.solver(explanations=explanations) as solver:
        vertex = world.vertex("a", key="a9")
        for _ in range(2):
            solver.plan([Edge(vertex)])
    (miss,) = explanations.misses.values()
    assert [str(d) for d in miss.differences] == ["seed changed: a1 -> a9"]


def test_old_records_are_dropped(explanations: StoredExplanations) -> None:
    for i in range(KEPT * 2):
        explanations.ran("d", step(A=str(i)), ignored=False)  # type: ignore[arg-type]
    assert len(explanations._candidates(step())) == KEPT
