"""From the solver's records to a cache config in normal form (BuildKit: cache/remotecache/v1/chains.go, utils.go). Pure.

The same records and layers give the same bytes: a config is stored by its digest, and one that did not change is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.oci.digest import Digest, digest_parts
from builder.remotecache.config import NO_PARENT, CacheConfig, CacheInput, CacheLayer, CacheResult, ConfigRecord
from builder.remotecache.types import RemoteLayer
from builder.solver.exporter import ExportedRecord, ExportedResult
from builder.values import dataclass

Layers = Mapping[str, Sequence[RemoteLayer]]
"""Layers of a result, bottom first, by the result's id. Results that are not in it are not exported."""


@dataclass(frozen=True, slots=True)
class Chains:
    """``blobs``: every layer that the config names."""

    config: CacheConfig
    blobs: Mapping[Digest, RemoteLayer]


def marshal(records: Sequence[ExportedRecord], layers: Layers) -> Chains:
    """The config of ``records`` (inputs first), without those that lead to no result."""
    table = _LayerTable()
    results = [_results(r.results, layers, table) for r in records]
    names = _Names()
    place_of: dict[int, int] = {}
    unsorted: list[ConfigRecord] = []
    for i in _useful(records, results):
        inputs = tuple(tuple({CacheInput(place_of[at], s): None for at, s in x}) for x in records[i].inputs)
        record = ConfigRecord(records[i].digest, inputs, results[i])
        at = place_of[i] = names.place(record)
        if at == len(unsorted):
            unsorted.append(record)
        elif record.results and not unsorted[at].results:
            unsorted[at] = record
    return Chains(_sorted(table.layers, unsorted, names.all), table.blobs)


class _Names:
    """A record is named by its digest and the names of what leads to it; of the same name there is one."""

    def __init__(self) -> None:
        self.all: list[Digest] = []
        self._places: dict[Digest, int] = {}

    def place(self, record: ConfigRecord) -> int:
        parts = [record.digest]
        for alternatives in record.inputs:
            parts += ["input", *sorted(f"{self.all[x.record]} {x.selector}" for x in alternatives)]
        name = digest_parts(*parts)
        at = self._places.setdefault(name, len(self.all))
        if at == len(self.all):
            self.all.append(name)
        return at


class _LayerTable:
    """Each layer once on each chain below it."""

    def __init__(self) -> None:
        self.layers: list[CacheLayer] = []
        self.blobs: dict[Digest, RemoteLayer] = {}
        self._places: dict[CacheLayer, int] = {}

    def add(self, chain: Sequence[RemoteLayer]) -> int:
        """The place of the topmost."""
        at = NO_PARENT
        for remote in chain:
            self.blobs.setdefault(remote.digest, remote)
            layer = CacheLayer(remote.digest, at)
            known = self._places.get(layer)
            if known is None:
                known = self._places[layer] = len(self.layers)
                self.layers.append(layer)
            at = known
        return at


def _results(exported: Sequence[ExportedResult], layers: Layers, table: _LayerTable) -> tuple[CacheResult, ...]:
    """The newest one that has layers."""
    for result in sorted(exported, key=lambda x: (-x.created_ns, x.id)):
        chain = layers.get(result.id)
        if chain:
            return (CacheResult(table.add(chain), result.created_ns),)
    return ()


def _useful(records: Sequence[ExportedRecord], results: Sequence[Sequence[CacheResult]]) -> list[int]:
    needed: set[int] = set()
    for i in reversed(range(len(records))):
        if results[i] or i in needed:
            needed.add(i)
            needed.update(at for alternatives in records[i].inputs for at, _ in alternatives)
    return sorted(needed)


def _sorted(layers: Sequence[CacheLayer], records: Sequence[ConfigRecord], names: Sequence[Digest]) -> CacheConfig:
    layer_order = sorted(range(len(layers)), key=lambda i: (layers[i].blob, _chain_name(layers, i)))
    layer_place = {old: new for new, old in enumerate(layer_order)} | {NO_PARENT: NO_PARENT}
    record_order = sorted(range(len(records)), key=lambda i: (records[i].digest, len(records[i].inputs), names[i]))
    record_place = {old: new for new, old in enumerate(record_order)}

    def moved(r: ConfigRecord) -> ConfigRecord:
        inputs = (
            tuple(sorted((CacheInput(record_place[x.record], x.selector) for x in a), key=lambda x: (x.record, x.selector)))
            for a in r.inputs
        )
        return ConfigRecord(r.digest, tuple(inputs), tuple(CacheResult(layer_place[x.layer], x.created_ns) for x in r.results))

    return CacheConfig(
        tuple(CacheLayer(layers[i].blob, layer_place[layers[i].parent]) for i in layer_order),
        tuple(moved(records[i]) for i in record_order),
    )


def _chain_name(layers: Sequence[CacheLayer], at: int) -> tuple[str, ...]:
    out: list[str] = []
    while at != NO_PARENT:
        out.append(layers[at].blob)
        at = layers[at].parent
    return tuple(out)
