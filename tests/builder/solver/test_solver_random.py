"""Any graph, any state of the caches: the solver ends, with the right values, and executes nothing twice."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.graph.vertex import Vertex
from tests.builder.solver.world import World

Shape = list[tuple[list[int], int, int, bool, int]]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Vertices in order: (inputs, variant of the key, which inputs have content keys, ignores the cache, content variant)."""
    out: Shape = []
    for i in range(draw(st.integers(1, 7))):
        inputs = draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else []
        out.append(
            (
                inputs,
                draw(st.integers(0, 1)),
                draw(st.integers(0, 7)),
                draw(st.sampled_from([False] * 5 + [True])),
                draw(st.integers(0, 1)),
            )
        )
    return out


def graph(world: World, shape: Shape) -> tuple[list[Vertex], list[str]]:
    """Vertices and their expected values. The value is a function of the key and the inputs' values, as an honest op's is; the
    key of half of the vertices doesn't tell their place, so that equal ones turn up."""
    vertices: list[Vertex] = []
    values: list[str] = []
    for inputs, variant, slow, ignore, content in shape:
        key = f"{variant}{content}{slow}{len(inputs)}"

        def value(given: list[str], content: int = content, key: str = key) -> str:
            # Half of the vertices give the same content whatever they are given: what makes content keys worth having.
            return "same" if content else f"{key}({','.join(given)})"

        vertices.append(
            world.vertex(
                f"v{len(vertices)}",
                *[vertices[i] for i in inputs],
                key=key,
                value=value,
                slow={n: (lambda v: str(v)) for n in range(len(inputs)) if slow >> n & 1},
                ignore_cache=ignore,
            )
        )
        values.append(value([values[i] for i in inputs]))
    return vertices, values


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(shapes(), min_size=1, max_size=3), st.data())
def test_every_graph_is_solved(builds: list[Shape], data: st.DataObject) -> None:
    """Several builds of random graphs on one store; between them results get lost. Values are right, no vertex runs twice in a
    build, and everything is released."""
    world = World()
    for shape in builds:
        vertices, values = graph(world, shape)
        wanted = sorted(data.draw(st.sets(st.integers(0, len(vertices) - 1), min_size=1)))
        assert world.build(*[vertices[i] for i in wanted], parallelism=data.draw(st.sampled_from([None, 1]))) == [
            values[i] for i in wanted
        ]
        assert all(count == 1 for count in world.counts.execs.values())
        for id in sorted(world.results.values):
            if data.draw(st.integers(0, 3)) == 0:
                del world.results.values[id]
    assert not +world.alive


@settings(max_examples=60, deadline=None)
@given(shapes())
def test_a_second_build_executes_only_what_is_forced(shape: Shape) -> None:
    """Without ignored caches: nothing."""
    shape = [(inputs, variant, slow, False, content) for inputs, variant, slow, _, content in shape]
    world = World()
    world.build(graph(world, shape)[0][-1])
    vertices, values = graph(world, shape)
    assert world.build(vertices[-1]) == [values[-1]]
    assert world.executed == {}
