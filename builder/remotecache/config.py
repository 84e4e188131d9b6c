"""The cache config document, application/vnd.buildkit.cacheconfig.v0 (BuildKit: cache/remotecache/v1/types/doc.go). Pure.

Layers are blobs with their parents; records are cache keys with their inputs and the layers that are stored under them. What comes
in is a stranger's: numbers that point nowhere or in circles are an IntegrityError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from builder.errors import IntegrityError
from builder.oci.digest import Digest
from builder.text import gojson
from builder.text.times import format_rfc3339, parse_rfc3339
from builder.values import dataclass

MEDIA_TYPE = "application/vnd.buildkit.cacheconfig.v0"
INLINE_KEY = "moby.buildkit.cache.v0"
NO_PARENT = -1
_GO_ZERO_TIME = "0001-01-01T00:00:00Z"
T = TypeVar("T")


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
class CacheRecord:
    """``inputs``: for each input of the op its alternatives."""

    digest: str
    inputs: tuple[tuple[CacheInput, ...], ...] = ()
    results: tuple[CacheResult, ...] = ()
    chains: tuple[ChainedResult, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheConfig:
    layers: tuple[CacheLayer, ...] = ()
    records: tuple[CacheRecord, ...] = ()

    def to_json(self) -> bytes:
        """As Go writes it: compact, empty fields left out (parent 0 is one of them)."""
        doc: dict[str, Any] = {}
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
    with _reading("cache config"):
        doc = json.loads(data)
        layers = tuple(CacheLayer(Digest.parse(_text(x["blob"])), _int(x.get("parent", 0))) for x in _list(doc.get("layers")))
        return _checked(CacheConfig(layers, _records(doc.get("records"))))


def parse_records(data: bytes, layers: tuple[CacheLayer, ...]) -> CacheConfig:
    """Inline form: the records of ``records_json``, on the image's own layers."""
    with _reading("inline cache"):
        return _checked(CacheConfig(layers, _records(json.loads(data))))


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


def _records_value(records: Sequence[CacheRecord]) -> list[dict[str, Any]]:
    out = []
    for r in records:
        value: dict[str, Any] = {}
        if r.results:
            value["layers"] = [{"layer": x.layer, "createdAt": _time(x.created_ns)} for x in r.results]
        if r.chains:
            value["chains"] = [{"layers": list(x.layers), "createdAt": _time(x.created_ns)} for x in r.chains]
        value["digest"] = r.digest
        if r.inputs:
            value["inputs"] = [[_input_value(x) for x in alternatives] for alternatives in r.inputs]
        out.append(value)
    return out


def _input_value(x: CacheInput) -> dict[str, Any]:
    return {**({"selector": x.selector} if x.selector else {}), "link": x.record}


def _records(value: object) -> tuple[CacheRecord, ...]:
    return tuple(_record(x) for x in _list(value))


def _record(doc: dict[str, Any]) -> CacheRecord:
    inputs = tuple(
        tuple(CacheInput(_int(x.get("link", 0)), _text(x.get("selector") or "")) for x in _list(alternatives))
        for alternatives in _list(doc.get("inputs"))
    )
    results = tuple(CacheResult(_int(x.get("layer", 0)), _ns(x)) for x in _list(doc.get("layers")))
    chains = tuple(ChainedResult(tuple(_int(at) for at in _list(x.get("layers"))), _ns(x)) for x in _list(doc.get("chains")))
    return CacheRecord(_text(doc.get("digest") or ""), inputs, results, chains)


def _time(ns: int | None) -> str:
    return _GO_ZERO_TIME if ns is None else format_rfc3339(ns)


def _ns(doc: dict[str, Any]) -> int | None:
    text = doc.get("createdAt") or _GO_ZERO_TIME
    return None if text == _GO_ZERO_TIME else parse_rfc3339(_text(text))


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("a number is none")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is none")
    return value


def _list(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError("a list is none")
    return value


class _reading:
    """Turns what Python says of malformed values into IntegrityError."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ValueError, TypeError, KeyError, AttributeError, RecursionError)):
            raise IntegrityError(f"{self._what}: malformed: {str(error).splitlines()[0] if str(error) else error!r}") from error
