"""Lookup and saving by keys (BuildKit: solver/cachemanager.go, combinedcache.go).

A KeyCache is a KeyStore together with the ResultStore that the ids in it belong to. A build has one of its own and one for each
imported remote cache. The own one is asked first, because what it has need not be fetched. What is loaded from an imported one is
saved in the own one, so that the next build needs no import.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import cast

from builder.solver.cachekey import CONTENT_OUTPUT, CacheKey, FoundRecord, KeyWithSelector, Link, StoredResult, new_id, root_key
from builder.solver.keystore import KeyStore
from builder.solver.types import R, Result, ResultStore


class KeyCache:
    """One store. Thread-safe: the solver's loop looks up while workers save."""

    def __init__(self, keys: KeyStore, results: ResultStore[R], *, priority: int = 0) -> None:
        self.keys = keys
        # Of a cache that belongs to a solver of ``R``, results of that type go in and come out; nothing here looks into them.
        self.results = cast("ResultStore[Result]", results)
        self.priority = priority
        self._lock = threading.RLock()

    def query(self, deps: Sequence[KeyWithSelector], input: int, digest: str, output: int) -> list[CacheKey]:
        """Keys of the op with ``digest``, at ``output``, that are found from ``deps``: the keys that its input ``input`` is known
        by.

        Only the ``decisive`` ones are followed. The others are tied to what was found so, and the next build finds it by them
        alone: a definition to where the content leads that came out of it just now, and the keys of one source (an image by its
        manifest, by its chainID) to where the others lead.

        Content is never tied to where a definition leads. The definition may have given other content when that key was made, and
        whoever has this content would be given a result made of the other one.
        """
        with self._lock:
            by_dep: list[tuple[CacheKey, str, Link, set[str]]] = []
            for d in deps:
                if d.key.key.ephemeral:
                    continue
                link = Link(input, output, digest, d.selector)
                id = self.id_of(d.key.key)
                by_dep.append((d.key.key, id, link, set(self.keys.targets(id, link))))
            asked = decisive([key for key, *_ in by_dep])
            found = sorted(set().union(*(targets for key, _, _, targets in by_dep if key in asked)))
            missing = [
                (id, link, target)
                for key, id, link, targets in by_dep
                if key not in asked or key.is_root
                for target in found
                if target not in targets
            ]
            if missing:
                self.keys.write(links=missing)
            return [CacheKey(id, digest, output, ids={self: id}) for id in found]

    def query_root(self, digest: str, output: int) -> CacheKey | None:
        """The key of an op without inputs, if something is stored under it."""
        id = root_key(digest, output)
        return CacheKey(id, digest, output, ids={self: id}) if self.keys.exists(id) else None

    def records(self, key: CacheKey) -> list[FoundRecord]:
        """Results under ``key`` that are still there; those that are gone are forgotten."""
        out = []
        for stored in self.keys.results(self.id_of(key)):
            if self.results.exists(stored.id):
                out.append(FoundRecord(stored.id, stored.created_ns, key, self))
            else:
                self.keys.release(stored.id)
        return out

    def save(self, keys: Sequence[CacheKey], result: Result, created_ns: int | None = None) -> list[FoundRecord]:
        """Keep the result under each of ``keys``, with the links that lead there. Ephemeral keys leave no trace."""
        lasting = [k for k in keys if not k.ephemeral]
        if not lasting:
            return []
        id = self.results.save(result)
        stored = StoredResult(id, time.time_ns() if created_ns is None else created_ns)
        with self._lock:
            links = [link for key in lasting for link in self._missing_links(key)]
            self.keys.write([(self.id_of(key), stored) for key in lasting], links)
        return [FoundRecord(id, stored.created_ns, key, self) for key in lasting]

    def parents(self, record: FoundRecord, result: Result) -> Iterable[tuple[CacheKey, Result, int]]:
        """Results of steps below ``record`` that are at hand once ``result`` is, because they are its lower layers: (key, result,
        created_ns). They are the caller's to release. An imported cache has such. The own cache has none to give, since it has
        saved them itself (BuildKit: LoadWithParents)."""
        return ()

    def id_of(self, key: CacheKey) -> str:
        """The key's name in this store: the one it is known to have, else the one that its inputs' links lead to, else a new
        one."""
        known = key.ids.get(self)
        if known is not None:
            return known
        with self._lock:
            # Inputs first, without recursion: chains are as long as the longest Dockerfile.
            stack = [key]
            while stack:
                top = stack[-1]
                open_deps = [d.key.key for alts in top.deps for d in alts if self not in d.key.key.ids]
                if open_deps and self not in top.ids:
                    stack += open_deps
                    continue
                stack.pop()
                if self not in top.ids:
                    top.ids[self] = self._find_id(top) if top.deps else top.id
            return key.ids[self]

    def _find_id(self, key: CacheKey) -> str:
        matches: set[str] = set()
        for i, alternatives in enumerate(key.deps):
            found: set[str] = set()
            lasting = [d for d in alternatives if not d.key.key.ephemeral]
            asked = decisive([d.key.key for d in lasting])
            for d in lasting:
                if d.key.key in asked:
                    found.update(self.keys.targets(d.key.key.ids[self], Link(i, key.output, key.digest, d.selector)))
            matches = found if i == 0 else matches & found
            if not matches:
                return new_id()
        return min(matches)

    def _missing_links(self, key: CacheKey) -> list[tuple[str, Link, str]]:
        """What has to be written so that ``key`` is found from every alternative of its inputs, and those from theirs."""
        out: dict[tuple[str, Link, str], None] = {}
        stack = [key]
        seen: set[CacheKey] = set()
        while stack:
            k = stack.pop()
            if k in seen:
                continue
            seen.add(k)
            target = self.id_of(k)
            for i, alternatives in enumerate(k.deps):
                for d in alternatives:
                    if d.key.key.ephemeral:
                        continue
                    source, link = self.id_of(d.key.key), Link(i, k.output, k.digest, d.selector)
                    missing = not self.keys.has_link(source, link, target)
                    # The last link is written always, in the transaction of the result: another process may just be dropping
                    # another result of this key, and with it the link that we have seen.
                    if missing or k is key:
                        out[source, link, target] = None
                    if missing:
                        stack.append(d.key.key)
        return list(out)


def decisive(keys: Sequence[CacheKey]) -> Sequence[CacheKey]:
    """Of the keys that an input is known by, those that say what it is: its content, where that is known, else all.

    A definition says less than content: a step that is run again may give something else, and both results are known by the one
    definition."""
    return [key for key in keys if key.output == CONTENT_OUTPUT] or keys


class CombinedKeyCache:
    """The own cache and the imported ones as one."""

    def __init__(self, main: KeyCache, imported: Sequence[KeyCache] = ()) -> None:
        self.main = main
        self.imported = tuple(imported)
        self._caches = (main, *imported)

    def query(self, deps: Sequence[KeyWithSelector], input: int, digest: str, output: int) -> list[CacheKey]:
        found: dict[str, CacheKey] = {}
        for cache in self._caches:
            for key in cache.query(deps, input, digest, output):
                found.setdefault(key.id, key).ids.update(key.ids)
        return list(found.values())

    def query_root(self, digest: str, output: int) -> CacheKey | None:
        found: CacheKey | None = None
        for cache in self._caches:
            key = cache.query_root(digest, output)
            if key is not None:
                if found is None:
                    found = key
                else:
                    found.ids.update(key.ids)
        return found

    def records(self, key: CacheKey) -> list[FoundRecord]:
        return [record for cache in self._caches if cache in key.ids for record in cache.records(key)]

    def load(self, record: FoundRecord) -> Result | None:
        """The record's result, or None if it is gone after all."""
        result = record.source.results.load(record.id)
        if result is None:
            record.source.keys.release(record.id)
            return None
        if record.source is not self.main:
            try:
                self.main.save([record.key], result, record.created_ns)
                for key, below, created_ns in record.source.parents(record, result):
                    try:
                        self.main.save([key], below, created_ns)
                    finally:
                        below.release()
            except BaseException:
                result.release()
                raise
        return result
