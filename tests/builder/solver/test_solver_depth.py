"""No part of the solver goes down a graph by calling itself: chains are as long as somebody's generator of Dockerfiles liked.

Every graph here is ``fresh``: nothing was asked of its vertices yet, as when the frontend hands it over.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from builder.errors import StepError
from builder.graph.vertex import Edge, Vertex
from builder.oci.digest import Digest
from builder.remotecache.chains import Chains, marshal
from builder.remotecache.config import parse
from builder.remotecache.imported import key_cache
from builder.solver.cachekey import root_key
from builder.solver.errors import SolveError
from builder.solver.exporter import ExportedRecord, export_chains
from builder.solver.keystore import KeyStore, MemoryKeyStore, SqliteKeyStore
from builder.solver.steplog import StepLog
from builder.solver.types import OpContext
from builder.state.database import Database
from tests.builder.remotecache.test_chains import Layers, layer
from tests.builder.solver.world import World, nothing

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager

DEPTH = 2000


@pytest.fixture(autouse=True)
def stack() -> Iterator[None]:
    """Little of it: what goes down by calling itself fails long before the whole depth."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    yield
    sys.setrecursionlimit(before)


def fresh(vertex: Vertex) -> Vertex:
    made: Vertex = pickle.loads(pickle.dumps(vertex))
    assert "digest" not in made.__dict__
    return made


def chain(world: World, depth: int = DEPTH, key: str | None = None, on_exec: Callable[[OpContext], object] = nothing) -> Vertex:
    v = world.vertex("bottom", seed="", key=key, on_exec=on_exec)
    for i in range(depth):
        v = world.vertex(f"v{i}", v, seed="")
    return fresh(v)


def ladder(world: World, depth: int = DEPTH // 2) -> Vertex:
    """Each rung reads the two below it, and the content of one: as stages that copy from one another."""
    below, v = world.vertex("low", seed=""), world.vertex("bottom", seed="")
    for i in range(depth):
        below, v = v, world.vertex(f"v{i}", v, below, slow={1: lambda value: value}, seed="")
    return fresh(v)


@contextmanager
def database(folder: Path) -> Iterator[Database]:
    made = Database(str(folder / "db"))
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("shape", [chain, ladder])
def test_a_deep_graph_is_built_found_planned_and_built_on(world: World, shape: Callable[[World], Vertex]) -> None:
    world.build(shape(world))
    assert len(world.executed) >= DEPTH // 2
    world.build(shape(world))
    assert world.executed == {}
    with world.solver() as solver:
        assert {v.verdict for v in solver.plan([Edge(shape(world))]).vertices} <= {"cached", "unused"}
    world.build(world.vertex("more", shape(world)))
    assert world.executed == {"more": 1}


def test_a_change_at_the_bottom_runs_all_and_is_explained(world: World, tmp_path: Path) -> None:
    with database(tmp_path) as db:
        world.build(chain(world, 450), explanations=lambda: StepLog(db, "first", "scope"))
        log = StepLog(db, "second", "scope")
        with world.solver(explanations=lambda: log) as solver:
            plan = solver.plan([Edge(chain(world, 450, key="other"))])
        assert [v.verdict for v in plan.vertices] == ["run"] * 451
        assert len(log.planned) == 451
        world.build(chain(world, 450, key="other"), explanations=lambda: log)
        assert len(log.misses()) == 451


def test_an_error_at_the_bottom_is_that_of_the_target(world: World) -> None:
    def fail(_: OpContext) -> None:
        raise StepError("broken")

    with pytest.raises(SolveError, match="broken"):
        world.build(chain(world, on_exec=fail))


def exported(world: World, top: Vertex) -> Chains:
    with world.solver() as solver:
        results = solver.build([Edge(top)])
        records = export_chains(results, "max")
        for result in results:
            result.release()
    return marshal(records, {x.id: [layer(x.id)] for r in records for x in r.results})


def test_a_deep_cache_is_exported_read_and_found_in_another_world(world: World) -> None:
    chains = exported(world, chain(world))
    assert len(chains.config.records) == DEPTH + 1
    read = parse(chains.config.to_json())
    other = World()
    other.imported = [key_cache("remote", read, chains.blobs, cast("CacheManager", Layers(other)), priority=1)]
    other.build(chain(other))
    assert other.executed == {}


def test_a_cache_whose_every_result_has_all_layers_below_it_is_named_in_bounded_space(world: World) -> None:
    """What a real chain of steps exports: result n has n layers."""
    records = export_of(world, 600)
    layers = [layer(f"layer {i}") for i in range(len(records))]
    chains = marshal(records, {x.id: layers[: i + 1] for i, r in enumerate(records) for x in r.results})
    assert parse(chains.config.to_json()) == chains.config


def export_of(world: World, depth: int) -> tuple[ExportedRecord, ...]:
    with world.solver() as solver:
        (result,) = solver.build([Edge(chain(world, depth))])
        records = export_chains([result], "max")
        result.release()
    return records


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_when_the_last_result_goes_the_whole_branch_does(world: World, tmp_path: Path, kind: str) -> None:
    with database(tmp_path) as db:
        store: KeyStore = MemoryKeyStore() if kind == "memory" else SqliteKeyStore(db)
        world.keys = store
        world.build(chain(world, 1000))
        bottom = root_key(Digest.of(b"key of bottom"), 0)
        assert store.exists(bottom)
        for id in store.result_ids():
            store.release(id)
        assert store.result_ids() == []
        assert not store.exists(bottom)
