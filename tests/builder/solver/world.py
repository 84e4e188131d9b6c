"""A world of vertices without files or containers: each says what its key is and what it gives, and counts what it is asked for."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar, TypedDict, Unpack, cast

from builder.graph.ops import Op
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.oci.digest import Digest
from builder.progress.events import Event
from builder.solver.explain import Explanations
from builder.solver.keycache import KeyCache
from builder.solver.keystore import KeyStore, MemoryKeyStore
from builder.solver.result import CachedResult
from builder.solver.solver import Solver
from builder.solver.types import CacheMap, CacheMapDep, OpContext, UnknownContentError
from builder.values import dataclass, field


class Options(TypedDict, total=False):
    """See ``Solver``."""

    parallelism: int | None
    locks: str | None
    explanations: Callable[[], Explanations] | None


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


@dataclass(frozen=True)
class Fake:
    kind: ClassVar[str] = "fake"
    seed: str


class Value:
    """A counted result."""

    def __init__(self, world: World, value: object, id: str) -> None:
        self.world, self.value, self.id = world, value, id
        self.released = False
        with world.lock:
            world.alive[id] += 1

    def clone(self) -> Value:
        assert not self.released, f"{self.id} is cloned after its release"
        return Value(self.world, self.value, self.id)

    def release(self) -> None:
        assert not self.released, f"{self.id} is released twice"
        self.released = True
        with self.world.lock:
            self.world.alive[self.id] -= 1


class Results:
    """A result store in memory. ``broken`` ids are there but can't be loaded."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.values: dict[str, object] = {}
        self.broken: set[str] = set()
        self.loads = 0

    def save(self, result: Value) -> str:
        self.values[result.id] = result.value
        return result.id

    def load(self, result_id: str) -> Value | None:
        self.loads += 1
        if result_id in self.broken:
            from builder.errors import StoreError

            raise StoreError("damaged")
        if result_id not in self.values:
            return None
        return Value(self.world, self.values[result_id], result_id)

    def exists(self, result_id: str) -> bool:
        return result_id in self.values


@dataclass
class Behaviour:
    name: str
    keys: tuple[str, ...]
    value: object
    selectors: dict[int, str]
    slow: dict[int, Callable[..., str]]
    outputs: int
    on_map: Callable[[OpContext], object]
    on_exec: Callable[[OpContext], object]
    ephemeral: bool
    costly_content: bool


@dataclass
class Counts:
    maps: Counter[str] = field(default_factory=Counter)
    execs: Counter[str] = field(default_factory=Counter)
    slow: Counter[str] = field(default_factory=Counter)


class FakeOp:
    def __init__(self, world: World, behaviour: Behaviour, vertex: Vertex) -> None:
        self.world, self.b, self.vertex = world, behaviour, vertex

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Value], bool]:
        with self.world.lock:
            self.world.counts.maps[self.b.name] += 1
        self.b.on_map(context)
        deps = tuple(CacheMapDep(self.b.selectors.get(i, ""), self._content(i)) for i in range(len(self.vertex.inputs)))
        parts = (("instruction", self.vertex.meta.instruction), ("seed", self.b.keys[index]))
        return CacheMap(digest(self.b.keys[index]), deps, parts, self.b.ephemeral), index == len(self.b.keys) - 1

    def _content(self, index: int) -> Callable[[Value, OpContext], Digest] | None:
        function = self.b.slow.get(index)
        if function is None:
            return None

        def content(result: Value, context: OpContext) -> Digest:
            if context.planning and self.b.costly_content:
                raise UnknownContentError("its content costs work")
            with self.world.lock:
                self.world.counts.slow[self.b.name] += 1
            return digest(function(result.value))

        return content

    def exec(self, context: OpContext, inputs: Sequence[Value]) -> Sequence[Value]:
        with self.world.lock:
            self.world.counts.execs[self.b.name] += 1
        self.b.on_exec(context)
        value = self.b.value([i.value for i in inputs]) if callable(self.b.value) else self.b.value
        return [self.world.new_value(f"{value}#{i}" if i else value) for i in range(self.b.outputs)]


def nothing(_: OpContext) -> None:
    pass


class World:
    """``vertex`` makes vertices, ``build`` solves with a solver of its own, as a process does; the stores stay."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.alive: Counter[str] = Counter()
        self.counts = Counts()
        self.keys: KeyStore = MemoryKeyStore()
        self.results = Results(self)
        self.behaviours: dict[Digest, Behaviour] = {}
        self.events: list[Event] = []
        self.imported: list[KeyCache] = []
        self._ids = itertools.count()

    def new_value(self, value: object) -> Value:
        with self.lock:
            return Value(self, value, f"result-{next(self._ids)}")

    def vertex(
        self,
        name: str,
        *inputs: Vertex | Edge,
        key: str | Sequence[str] | None = None,
        value: object = None,
        selectors: dict[int, str] | None = None,
        slow: dict[int, Callable[..., str]] | None = None,
        outputs: int = 1,
        on_map: Callable[[OpContext], object] = nothing,
        on_exec: Callable[[OpContext], object] = nothing,
        ignore_cache: bool = False,
        ephemeral: bool = False,
        costly_content: bool = False,
        seed: str | None = None,
        meta: VertexMeta | None = None,
    ) -> Vertex:
        """``key`` is what the definition's digest is made of (several: alternative cache maps), ``seed`` what tells the vertex from
        others of the same name; without it each call makes a vertex of its own. ``costly_content``: a plan can't look at
        content."""
        edges = tuple(i if isinstance(i, Edge) else Edge(i) for i in inputs)
        tag = seed if seed is not None else str(next(self._ids))
        vertex = Vertex(cast("Op", Fake(f"{name}/{tag}")), edges, meta=meta or VertexMeta(name=name, ignore_cache=ignore_cache))
        keys = (key,) if isinstance(key, str) else tuple(key or (f"key of {name}",))
        self.behaviours[vertex.digest] = Behaviour(
            name,
            keys,
            f"value of {name}" if value is None else value,
            selectors or {},
            slow or {},
            outputs,
            on_map,
            on_exec,
            ephemeral,
            costly_content,
        )
        return vertex

    def resolve(self, vertex: Vertex) -> FakeOp:
        return FakeOp(self, self.behaviours[vertex.digest], vertex)

    def solver(self, **options: Unpack[Options]) -> Solver[Value]:
        return Solver(self.resolve, self.results, self.keys, self._sink, imported=self.imported, **options)

    def _sink(self, event: Event) -> None:
        with self.lock:
            self.events.append(event)

    def build(self, *targets: Vertex | Edge, **options: Unpack[Options]) -> list[object]:
        """The values of the targets. Counters and events start anew; afterwards nothing may be held any more."""
        self.counts = Counts()
        self.events = []
        with self.solver(**options) as solver:
            return self.finish(solver, *targets)

    def finish(self, solver: Solver[Value], *targets: Vertex | Edge) -> list[object]:
        results = solver.build([t if isinstance(t, Edge) else Edge(t) for t in targets])
        return [self._take(r) for r in results]

    def _take(self, result: CachedResult[Value]) -> object:
        value = result.result.value
        result.release()
        return value

    @property
    def executed(self) -> dict[str, int]:
        return dict(self.counts.execs)

    @property
    def mapped(self) -> dict[str, int]:
        return dict(self.counts.maps)

    @property
    def hashed(self) -> dict[str, int]:
        return dict(self.counts.slow)
