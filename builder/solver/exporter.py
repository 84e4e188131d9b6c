"""Writes down the chains of records behind a result, for a remote cache (BuildKit: solver/exporter.go, solver/types.go).

A chain is data: records with the keys of their inputs, and the results that are stored under them. What to do with it (make
blobs, write a manifest) is a later step's, in ``builder.cache``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from builder.graph.values import dataclass, field
from builder.solver.cachekey import best_record, root_key

if TYPE_CHECKING:
    from builder.solver.cachekey import CacheKey, CacheRecord, ExportableKey
    from builder.solver.edge import ActiveEdge

Mode = Literal["min", "max"]


class HasKeys(Protocol):
    """A result of a build, of which only the keys matter here: CachedResult, or SharedResult."""

    @property
    def keys(self) -> tuple[ExportableKey, ...]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Exporter:
    """Can write down ``key`` with what leads to it. ``record`` is what was loaded or saved, ``records`` what could have been
    loaded."""

    key: CacheKey
    records: tuple[CacheRecord, ...] = ()
    record: CacheRecord | None = None
    edge: ActiveEdge | None = None

    @property
    def best(self) -> CacheRecord | None:
        return self.record or (best_record(self.records) if self.records else None)


@dataclass(frozen=True, slots=True)
class ExportedResult:
    """``id`` in the ResultStore. ``make``: blobs may be made for it; else it is exported only if it has them."""

    id: str
    created: float
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

    min: results of the targets, and those below that have blobs anyway (a base image's). max: of every step. ``roots``: of
    sources too.
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
        self._of[exporter] = None  # a circle of merged keys ends here
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
        if exporter.key.ephemeral or not all(frame.inputs):
            return None
        results: tuple[ExportedResult, ...] = ()
        record = exporter.best
        if record is not None and self._exports(exporter):
            key = exporter.key
            results = (ExportedResult(record.id, record.created, key.vertex, key.output, frame.make),)
        inputs = tuple(tuple(sorted(set(links))) for links in frame.inputs)
        exported = ExportedRecord(root_key(exporter.key.digest, exporter.key.output), inputs, results)
        place = self._places.get(exported)
        if place is None:
            place = self._places[exported] = len(self.records)
            self.records.append(exported)
        return place
