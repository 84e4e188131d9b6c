"""An imported cache as the solver's stores (BuildKit: cache/remotecache/v1/cachestorage.go)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from builder.errors import StoreError
from builder.oci.digest import Digest, digest_parts
from builder.remotecache.config import NO_PARENT, CacheConfig, order
from builder.remotecache.types import RemoteLayer
from builder.solver.cachekey import ROOTED, CacheKey, FoundRecord, Link, StoredResult, record_digest
from builder.solver.keycache import KeyCache
from builder.solver.keystore import MemoryKeyStore
from builder.values import replace

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager
    from builder.cache.refs import ImmutableRef
    from builder.solver.types import Result


class ImportedKeys(MemoryKeyStore):
    """Keys of a cache config. It names op and output of a link in one digest (``root_key``), so links are looked up by that."""

    def targets(self, key: str, link: Link) -> list[str]:
        return super().targets(key, _stored(link))

    def has_link(self, key: str, link: Link, target: str) -> bool:
        return super().has_link(key, _stored(link), target)

    def write(self, results: Iterable[tuple[str, StoredResult]] = (), links: Iterable[tuple[str, Link, str]] = ()) -> None:
        super().write(results, [(key, _stored(link), target) for key, link, target in links])


class ImportedResults:
    """Results as layers elsewhere. Loading one makes lazy records: nothing is downloaded before somebody wants the files."""

    def __init__(self, name: str, cache: CacheManager, config: CacheConfig, layers: Mapping[Digest, RemoteLayer]) -> None:
        """``name`` is unique among the imported caches of a build. IntegrityError for layers in a circle."""
        self._name = name
        self._cache = cache
        self._config = config
        self._layers = layers
        self._whole: set[int] = set()
        for i in order(len(config.layers), self._below, "layer"):
            if config.layers[i].blob in layers and all(b in self._whole for b in self._below(i)):
                self._whole.add(i)

    def id(self, places: Sequence[int], *, chain: bool) -> str | None:
        """Name of the result; None if a layer of it is not known."""
        known = all(self._config.layers[at].blob in self._layers for at in places) if chain else places[0] in self._whole
        if not known or not places:
            return None
        return f"{self._name}#{'chain' if chain else 'layer'}:{'+'.join(map(str, places))}"

    def layers(self, result_id: str) -> tuple[RemoteLayer, ...] | None:
        """Bottom first; None if the result is not of this cache."""
        name, _, rest = result_id.rpartition("#")
        if name != self._name:
            return None
        kind, _, numbers = rest.partition(":")
        places = [int(n) for n in numbers.split("+")]
        if kind == "layer":
            while (below := self._config.layers[places[0]].parent) != NO_PARENT:
                places.insert(0, below)
        return tuple(self._layers[self._config.layers[at].blob] for at in places)

    def save(self, result: Result) -> str:
        raise StoreError("an imported cache is not written to")

    def exists(self, result_id: str) -> bool:
        return result_id.startswith(self._name + "#")

    def load(self, result_id: str) -> ImmutableRef | None:
        layers = self.layers(result_id)
        return None if layers is None else load_layers(self._cache, layers)

    def lowest(self, ref: ImmutableRef, count: int) -> ImmutableRef | None:
        """The lowest ``count`` layers of a loaded ref, if they are a ref of their own; they are not where ref is a merge."""
        part = ref.layers()[count - 1]
        return part.clone() if len(part.layers()) == count else None

    def _below(self, at: int) -> tuple[int, ...]:
        parent = self._config.layers[at].parent
        return () if parent == NO_PARENT else (parent,)


class ImportedKeyCache(KeyCache):
    """Who loads a result gets those of the steps below it too, as far as they are its own lower layers: they cost nothing."""

    def parents(self, record: FoundRecord, result: Result) -> Iterator[tuple[CacheKey, Result, int]]:
        assert isinstance(self.results, ImportedResults)
        top = self.results.layers(record.id) or ()
        seen = {record.key}
        stack = [record.key]
        while stack:
            for below in [d.key.key for alternatives in stack.pop().deps for d in alternatives if d.key.key not in seen]:
                if below in seen:
                    continue
                seen.add(below)
                stack.append(below)
                if not below.deps or self not in below.ids:
                    continue
                for stored in self.keys.results(below.ids[self]):
                    layers = self.results.layers(stored.id)
                    if layers and [x.digest for x in layers] == [x.digest for x in top[: len(layers)]]:
                        part = self.results.lowest(cast("ImmutableRef", result), len(layers)) or self.results.load(stored.id)
                        if part is not None:
                            yield below, part, stored.created_ns


def load_layers(cache: CacheManager, layers: Sequence[RemoteLayer]) -> ImmutableRef | None:
    """A ref on layers, blob-only where they are not here yet."""
    current: ImmutableRef | None = None
    for remote in layers:
        parent = current
        description = remote.description or f"imported {remote.digest}"
        try:
            current = cache.get_by_blob(remote.layer, parent, description=description, created_at_ns=remote.created_ns)
        finally:
            if parent is not None:
                parent.release()
    return current


def key_cache(
    name: str, config: CacheConfig, layers: Mapping[Digest, RemoteLayer], cache: CacheManager, *, priority: int
) -> KeyCache:
    """The solver's view of a config. IntegrityError for records in a circle."""
    results = ImportedResults(name, cache, config, layers)
    keys = ImportedKeys()
    names: dict[int, str] = {}
    stored: list[tuple[str, StoredResult]] = []
    links: list[tuple[str, Link, str]] = []
    for i in order(len(config.records), lambda at: [x.record for a in config.records[at].inputs for x in a], "record"):
        record = config.records[i]
        parts = [record.digest]
        for alternatives in record.inputs:
            parts += ["input", *sorted(f"{names[x.record]} {x.selector}" for x in alternatives)]
        target = names[i] = "imported:" + digest_parts(*parts).hex if record.inputs else record.digest
        for index, alternatives in enumerate(record.inputs):
            links += [(names[x.record], Link(index, ROOTED, record.digest, x.selector), target) for x in alternatives]
        found = [(results.id([x.layer], chain=False), x.created_ns) for x in record.results]
        found += [(results.id(x.layers, chain=True), x.created_ns) for x in record.chains]
        stored += [(target, StoredResult(id, ns or 0)) for id, ns in found if id is not None]
    keys.write(stored, links)
    return ImportedKeyCache(keys, results, priority=priority)


def with_provider(layers: Mapping[Digest, RemoteLayer], provider: object, source: str) -> dict[Digest, RemoteLayer]:
    """The layers with where they come from."""
    from builder.content.types import BlobProvider

    given: BlobProvider = provider  # type: ignore[assignment]
    return {d: replace(x, layer=replace(x.layer, provider=given, source=source)) for d, x in layers.items()}


def _stored(link: Link) -> Link:
    return Link(link.input, ROOTED, record_digest(link), link.selector)
