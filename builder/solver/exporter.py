"""Writes down the chains of records behind a result, for a remote cache (BuildKit: solver/exporter.go, solver/types.go).

A chain is data: records, each with the records of its inputs and with the result that is stored under it. Somebody who imports it
can look the same steps up. To make blobs of the results and to write a manifest is for ``builder.remotecache``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from builder.solver.cachekey import best_record, record_digest, root_key
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.solver.cachekey import CacheKey, ExportableKey, FoundRecord
    from builder.solver.edge import ActiveEdge
    from builder.solver.keycache import KeyCache

Mode = Literal["min", "max"]


class HasKeys(Protocol):
    """A result of a build, of which only the keys matter here: CachedResult, or SharedResult."""

    @property
    def keys(self) -> tuple[ExportableKey, ...]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Exporter:
    """What is needed to write ``key`` down, with the keys that lead to it. ``record``: the result that was loaded or saved under it
    in this solve. ``records``: results that could have been loaded, of a key that was only passed through. ``edge``: whose
    ``secondary`` keys are ways to it, too."""

    key: CacheKey
    records: tuple[FoundRecord, ...] = ()
    record: FoundRecord | None = None
    edge: ActiveEdge | None = None

    @property
    def best(self) -> FoundRecord | None:
        return self.record or (best_record(self.records) if self.records else None)


@dataclass(frozen=True, slots=True)
class ExportedResult:
    """A result to export; ``id`` is that of the ResultStore. ``make``: blobs may be made for it. Otherwise it is exported only if
    it has blobs already."""

    id: str
    created_ns: int
    vertex: str
    output: int
    make: bool


@dataclass(frozen=True, slots=True)
class ExportedRecord:
    """``digest`` names op and output. ``inputs``: for each input the records (by their place in the chain) and selectors that
    lead here."""

    digest: str
    inputs: tuple[tuple[tuple[int, str], ...], ...]
    results: tuple[ExportedResult, ...]


@dataclass(slots=True)
class _Visit:
    exporter: Exporter
    make: bool
    todo: list[tuple[int, str, Exporter]]
    inputs: list[list[tuple[int, str]]] = field(default_factory=list)


def export_chains(results: Sequence[HasKeys], mode: Mode = "min", *, roots: bool = False) -> tuple[ExportedRecord, ...]:
    """Records in order, inputs first. Chains of ephemeral keys are left out: nobody could ask for them.

    Mode min: blobs are made for results of the targets; results below are exported only where they have blobs anyway (those of a
    base image). Mode max: blobs are made for the results of every step. ``roots``: results of sources are exported too.
    """
    walk = _Walk(mode, roots)
    for result in results:
        for key in result.keys:
            for exporter in key.exporters:
                walk.visit(exporter)
    return tuple(walk.records)


class _Walk:
    """Depth first without recursion: chains are as long as the longest Dockerfile."""

    def __init__(self, mode: Mode, roots: bool) -> None:
        self._mode = mode
        self._roots = roots
        self.records: list[ExportedRecord] = []
        self._places: dict[ExportedRecord, int] = {}
        self._of: dict[Exporter, int | None] = {}
        self._stored = _StoredWays(self._add)

    def visit(self, top: Exporter) -> None:
        if top in self._of:
            return
        stack = [self._enter(top, True)]
        while stack:
            frame = stack[-1]
            if frame.todo:
                index, selector, below = frame.todo[-1]
                if below not in self._of:
                    # Below a result that is exported, mode min makes no more blobs.
                    stack.append(self._enter(below, frame.make and not (self._mode == "min" and self._exports(frame.exporter))))
                    continue
                frame.todo.pop()
                place = self._of[below]
                if place is not None:
                    frame.inputs[index].append((place, selector))
                continue
            stack.pop()
            self._of[frame.exporter] = self._leave(frame)

    def _enter(self, exporter: Exporter, make: bool) -> _Visit:
        self._of[exporter] = None  # keys of merged edges may lead to one another: a circle ends here
        below = [
            (i, d.selector, e)
            for i, alternatives in enumerate(exporter.key.deps)
            for d in alternatives
            for e in d.key.exporters
            if not d.key.key.ephemeral
        ]
        if exporter.edge is not None:
            inputs = len(exporter.key.deps)
            below += [(i, d.selector, e) for i, d in exporter.edge.secondary if i < inputs for e in d.key.exporters]
        below.reverse()
        return _Visit(exporter, make, below, [[] for _ in exporter.key.deps])

    def _exports(self, exporter: Exporter) -> bool:
        return exporter.best is not None and (bool(exporter.key.deps) or self._roots)

    def _leave(self, frame: _Visit) -> int | None:
        exporter = frame.exporter
        if exporter.key.ephemeral:
            return None
        for cache, id in exporter.key.ids.items():
            # A hit by definitions has seen one way to this key. The stores remember the others (by content, by earlier
            # definitions), and whoever imports the chain may know only those.
            for input, link in self._stored.ways(cache, id):
                if input < len(frame.inputs):
                    frame.inputs[input].append(link)
        if not all(frame.inputs):
            return None
        results: tuple[ExportedResult, ...] = ()
        record = exporter.best
        if record is not None and self._exports(exporter):
            key = exporter.key
            results = (ExportedResult(record.id, record.created_ns, key.vertex, key.output, frame.make),)
        inputs = tuple(tuple(sorted(set(links))) for links in frame.inputs)
        place = self._add(ExportedRecord(root_key(exporter.key.digest, exporter.key.output), inputs, results))
        for cache, id in exporter.key.ids.items():
            self._stored.places[cache, id] = place
        return place

    def _add(self, exported: ExportedRecord) -> int:
        place = self._places.get(exported)
        if place is None:
            place = self._places[exported] = len(self.records)
            self.records.append(exported)
        return place


class _StoredWays:
    """The ways to a key that the stores remember from earlier builds (BuildKit: addBacklinks). ``places``: the place of a key in
    the chain; None for a key that can't be in it, because no way leads to one of its inputs."""

    def __init__(self, add: Callable[[ExportedRecord], int]) -> None:
        self._add = add
        self.places: dict[tuple[KeyCache, str], int | None] = {}

    def ways(self, cache: KeyCache, id: str) -> Iterator[tuple[int, tuple[int, str]]]:
        """(input, (place, selector)) of each known way to the key."""
        for source, link in cache.keys.backlinks(id):
            place = self._place(cache, source)
            if place is not None:
                yield link.input, (place, link.selector)

    def _place(self, cache: KeyCache, top: str) -> int | None:
        stack = [] if (cache, top) in self.places else [top]
        done: set[str] = set()
        while stack:
            id = stack[-1]
            if (cache, id) not in self.places:
                self.places[cache, id] = None  # a circle ends here
                stack += [source for source, _ in cache.keys.backlinks(id) if (cache, source) not in self.places]
                continue
            stack.pop()
            if id not in done and self.places[cache, id] is None:
                done.add(id)
                self.places[cache, id] = self._record(cache, id)
        return self.places[cache, top]

    def _record(self, cache: KeyCache, id: str) -> int | None:
        links = cache.keys.backlinks(id)
        if not links:
            return self._add(ExportedRecord(id, (), ())) if id.startswith("sha256:") else None
        inputs: list[set[tuple[int, str]]] = [set() for _ in range(1 + max(link.input for _, link in links))]
        for source, link in links:
            place = self.places.get((cache, source))
            if place is not None:
                inputs[link.input].add((place, link.selector))
        if not all(inputs):
            return None
        return self._add(ExportedRecord(record_digest(links[0][1]), tuple(tuple(sorted(x)) for x in inputs), ()))
