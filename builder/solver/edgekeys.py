"""The keys of an edge: which ones its inputs' keys lead to, and which stored results (records) lie under them.

A key of an edge matches if *every* input leads to it, each by one of the keys that the input is known by. So an edge keeps for each
input the keys that this input leads to (``Dep.key_map``), and what all of them have in common are the edge's own keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.solver.cachekey import CacheKey, ExportableKey, FoundRecord, KeyWithSelector, best_record, with_selector
from builder.solver.edgestate import EdgeStatus
from builder.solver.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.digest import Digest
    from builder.solver.edgestate import Dep, EdgeState
    from builder.solver.types import CacheMap, Result
    from builder.solver.vertexstate import VertexState


class EdgeKeys:
    """Keys and records of one edge. ``deps`` is the edge's own list of inputs, ``state`` what others see of it.

    ``root_digests``: of an op without inputs the digest and the ephemerality of each of its cache maps.
    ``no_match_possible``: some input leads to no key at all, so no record can be found, and the edge has to be executed.
    """

    def __init__(self, vertex: VertexState, index: int, state: EdgeState, deps: list[Dep]) -> None:
        self._vertex = vertex
        self._index = index
        self._state = state
        self._deps = deps
        self._ids: set[str] = set()
        self._records: dict[str, FoundRecord] = {}
        self._tried: set[str] = set()
        self.root_digests: list[tuple[str, bool]] = []
        self.no_match_possible = False

    # -------------------------------------------------------------------------------------------- looking up
    def add_root(self, cache_map: CacheMap[Result]) -> None:
        """One more key of an op without inputs: its cache map alone names it."""
        self.root_digests.append((cache_map.digest, cache_map.ephemeral))
        if self._vertex.ignore_cache or cache_map.ephemeral:
            return
        key = self._vertex.caches.query_root(cache_map.digest, self._index)
        if key is not None:
            self._add(key)

    def probe(self, dep: Dep, keys: Sequence[KeyWithSelector]) -> bool:
        """Look where new keys of an input lead to. True if one of them leads to a key that this input had not led to before."""
        if not keys or self._vertex.ignore_cache:
            return False
        assert self._state.cache_map is not None
        found = False
        for key in self._vertex.caches.query(keys, dep.index, self._state.cache_map.digest, self._index):
            key.vertex = self._vertex.vertex.digest
            if key.id not in dep.key_map:
                dep.key_map[key.id] = key
                found = True
        return found

    def add_slow_key(self, dep: Dep, content: Digest) -> None:
        """The content of an input is known now: look where it leads to, and tie the input's definition to it."""
        assert self._state.cache_map is not None
        assert dep.result is not None
        key = CacheKey.content(content)
        dep.slow_key = ExportableKey(key, (Exporter(key),))
        slow = KeyWithSelector(dep.slow_key)
        dep.slow_found_key = self.probe(dep, [slow])
        if not self._vertex.ignore_cache:
            # A query with both keys ties the definition to where the content leads. The next build with this definition finds the
            # record without hashing, and so without downloading. The tie goes one way only (``KeyCache.query`` says why).
            both = [*with_selector(dep.result.keys, dep.selector), slow]
            self._vertex.caches.query(both, dep.index, self._state.cache_map.digest, self._index)
        dep.slow_complete = True

    def check_match_possible(self, dep: Dep) -> None:
        """See whether this input rules out every record.

        A record lies under a key that every input leads to. Once one input is certain to lead nowhere, no record can match: what
        the other inputs would say is not worth a question, and the edge has to execute. It is certain when the input's content
        was hashed without a find, where content counts. Where it does not count, it is certain from cache-slow on, because no
        further key comes without a result.
        """
        if dep.key_map or self.no_match_possible:
            return
        if dep.has_slow_key:
            self.no_match_possible = dep.slow_complete and not dep.slow_found_key
        else:
            self.no_match_possible = dep.status >= EdgeStatus.CACHE_SLOW

    def add_common(self) -> None:
        """Add the keys that every input leads to and that were not added before."""
        deps = self._deps
        if not deps:
            return
        common = set(deps[0].key_map).difference(self._ids)
        for dep in deps[1:]:
            common.intersection_update(dep.key_map)
        for id in sorted(common):
            self._ids.add(id)
            key = deps[0].key_map[id]
            for dep in deps[1:]:
                key.ids.update(dep.key_map[id].ids)
            self._add(key.with_deps([dep.all_keys() for dep in deps]))

    def _add(self, key: CacheKey) -> None:
        """One more key of this edge, with the records under it. A record that could not be loaded is not taken again."""
        key.vertex = self._vertex.vertex.digest
        records = self._vertex.caches.records(key)
        for record in records:
            if record.id not in self._tried:
                self._records[record.id] = record
        self._state.keys = [*self._state.keys, ExportableKey(key, (Exporter(key, records=tuple(records)),))]

    # -------------------------------------------------------------------------------------------- records
    @property
    def has_records(self) -> bool:
        return bool(self._records)

    def take_record(self) -> FoundRecord:
        """The best record. It counts as tried from now on."""
        record = best_record(list(self._records.values()))
        self._tried.add(record.id)
        return record

    def drop_tried(self) -> None:
        """Loading has failed: forget the records that were tried, so that no other attempt is made with them."""
        for id in self._tried:
            self._records.pop(id, None)

    @property
    def records_are_outdated(self) -> bool:
        """Were the records under this edge's definition made of an older state than the one that is built now?

        They were if the edge itself is forced to run (``--no-cache-filter``), or if an input is made of a forced step. An input
        whose content was hashed does not count: the content says what the input is, whatever it came out of.
        """
        return self._vertex.ignore_cache or any(
            dep.result is not None and dep.result.outdates_records and dep.slow_key is None for dep in self._deps
        )

    # -------------------------------------------------------------------------------------------- what is known by now
    def every_dep_has_keys(self) -> bool:
        """Is there something known of every input that a key of this edge could be made of? Its content digest or its result will
        do as well as a key."""
        return self._state.cache_map is not None and all(
            dep.keys or dep.slow_key is not None or dep.result is not None for dep in self._deps
        )

    def every_dep_leads_somewhere(self) -> bool:
        """Does every input lead to a key that exists? One with a content digest or a result has nothing left to say, and counts."""
        return self._state.cache_map is not None and all(
            dep.key_map or dep.slow_key is not None or dep.result is not None for dep in self._deps
        )

    def may_still_match(self) -> bool:
        """Is there a key that could still match? It would be one that did not match yet, and that every input leads to whose
        content need not be hashed any more. If there is none, no content of the other inputs can bring a match.

        """
        open_keys: set[str] = set()
        for dep in self._deps:
            if dep.slow_incomplete:
                continue
            here = dep.key_map.keys() - self._ids
            open_keys = open_keys & here if open_keys else here
            if not open_keys:
                return False
        return bool(open_keys)

    def index_key(self) -> CacheKey | None:
        """The key by what is known now, which equal edges are found by (``EdgeIndex``). None while some input has no key: then
        nothing can be said."""
        cache_map = self._state.cache_map
        if cache_map is None:
            return None
        alternatives: list[list[KeyWithSelector]] = []
        for dep in self._deps:
            if not dep.keys and dep.result is None:
                return None
            keys = with_selector(dep.keys, dep.selector)
            if dep.result is not None:
                keys += dep.all_keys()
            alternatives.append(keys)
        vertex = self._vertex.vertex.digest
        return CacheKey.new(cache_map.digest, vertex, self._index, alternatives, ephemeral=cache_map.ephemeral)

    def commit_keys(self) -> list[CacheKey]:
        """The keys that the result of an execution is saved under: of a source one for each of its cache maps, of any other op the
        one that all inputs' keys lead to."""
        cache_map = self._state.cache_map
        assert cache_map is not None
        vertex = self._vertex.vertex.digest
        if not self._deps:
            return [CacheKey.new(d, vertex, self._index, ephemeral=ephemeral) for d, ephemeral in self.root_digests]
        alternatives = [dep.all_keys() for dep in self._deps]
        return [CacheKey.new(cache_map.digest, vertex, self._index, alternatives, ephemeral=cache_map.ephemeral)]
