"""Time and steps of the solver for a vertex, in graphs of 100, 300 and 1000: ``python -m benchmarks.solver`` in the repository."""

from __future__ import annotations

import time
from collections.abc import Callable

from builder.graph.vertex import Edge, Vertex
from tests.builder.solver.world import World

SIZES = (100, 300, 1000)


def deep(world: World, size: int) -> Vertex:
    """A chain of steps whose inputs count by content too."""
    vertex = world.vertex("0")
    for i in range(1, size):
        vertex = world.vertex(str(i), vertex, slow={0: lambda value: value})
    return vertex


def flat(world: World, size: int) -> Vertex:
    """Steps beside one another on one base, and one on all of them."""
    base = world.vertex("base")
    return world.vertex("top", *[world.vertex(str(i), base) for i in range(size - 2)])


def solve(world: World, target: Vertex) -> tuple[float, int]:
    """(seconds, edges looked at) of one build by a new solver."""
    with world.solver() as solver:
        start = time.perf_counter()
        for result in solver.build([Edge(target)]):
            result.release()
        return time.perf_counter() - start, solver.steps


def main() -> None:
    shapes: list[tuple[str, Callable[[World, int], Vertex]]] = [("deep", deep), ("flat", flat)]
    print(f"{'shape':6} {'build':9} {'vertices':>8} {'us/vertex':>10} {'steps/vertex':>13}")
    for name, make in shapes:
        for build in ("executed", "cached"):
            for size in SIZES:
                world = World()
                target = make(world, size)
                if build == "cached":
                    solve(world, target)
                seconds, steps = solve(world, target)
                print(f"{name:6} {build:9} {size:8} {seconds / size * 1e6:10.0f} {steps / size:13.1f}")


if __name__ == "__main__":
    main()
