"""Vertices, edges and graphs, with their digests and their two printed forms."""

from __future__ import annotations

import base64
import json
from functools import cached_property
from typing import TYPE_CHECKING

from builder.oci.digest import Digest
from builder.text.gojson import JSON, JSONObject
from builder.text.redact import redact_text
from builder.values import dataclass, field, fields, is_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from builder.graph.ops import Op
    from builder.oci.platform import Platform

    _Flat: TypeAlias = "tuple[Op, Platform | None, VertexMeta, list[tuple[int, int]]]"
    """A vertex whose inputs are places in a list, and output indexes."""


@dataclass(frozen=True, slots=True)
class Location:
    """Lines of the source file that a vertex comes from, counted from 1, ends included."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class VertexMeta:
    """What is said about a vertex without changing what it does; no part of its digest. Credentials of URLs are masked."""

    name: str = ""
    """What progress shows: ``[build 2/5] RUN make``."""
    locations: tuple[Location, ...] = ()
    ignore_cache: bool = False
    stage: str = ""
    """Name of the stage, for --no-cache-filter and explanations."""
    instruction: str = ""
    """The instruction with its variables replaced, for explanations."""
    args: tuple[str, ...] = ()
    """Names of the variables that come from ARG, for explanations."""
    internal: bool = False

    def __post_init__(self) -> None:
        for field_name in ("name", "instruction"):
            text = getattr(self, field_name)
            if "://" in text:
                object.__setattr__(self, field_name, redact_text(text))


@dataclass(frozen=True)
class Vertex:
    """One operation with its inputs. Immutable; two vertices with the same digest do the same."""

    op: Op
    inputs: tuple[Edge, ...] = ()
    platform: Platform | None = None
    meta: VertexMeta = field(default=VertexMeta(), compare=False)

    @cached_property
    def digest(self) -> Digest:
        """sha256 of the canonical JSON of op, platform and the inputs' digests."""
        # Those below first: asking them from within ``definition`` would go as deep as the longest Dockerfile.
        for vertex in _post_order(self, lambda v: "digest" in v.__dict__):
            if vertex is not self:
                _ = vertex.digest
        return Digest.of(canonical_json(self.definition()))

    def definition(self, *, full: bool = False) -> JSONObject:
        """JSON form without ``meta``; inputs as (digest, index). ``full`` keeps fields that are no part of the digest."""
        return {
            "op": encode(self.op, full=full),
            "platform": str(self.platform) if self.platform else None,
            "inputs": [{"digest": e.vertex.digest, "index": e.index} for e in self.inputs],
        }

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vertex) and other.digest == self.digest

    def __repr__(self) -> str:
        return f"<Vertex {self.digest[7:19]} {self.meta.name or self.op.kind}>"

    def __reduce__(self) -> tuple[Callable[[list[_Flat]], Vertex], tuple[list[_Flat]]]:
        """For pickle and copy: all that is below as a list, which needs no stack."""
        order = list(_post_order(self, lambda _: False))
        places = {id(v): i for i, v in enumerate(order)}
        return _unflatten, ([(v.op, v.platform, v.meta, [(places[id(e.vertex)], e.index) for e in v.inputs]) for v in order],)


@dataclass(frozen=True, slots=True)
class Edge:
    """Output ``index`` of ``vertex``."""

    vertex: Vertex
    index: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything below some edges (usually one: the target's root filesystem)."""

    outputs: tuple[Edge, ...]

    def __iter__(self) -> Iterator[Vertex]:
        """Every vertex once, inputs before their users."""
        seen: set[Digest] = set()
        stack: list[tuple[Vertex, bool]] = [(e.vertex, False) for e in reversed(self.outputs)]
        while stack:
            vertex, expanded = stack.pop()
            if expanded:
                yield vertex
            elif vertex.digest not in seen:
                seen.add(vertex.digest)
                stack.append((vertex, True))
                stack.extend((e.vertex, False) for e in reversed(vertex.inputs))

    def to_json(self) -> str:
        """Vertices in order, inputs first; ``outputs`` names the edges that are asked for. Credentials of URLs are masked."""
        vertices = [
            {"digest": v.digest, **_redacted_object(v.definition(full=True)), "meta": encode(v.meta, full=True)} for v in self
        ]
        outputs = [{"digest": e.vertex.digest, "index": e.index} for e in self.outputs]
        return json.dumps({"vertices": vertices, "outputs": outputs}, indent=2, ensure_ascii=False, sort_keys=True)

    def to_dot(self) -> str:
        """The graph in Graphviz' language."""
        lines = ["digraph {", "  rankdir=BT;", '  node [shape=box, fontname="monospace"];']
        for v in self:
            label = v.meta.name or v.op.kind
            lines.append(f'  "{v.digest}" [label={json.dumps(label, ensure_ascii=False)}];')
            lines += [f'  "{e.vertex.digest}" -> "{v.digest}" [label="{e.index}"];' for e in v.inputs]
        return "\n".join([*lines, "}"])


def _post_order(top: Vertex, skip: Callable[[Vertex], bool]) -> Iterator[Vertex]:
    """``top`` and all below it, inputs first, each object once; those that ``skip`` names are left out with all below them."""
    seen: set[int] = set()
    stack: list[tuple[Vertex, bool]] = [(top, False)]
    while stack:
        vertex, expanded = stack.pop()
        if expanded:
            yield vertex
        elif id(vertex) not in seen and not skip(vertex):
            seen.add(id(vertex))
            stack.append((vertex, True))
            stack.extend((e.vertex, False) for e in reversed(vertex.inputs))


def _unflatten(flat: list[_Flat]) -> Vertex:
    made: list[Vertex] = []
    for op, platform, meta, inputs in flat:
        made.append(Vertex(op, tuple(Edge(made[place], index) for place, index in inputs), platform, meta))
    return made[-1]


def encode(value: object, *, full: bool = False) -> JSON:
    """Frozen data as JSON values: ``kind`` leads an op or action, bytes are base64.

    Fields marked ``digest: False`` are left out unless ``full``.
    """
    if is_value(value):
        kind = getattr(value, "kind", None)
        out: JSONObject = {"kind": kind} if kind is not None else {"type": type(value).__name__}
        for f in fields(value):
            if full or f.metadata.get("digest", True):
                out[f.name] = encode(getattr(value, f.name), full=full)
        return out
    if isinstance(value, tuple | list):
        return [encode(v, full=full) for v in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _redacted(value: JSON) -> JSON:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return _redacted_object(value)
    return [_redacted(v) for v in value] if isinstance(value, list) else value


def _redacted_object(value: JSONObject) -> JSONObject:
    return {key: _redacted(v) for key, v in value.items()}


def canonical_json(value: JSON) -> bytes:
    """One byte string for one value: sorted keys, no spaces, ASCII (lone surrogates of undecodable input survive as escapes)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
