"""Keys, where they are stored, and the index of equal edges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.graph.vertex import Vertex
from builder.oci.digest import framed
from builder.solver.cachekey import CacheKey, ExportableKey, KeyWithSelector, Link, StoredResult, root_key
from builder.solver.edge import ActiveEdge
from builder.solver.index import EdgeIndex
from builder.solver.keycache import KeyCache
from builder.solver.keystore import KeyStore, MemoryKeyStore, SqliteKeyStore, release_unreferenced
from builder.state.database import Database
from tests.builder.solver.world import World


class Named:
    """A result that is its name and nothing else."""

    def __init__(self, id: str) -> None:
        self.id = id

    def clone(self) -> Named:
        return self

    def release(self) -> None:
        pass


class Store:
    """A result store that has everything it was given."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def save(self, result: Named) -> str:
        self.ids.add(result.id)
        return result.id

    def load(self, result_id: str) -> Named | None:
        return Named(result_id) if result_id in self.ids else None

    def exists(self, result_id: str) -> bool:
        return result_id in self.ids


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    return MemoryKeyStore() if request.param == "memory" else SqliteKeyStore(Database(str(tmp_path / "db")))


@pytest.fixture
def cache(store: KeyStore) -> KeyCache:
    return KeyCache(store, Store())


def root(name: str, output: int = 0) -> CacheKey:
    return CacheKey.new(name, "", output)


def on(name: str, *inputs: list[CacheKey | tuple[CacheKey, str]]) -> CacheKey:
    """A key of ``name`` on inputs, each with its alternatives: keys, or (key, selector)."""
    deps = [
        [KeyWithSelector(ExportableKey(a[0]), a[1]) if isinstance(a, tuple) else KeyWithSelector(ExportableKey(a)) for a in i]
        for i in inputs
    ]
    return CacheKey.new(name, "", 0, deps)


def found(cache: KeyCache, name: str, *inputs: list[CacheKey | tuple[CacheKey, str]]) -> set[str]:
    """Results that the solver would find for the key, asking input by input as it does."""
    key = on(name, *inputs)
    ids: set[str] | None = None
    for i, alternatives in enumerate(key.deps):
        here = {k.id for k in cache.query(alternatives, i, name, 0)}
        ids = here if ids is None else ids & here
    return {r.id for id in ids or () for r in cache.keys.results(id)}


# ------------------------------------------------------------------------------------------------ keys
@given(st.lists(st.binary() | st.text()), st.lists(st.binary() | st.text()))
def test_no_two_sequences_of_parts_have_the_same_bytes(a: list[bytes | str], b: list[bytes | str]) -> None:
    """Every part is led by its length, so bytes never move from one part to the next."""

    def plain(parts: list[bytes | str]) -> list[bytes]:
        return [p.encode("utf-8", "surrogateescape") if isinstance(p, str) else p for p in parts]

    assert (framed(*a) == framed(*b)) == (plain(a) == plain(b))


@given(st.text(max_size=8), st.integers(-1, 30), st.text(max_size=8), st.integers(-1, 30))
def test_root_keys_are_equal_for_equal_digest_and_output_only(a: str, i: int, b: str, j: int) -> None:
    if not a.startswith("random:") and not b.startswith("random:"):
        assert (root_key(a, i) == root_key(b, j)) == ((a, i) == (b, j))


def test_a_key_is_ephemeral_when_one_of_its_inputs_is() -> None:
    """An input with a lasting alternative is lasting."""
    local, content = root("random:1"), root("content")
    assert on("x", [local]).ephemeral
    assert not on("x", [local, content]).ephemeral
    assert on("x", [content], [local]).ephemeral
    assert on("y", [on("x", [local])]).ephemeral


# ------------------------------------------------------------------------------------------------ key cache
def test_a_key_is_found_by_its_inputs(cache: KeyCache) -> None:
    """By the same digest on the same keys, and by nothing else."""
    a, b = root("a"), root("b")
    cache.save([on("x", [a], [b])], Named("result"))
    assert found(cache, "x", [root("a")], [root("b")]) == {"result"}
    assert found(cache, "y", [root("a")], [root("b")]) == set()
    assert found(cache, "x", [root("b")], [root("a")]) == set()
    assert found(cache, "x", [root("a")], [root("a")]) == set()


def test_any_alternative_of_an_input_leads_to_the_key(cache: KeyCache) -> None:
    a, slow = root("a"), root("slow", -1)
    cache.save([on("x", [(a, "sel"), slow])], Named("result"))
    assert found(cache, "x", [(root("a"), "sel")]) == {"result"}
    assert found(cache, "x", [root("slow", -1)]) == {"result"}
    assert found(cache, "x", [root("a")]) == set()


def test_asking_with_several_keys_ties_them_together(cache: KeyCache) -> None:
    """A new definition came with content that was known: from then on the definition alone leads there."""
    cache.save([on("x", [root("old"), root("slow", -1)])], Named("result"))
    assert found(cache, "x", [root("new")]) == set()
    assert found(cache, "x", [root("new"), root("slow", -1)]) == {"result"}
    assert found(cache, "x", [root("new")]) == {"result"}


def test_a_result_saved_again_by_other_alternatives_is_under_one_key(cache: KeyCache) -> None:
    """Saved on (a, slow), then on (b, slow): one key, two results, found by any of the three."""
    cache.save([on("x", [root("a"), root("slow", -1)])], Named("r1"))
    cache.save([on("x", [root("b"), root("slow", -1)])], Named("r2"))
    for name, output in (("a", 0), ("b", 0), ("slow", -1)):
        assert found(cache, "x", [root(name, output)]) == {"r1", "r2"}


def test_levels_lead_on(cache: KeyCache) -> None:
    """A key on a key on a root, looked for from the root upwards."""
    middle = on("m", [root("a")])
    cache.save([on("top", [middle])], Named("result"))
    (m,) = cache.query([KeyWithSelector(ExportableKey(root("a")))], 0, "m", 0)
    assert found(cache, "top", [m]) == {"result"}


def test_ephemeral_keys_leave_no_trace(cache: KeyCache) -> None:
    cache.save([root("random:1"), on("x", [root("random:1")])], Named("r1"))
    assert cache.keys.result_ids() == []
    cache.save([on("x", [root("random:1"), root("slow", -1)])], Named("r2"))
    assert found(cache, "x", [root("slow", -1)]) == {"r2"}
    assert not cache.keys.exists("random:1")


def test_a_long_chain_needs_no_stack(cache: KeyCache) -> None:
    """The name of the top of a chain of which nothing is stored yet."""
    key = root("a")
    for i in range(2000):
        key = on(f"x{i}", [key])
    cache.save([key], Named("result"))
    assert cache.keys.exists(root_key("a", 0))


# ------------------------------------------------------------------------------------------------ stores
LINK = Link(0, 0, "d", "")


def test_a_released_result_takes_its_branch_along(store: KeyStore) -> None:
    """a -> b -> c with results on b and c: without c's result the link b -> c goes; without b's everything goes."""
    store.write([("b", StoredResult("rb", 1)), ("c", StoredResult("rc", 2))], [("a", LINK, "b"), ("b", LINK, "c")])
    store.release("rc")
    assert store.targets("b", LINK) == []
    assert store.targets("a", LINK) == ["b"]
    store.release("rb")
    assert not store.exists("a")
    assert store.result_ids() == []


def test_a_key_between_results_stays(store: KeyStore) -> None:
    """The result of the middle is released; the key is still the way to the one above."""
    store.write([("b", StoredResult("rb", 1)), ("c", StoredResult("rc", 2))], [("a", LINK, "b"), ("b", LINK, "c")])
    store.release("rb")
    assert store.targets("a", LINK) == ["b"]
    assert store.targets("b", LINK) == ["c"]


def test_backlinks_and_holders(store: KeyStore) -> None:
    other = Link(1, 0, "d", "sel")
    store.write([("t", StoredResult("r", 1)), ("u", StoredResult("r", 1))], [("a", LINK, "t"), ("b", other, "t")])
    assert store.backlinks("t") == [("a", LINK), ("b", other)]
    assert [store.results(key)[0].id for key in "tu"] == ["r", "r"]
    assert store.has_link("b", other, "t")
    assert not store.has_link("b", LINK, "t")


def test_writing_twice_is_writing_once(store: KeyStore) -> None:
    for _ in range(2):
        store.write([("t", StoredResult("r", 1))], [("a", LINK, "t")])
    assert store.results("t") == [StoredResult("r", 1)]
    assert store.targets("a", LINK) == ["t"]


def test_what_was_pruned_is_forgotten(store: KeyStore) -> None:
    store.write([("t", StoredResult("r1", 1)), ("t", StoredResult("r2", 1))])
    assert release_unreferenced(store, lambda: ["r2"]) == 1
    assert store.result_ids() == ["r2"]


def test_what_is_added_meanwhile_is_not_forgotten(store: KeyStore) -> None:
    """Whoever adds a key has kept its result before: looked at last, what is alive has it; looked at first, the ids don't."""
    store.write([("t", StoredResult("gone", 1))])

    def alive() -> list[str]:
        store.write([("u", StoredResult("new", 1))])
        return []

    assert release_unreferenced(store, alive) == 1
    assert store.result_ids() == ["new"]


def test_a_result_comes_with_the_link_that_leads_to_it() -> None:
    """Another process drops the key's only result between our look at the link and our writing."""

    class Raced(MemoryKeyStore):
        def has_link(self, key: str, link: Link, target: str) -> bool:
            there = super().has_link(key, link, target)
            self.release("old")
            return there

    cache = KeyCache(Raced(), Store())
    for result in ("old", "new"):
        cache.save([on("top", [root("a")])], Named(result))
    assert found(cache, "top", [root("a")]) == {"new"}


def test_few_statements_for_a_cached_vertex(tmp_path: Path, world: World) -> None:
    """A cached chain costs a handful of reads for each vertex, and no write at all."""
    database = Database(str(tmp_path / "db"))
    world.keys = SqliteKeyStore(database)

    def chain() -> Vertex:
        v = world.vertex("0")
        for i in range(50):
            v = world.vertex(f"v{i}", v)
        return v

    world.build(chain())
    statements: list[str] = []
    database.connection().set_trace_callback(statements.append)
    world.build(chain())
    database.connection().set_trace_callback(None)
    assert world.executed == {}
    assert len(statements) <= 51 * 3
    assert all(s.startswith("SELECT") for s in statements)


# ------------------------------------------------------------------------------------------------ index
class FakeEdge:
    def __init__(self, ignore_cache: bool) -> None:
        self.ignore_cache = ignore_cache


@pytest.fixture
def edges() -> Callable[..., ActiveEdge]:
    return lambda *, ignore_cache=False: cast("ActiveEdge", FakeEdge(ignore_cache))


def test_the_index_finds_edges_by_any_alternative(edges: Callable[..., ActiveEdge]) -> None:
    """An edge is known by (f0, s0); then by s1 for the second input too; then it is found by s1 alone."""
    index, first, second = EdgeIndex(), edges(), edges()
    f, s0, s1 = root("f"), root("s0"), root("s1")
    assert index.load_or_store(on("x", [f], [(s0, "sel")]), first) is None
    assert index.load_or_store(on("x", [root("f")], [(root("s0"), "sel")]), second) is first
    assert index.load_or_store(on("x", [root("f")], [root("s0")]), second) is None
    assert index.load_or_store(on("x", [root("f")], [(root("s0"), "sel"), s1]), edges()) is first
    assert index.load_or_store(on("x", [root("f")], [root("s1")]), edges()) is first


def test_the_index_sees_through_levels(edges: Callable[..., ActiveEdge]) -> None:
    """Keys that were made separately on equal keys are equal."""
    index, first = EdgeIndex(), edges()
    assert index.load_or_store(on("top", [on("m", [root("a")])]), first) is None
    assert index.load_or_store(on("top", [on("m", [root("a")])]), edges()) is first
    assert index.load_or_store(on("top", [on("m", [root("b")])]), edges()) is None


def test_a_released_edge_is_not_found(edges: Callable[..., ActiveEdge]) -> None:
    """And nothing of it is kept."""
    index, edge = EdgeIndex(), edges()
    index.load_or_store(on("x", [root("a")]), edge)
    index.release(edge)
    assert len(index) == 0
    assert index.load_or_store(on("x", [root("a")]), edges()) is None


def test_an_ignoring_edge_takes_the_place(edges: Callable[..., ActiveEdge]) -> None:
    """What is forced to run gives the newer result: it isn't replaced by what isn't forced."""
    index, plain, forced = EdgeIndex(), edges(), edges(ignore_cache=True)
    assert index.load_or_store(root("a"), plain) is None
    assert index.load_or_store(root("a"), forced) is None
    assert index.load_or_store(root("a"), edges()) is forced


def test_a_root_key_is_what_buildkit_calls_it() -> None:
    """sha256 of ``DIGEST@OUTPUT`` (solver/cachemanager.go, rootKey): what depends on specs alone is the same in remote caches."""
    assert root_key("sha256:" + "0" * 64, 0) == "sha256:426830622cbd8917dd45a96e42ffd4d33dc86f82ce573c1e414bbe4d9905ea2c"
