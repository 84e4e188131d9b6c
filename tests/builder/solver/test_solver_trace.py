"""The trace tells why an edge asked for a slow key: the content of an input, which is the most expensive question there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.graph.vertex import Vertex
from builder.solver import wanted
from builder.state import trace
from tests.builder.solver.world import World

Reasons = Callable[[Vertex], dict[str, str]]


def same(value: str) -> str:
    return value


@pytest.fixture
def reasons(world: World, tmp_path: Path) -> Iterator[Reasons]:
    """Builds a vertex; by the name of each input whose content was asked for, the reason."""

    def build(top: Vertex) -> dict[str, str]:
        path = tmp_path / "trace"
        trace.start({"PYBUILD_TRACE": str(path)}, debug=False)
        world.build(top)
        trace.stop()
        return dict(re.findall(r" slow key .* of=(\w+) because=(.*) \[", path.read_text()))

    yield build
    trace.stop()


def test_in_an_empty_store_because_the_edge_executes(world: World, reasons: Reasons) -> None:
    a, b = world.vertex("a"), world.vertex("b")
    top = world.vertex("top", a, b, slow={0: same})
    assert reasons(top)["a"] in (wanted.LEADS_NOWHERE, wanted.NO_MATCH)


def test_because_another_input_leads_nowhere(world: World, reasons: Reasons) -> None:
    """The second input counts by definition and was changed: no record can match, and the result is saved under the digest."""

    def top(b: str) -> Vertex:
        return world.vertex("top", world.vertex("a"), world.vertex("b", key=b), slow={0: same})

    world.build(top("b1"))
    assert reasons(top("b2")) == {"a": wanted.NO_MATCH}


def test_because_its_own_definition_leads_nowhere(world: World, reasons: Reasons) -> None:
    def top(a: str) -> Vertex:
        return world.vertex("top", world.vertex("a", key=a, value="same"), world.vertex("b"), slow={0: same, 1: same})

    world.build(top("a1"))
    assert reasons(top("a2")) == {"a": wanted.LEADS_NOWHERE}


def test_because_all_definitions_are_known_and_no_record_is_there(world: World, reasons: Reasons) -> None:
    """Each input was in a build before, with another one beside it."""

    def top(a: str, b: str) -> Vertex:
        inputs = [world.vertex("a", key=a, value=a), world.vertex("b", key=b, value=b)]
        return world.vertex("top", *inputs, slow={0: same, 1: same})

    world.build(top("a1", "b1"))
    world.build(top("a2", "b2"))
    assert reasons(top("a1", "b2")) == {"a": wanted.NO_COMMON_KEY, "b": wanted.NO_COMMON_KEY}


def test_because_an_edge_above_asks_for_keys_by_content(world: World, reasons: Reasons) -> None:
    def top(base: str) -> Vertex:
        middle = world.vertex("middle", world.vertex("base", key=base, value="same"), slow={0: same})
        return world.vertex("top", middle)

    world.build(top("base1"))
    assert reasons(top("base2")) == {"base": wanted.KEYS_WANTED}


def test_a_hit_by_definition_asks_for_none(world: World, reasons: Reasons) -> None:
    def top() -> Vertex:
        return world.vertex("top", world.vertex("a"), slow={0: same})

    world.build(top())
    assert reasons(top()) == {}
