"""The cache config document, application/vnd.buildkit.cacheconfig.v0 (BuildKit: cache/remotecache/v1/types/doc.go). Pure.

Layers are blobs with their parents; records are cache keys with their inputs and the layers that are stored under them. What comes
in is a stranger's: numbers that point nowhere or in circles are an IntegrityError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from builder.errors import IntegrityError
from builder.oci.digest import Digest
from builder.oci.fields import Fields, MalformedError, read, read_value
from builder.text import gojson
from builder.text.gojson import JSONObject
from builder.text.times import format_rfc3339, parse_rfc3339
from builder.values import dataclass

MEDIA_TYPE = "application/vnd.buildkit.cacheconfig.v0"
INLINE_KEY = "moby.buildkit.cache.v0"
NO_PARENT = -1
_GO_ZERO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """``parent`` is the place of the layer below, or NO_PARENT."""

    blob: Digest
    parent: int = NO_PARENT


@dataclass(frozen=True, slots=True)
class CacheResult:
    """Layer ``layer`` with all below it, made at ``created_ns`` (nanoseconds since the epoch; None: not said)."""

    layer: int
    created_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ChainedResult:
    """These layers in this order, whatever their parents."""

    layers: tuple[int, ...]
    created_ns: int | None = None


@dataclass(frozen=True, slots=True)
class CacheInput:
    """``record`` is the place of a record that leads here, through ``selector``."""

    record: int
    selector: str = ""


@dataclass(frozen=True, slots=True)
class ConfigRecord:
    """``inputs``: for each input of the op its alternatives."""

    digest: str
    inputs: tuple[tuple[CacheInput, ...], ...] = ()
    results: tuple[CacheResult, ...] = ()
    chains: tuple[ChainedResult, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheConfig:
    layers: tuple[CacheLayer, ...] = ()
    records: tuple[ConfigRecord, ...] = ()

    def to_json(self) -> bytes:
        """As Go writes it: compact, empty fields left out (parent 0 is one of them)."""
        doc: JSONObject = {}
        if self.layers:
            doc["layers"] = [{"blob": x.blob, **({"parent": x.parent} if x.parent else {})} for x in self.layers]
        if self.records:
            doc["records"] = _records_value(self.records)
        return gojson.encode(doc)

    def records_json(self) -> bytes:
        """The records alone: what stands in an image config."""
        return gojson.encode(_records_value(self.records))


def parse(data: bytes) -> CacheConfig:
    """IntegrityError for anything that is no cache config."""
    try:
        doc = read(data)
        layers = [CacheLayer(_digest(x), x.integer("parent")) for x in doc.objects("layers")]
        return _checked(CacheConfig(tuple(layers), _records(doc)))
    except MalformedError as e:
        raise IntegrityError(f"cache config: {e}") from e


def parse_records(data: bytes, layers: tuple[CacheLayer, ...]) -> CacheConfig:
    """Inline form: the records of ``records_json``, on the image's own layers."""
    try:
        return _checked(CacheConfig(layers, _records(Fields({"records": read_value(data)}))))
    except MalformedError as e:
        raise IntegrityError(f"inline cache: {e}") from e


def order(count: int, below: Callable[[int], Sequence[int]], what: str) -> list[int]:
    """0 to ``count`` in an order in which everything comes after what is below it. IntegrityError for circles. Iterative: a chain
    is as long as its writer liked."""
    done = [0] * count  # 1: under way, 2: in the order
    out: list[int] = []
    for top in range(count):
        stack = [top]
        while stack:
            at = stack[-1]
            if done[at] == 0:
                done[at] = 1
                for b in below(at):
                    if done[b] == 1:
                        raise IntegrityError(f"cache config: invalid looping {what}")
                    if done[b] == 0:
                        stack.append(b)
                continue
            stack.pop()
            if done[at] == 1:
                done[at] = 2
                out.append(at)
    return out


def _checked(config: CacheConfig) -> CacheConfig:
    layers, records = len(config.layers), len(config.records)
    for i, layer in enumerate(config.layers):
        if layer.parent != NO_PARENT:
            _place(layer.parent, layers, f"parent of layer {i}")
    for i, record in enumerate(config.records):
        for alternatives in record.inputs:
            if not alternatives:
                raise IntegrityError(f"cache config: invalid empty input of record {i}")
            for link in alternatives:
                _place(link.record, records, f"input of record {i}")
        for at in (*(r.layer for r in record.results), *(x for c in record.chains for x in c.layers)):
            _place(at, layers, f"result of record {i}")
    return config


def _place(at: int, count: int, what: str) -> None:
    if not 0 <= at < count:
        raise IntegrityError(f"cache config: {what}: there is no number {at}")


def _records_value(records: Sequence[ConfigRecord]) -> list[JSONObject]:
    out = []
    for r in records:
        value: JSONObject = {}
        if r.results:
            value["layers"] = [{"layer": x.layer, "createdAt": _time(x.created_ns)} for x in r.results]
        if r.chains:
            value["chains"] = [{"layers": list(x.layers), "createdAt": _time(x.created_ns)} for x in r.chains]
        value["digest"] = r.digest
        if r.inputs:
            value["inputs"] = [[_input_value(x) for x in alternatives] for alternatives in r.inputs]
        out.append(value)
    return out


def _input_value(x: CacheInput) -> JSONObject:
    return {**({"selector": x.selector} if x.selector else {}), "link": x.record}


def _records(doc: Fields) -> tuple[ConfigRecord, ...]:
    return tuple(map(_record, doc.objects("records")))


def _record(doc: Fields) -> ConfigRecord:
    alternatives = doc.object_lists("inputs")
    inputs = tuple(tuple(CacheInput(x.integer("link"), x.text("selector")) for x in links) for links in alternatives)
    results = tuple(CacheResult(x.integer("layer"), _ns(x)) for x in doc.objects("layers"))
    chains = tuple(ChainedResult(x.integers("layers"), _ns(x)) for x in doc.objects("chains"))
    return ConfigRecord(doc.text("digest"), inputs, results, chains)


def _digest(layer: Fields) -> Digest:
    try:
        return Digest.parse(layer.text("blob"))
    except MalformedError:
        raise
    except ValueError as e:
        raise MalformedError(f"{layer.path}.blob: {e}") from None


def _time(ns: int | None) -> str:
    return _GO_ZERO_TIME if ns is None else format_rfc3339(ns)


def _ns(doc: Fields) -> int | None:
    text = doc.time("createdAt") or _GO_ZERO_TIME
    return None if text == _GO_ZERO_TIME else parse_rfc3339(text)
