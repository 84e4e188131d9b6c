"""Where keys, links and results are kept (BuildKit: solver/cachestorage.go, memorycachestorage.go, solver/bboltcachestorage).

    key --Link--> key        "this input key, in this place, leads to that key"
    key --------> result     what is stored under a key; the id is the ResultStore's

A key exists while it has a result or leads to one. Releasing a result takes away the keys that lead nowhere any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from builder.solver.cachekey import Link, StoredResult
from builder.state.schema import SOLVER_LINKS, SOLVER_RESULTS

if TYPE_CHECKING:
    import sqlite3

    from builder.state.database import Database


class KeyStore(Protocol):
    """Thread-safe. Each method is one atomic step; several processes may use one store."""

    def exists(self, key: str) -> bool:
        """Does the key have results or links?"""
        ...

    def results(self, key: str) -> list[StoredResult]: ...

    def targets(self, key: str, link: Link) -> list[str]:
        """Keys that ``link`` leads to from ``key``, sorted."""
        ...

    def has_link(self, key: str, link: Link, target: str) -> bool: ...

    def write(self, results: Iterable[tuple[str, StoredResult]] = (), links: Iterable[tuple[str, Link, str]] = ()) -> None:
        """Add (key, result) and (key, link, target), all or nothing; what is there already stays."""
        ...

    def release(self, result_id: str) -> None:
        """Forget the result under every key, and the keys that lead nowhere any more."""
        ...

    def backlinks(self, key: str) -> list[tuple[str, Link]]:
        """(key, link) that lead to ``key``."""
        ...

    def result_ids(self) -> list[str]: ...


class MemoryKeyStore:
    """A store for one process: tests, and imported remote caches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[str, dict[str, StoredResult]] = {}
        self._links: dict[str, dict[Link, set[str]]] = {}
        self._back: dict[str, set[str]] = {}

    def exists(self, key: str) -> bool:
        with self._lock:
            return bool(self._results.get(key)) or bool(self._links.get(key))

    def results(self, key: str) -> list[StoredResult]:
        with self._lock:
            return list(self._results.get(key, {}).values())

    def targets(self, key: str, link: Link) -> list[str]:
        with self._lock:
            return sorted(self._links.get(key, {}).get(link, ()))

    def has_link(self, key: str, link: Link, target: str) -> bool:
        with self._lock:
            return target in self._links.get(key, {}).get(link, ())

    def write(self, results: Iterable[tuple[str, StoredResult]] = (), links: Iterable[tuple[str, Link, str]] = ()) -> None:
        with self._lock:
            for key, result in results:
                self._results.setdefault(key, {})[result.id] = result
            for key, link, target in links:
                self._links.setdefault(key, {}).setdefault(link, set()).add(target)
                self._back.setdefault(target, set()).add(key)

    def release(self, result_id: str) -> None:
        with self._lock:
            holders = [key for key, results in self._results.items() if result_id in results]
            for key in holders:
                del self._results[key][result_id]
            self._drop_empty(holders)

    def _drop_empty(self, keys: list[str]) -> None:
        while keys:
            key = keys.pop()
            if self._results.get(key) or self._links.get(key):
                continue
            self._results.pop(key, None)
            self._links.pop(key, None)
            for parent in self._back.pop(key, ()):
                links = self._links.get(parent, {})
                for link in [link for link, targets in links.items() if key in targets]:
                    links[link].discard(key)
                    if not links[link]:
                        del links[link]
                keys.append(parent)

    def backlinks(self, key: str) -> list[tuple[str, Link]]:
        with self._lock:
            return sorted(
                (parent, link)
                for parent in self._back.get(key, ())
                for link, targets in self._links.get(parent, {}).items()
                if key in targets
            )

    def result_ids(self) -> list[str]:
        with self._lock:
            return sorted({id for results in self._results.values() for id in results})


_USED = "SELECT 1 WHERE EXISTS (SELECT 1 FROM solver_results WHERE key = ?) OR EXISTS (SELECT 1 FROM solver_links WHERE key = ?)"


class SqliteKeyStore:
    """The store of a state root."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def exists(self, key: str) -> bool:
        return bool(self._database.rows(_USED, (key, key)))

    def results(self, key: str) -> list[StoredResult]:
        return [StoredResult(id, created_ns) for _, id, created_ns in self._database.find(SOLVER_RESULTS, key=key)]

    def targets(self, key: str, link: Link) -> list[str]:
        return [row[-1] for row in self._database.find(SOLVER_LINKS, "target", key=key, **link._asdict())]

    def has_link(self, key: str, link: Link, target: str) -> bool:
        return bool(self._database.find(SOLVER_LINKS, key=key, **link._asdict(), target=target))

    def write(self, results: Iterable[tuple[str, StoredResult]] = (), links: Iterable[tuple[str, Link, str]] = ()) -> None:
        with self._database.transaction() as c:
            # What is there stays as it was, unless it is damaged.
            new = [(key, r.id, r.created_ns) for key, r in results if r.id not in [there.id for there in self.results(key)]]
            self._database.put(c, SOLVER_RESULTS, new)
            rows = [(key, k.digest, k.input, k.output, k.selector, target) for key, k, target in links]
            self._database.put(c, SOLVER_LINKS, rows)

    def release(self, result_id: str) -> None:
        with self._database.transaction() as c:
            holders = [key for key, _, _ in self._database.find(SOLVER_RESULTS, "key", result=result_id)]
            c.execute("DELETE FROM solver_results WHERE result = ?", (result_id,))
            self._drop_empty(c, holders)

    def backlinks(self, key: str) -> list[tuple[str, Link]]:
        rows = self._database.find(SOLVER_LINKS, target=key)
        return sorted((source, Link(input, output, digest, selector)) for source, digest, input, output, selector, _ in rows)

    def result_ids(self) -> list[str]:
        return sorted({id for _, id, _ in self._database.select(SOLVER_RESULTS)})

    def _drop_empty(self, c: sqlite3.Connection, keys: list[str]) -> None:
        while keys:
            key = keys.pop()
            if not self.exists(key):
                keys += sorted({source for source, _ in self.backlinks(key)})
                c.execute("DELETE FROM solver_links WHERE target = ?", (key,))


def release_unreferenced(store: KeyStore, alive: Callable[[], Iterable[str]]) -> int:
    """Forget every result that is not among those that ``alive`` gives (after a prune); gives how many were forgotten.

    ``alive`` is asked last: a result is kept before a key is, so what has a key and is not there then was removed. What another
    process just adds is not among the ids, or it is alive.
    """
    ids = store.result_ids()
    known = set(alive())
    gone = [id for id in ids if id not in known]
    for id in gone:
        store.release(id)
    return len(gone)
