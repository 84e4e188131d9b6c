"""Finds edges of one solve that turn out to be equal, so that they are merged (BuildKit: solver/index.go).

Two vertices with different definitions may turn out to do the same, once more is known of their inputs. For example: ``FROM app:1``
and ``FROM app:latest`` resolve to one image, and both stages run the same command; or two stages copy the same files from different
contexts. Then their edges have a key in common. The index tells which edge a key belongs to.

It is a graph of key names like a key store's (key --Link--> key), in memory, for the edges of one solve. A key may have several
names here (``index_ids``): its inputs were known by several keys, and those lead to different places.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.solver.cachekey import CacheKey, Link, root_key

if TYPE_CHECKING:
    from builder.solver.edge import ActiveEdge


class _Item:
    __slots__ = ("deps", "edge", "links")

    def __init__(self) -> None:
        self.edge: ActiveEdge | None = None
        self.links: dict[Link, set[str]] = {}
        self.deps: set[str] = set()


class EdgeIndex:
    """Not thread-safe: the scheduler's loop owns it."""

    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}
        self._of_edge: dict[ActiveEdge, set[str]] = {}
        self._fresh = itertools.count(1)

    def __len__(self) -> int:
        return len(self._items)

    def load_or_store(self, key: CacheKey, edge: ActiveEdge) -> ActiveEdge | None:
        """Another edge that ``key`` leads to. If there is none, ``key`` leads to ``edge`` from now on, and the answer is None.

        An edge that ignores the cache takes the place of one that doesn't: both have the key, and the forced one's result is newer.
        """
        ids = self._matches(key)
        old_id, old = "", None
        for id in ids:
            item = self._items.get(id)
            if item is not None and item.edge is not None and item.edge is not edge:
                old_id, old = id, item.edge
        if old is not None and (old.ignore_cache or not edge.ignore_cache):
            self._link(old_id, key)
            return old
        id = ids[0] if ids else self._new_id()
        self._link(id, key)
        self._items[id].edge = edge
        self._of_edge.setdefault(edge, set()).add(id)
        return None

    def release(self, edge: ActiveEdge) -> None:
        """Forget the edge, with the names that lead to nothing else."""
        for id in self._of_edge.pop(edge, ()):
            item = self._items.get(id)
            if item is not None:
                item.edge = None
                self._drop(id)

    def _drop(self, id: str) -> None:
        """Take the name away unless an edge or another name needs it; then look at those that led here in the same way."""
        stack = [id]
        while stack:
            id = stack.pop()
            item = self._items.get(id)
            if item is None or item.edge is not None or item.links:
                continue
            del self._items[id]
            for dep in item.deps:
                source = self._items.get(dep)
                if source is None:
                    continue
                for link in [link for link, targets in source.links.items() if id in targets]:
                    source.links[link].discard(id)
                    if not source.links[link]:
                        del source.links[link]
                stack.append(dep)

    def _link(self, id: str, key: CacheKey) -> None:
        """Make every alternative of every input of ``key`` lead to the name ``id``."""
        item = self._items.setdefault(id, _Item())
        for i in range(len(key.deps)):
            for source_id, source, link in self._sources(key, i):
                source.links.setdefault(link, set()).add(id)
                item.deps.add(source_id)

    def _sources(self, key: CacheKey, input: int) -> Iterator[tuple[str, _Item, Link]]:
        """The names that input number ``input`` of ``key`` is known by, and the link that leads from each to ``key``."""
        for d in key.deps[input]:
            if not d.key.key.index_ids:
                self._ensure_ids(d.key.key)
            link = Link(input, key.output, key.digest, d.selector)
            for id in d.key.key.index_ids:
                item = self._items.get(id)
                if item is not None:  # None: released in the meantime
                    yield id, item, link

    def _ensure_ids(self, key: CacheKey) -> None:
        """Give the key names, those that its inputs lead to or a fresh one, and the keys below it as well."""
        # Inputs first, without recursion: chains are as long as the longest Dockerfile.
        stack = [key]
        while stack:
            top = stack[-1]
            open_deps = [d.key.key for alternatives in top.deps for d in alternatives if not d.key.key.index_ids]
            if open_deps and not top.index_ids:
                stack += open_deps
                continue
            stack.pop()
            if not top.index_ids:
                top.index_ids = self._matches(top) or [self._new_id()]
            for id in top.index_ids:
                self._link(id, top)

    def _matches(self, key: CacheKey) -> list[str]:
        """Names that every input of ``key`` leads to, by one alternative or another."""
        if not key.deps:
            return [root_key(key.digest, key.output)]
        matches: set[str] = set()
        for i in range(len(key.deps)):
            found: set[str] = set()
            for _, source, link in self._sources(key, i):
                found |= source.links.get(link, set())
            matches = found if i == 0 else matches & found
            if not matches:
                return []
        return sorted(matches)

    def _new_id(self) -> str:
        return f"#{next(self._fresh)}"
