"""A world for conversions: images by name, ignore files, times of sources; and a notation for graphs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from builder.graph.ops import GitSource, HTTPSource, LocalSource, Owner
from builder.graph.vertex import Edge, Graph
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.values import dataclass, field, fields, is_value
from frontend.convert import Converted, ConvertOptions, ResolvedImageConfig, ResolveError, convert

AMD64 = Platform("linux", "amd64")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class World:
    """A ``MetaResolver`` that counts. ``images`` maps normalized references to config documents."""

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    ignores: Mapping[str, bytes] = field(default_factory=dict)
    times: Mapping[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, ref: str, architecture: str = "amd64", **config: Any) -> None:
        layers = [f"sha256:{'0' * 64}"]
        history = [{"created_by": "base"}]
        self.images[ref] = {
            "architecture": architecture,
            "os": "linux",
            "created": "2020-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": layers},
            "history": history,
        }

    def image_config(self, ref: str, platform: Platform, mode: str) -> ResolvedImageConfig:
        self.asked.append(ref)
        if ref not in self.images:
            raise ResolveError(f"failed to resolve source metadata for {ref}: {ref}: not found")
        return ResolvedImageConfig(f"{ref}@{short_digest(ref)}", json.dumps(self.images[ref]).encode())

    def oci_layout_config(self, name: str, ref: str, platform: Platform) -> ResolvedImageConfig:
        self.asked.append(f"{name}:{ref}")
        return ResolvedImageConfig(f"{name}@{short_digest(name)}", json.dumps(self.images["oci"]).encode())

    def read_ignore(self, name: str) -> bytes | None:
        return self.ignores.get(name)

    def archive_time(self, source: LocalSource, path: str) -> int | None:
        return self.times.get(f"{source.name}:{path}")

    def source_time(self, source: GitSource | HTTPSource) -> int | None:
        return self.times.get(source.remote if isinstance(source, GitSource) else source.url)


def short_digest(text: str) -> Digest:
    """Different for different texts, and no eyesore: a sum."""
    return Digest(f"sha256:{sum(text.encode()):064x}")


@pytest.fixture
def world() -> World:
    made = World()
    made.add("docker.io/library/busybox:latest", Env=[PATH], Cmd=["sh"])
    made.add("docker.io/library/alpine:latest", Env=[PATH], Cmd=["/bin/sh"])
    return made


Build = Callable[..., Converted]


@pytest.fixture
def build(world: World) -> Build:
    """Convert a Dockerfile; options by name."""

    def run(text: str, **options: Any) -> Converted:
        return convert(text.encode(), ConvertOptions(**{"build_platform": AMD64, **options}), world)

    return run


def render(edge: Edge | None) -> list[str]:
    """A graph in lines, inputs first: number, kind, inputs, what differs from the defaults; then the name in quotes."""
    if edge is None:
        return ["scratch"]
    numbers: dict[str, int] = {}
    lines = []
    for vertex in Graph((edge,)):
        numbers[vertex.digest] = len(numbers) + 1
        inputs = " ".join(f"{numbers[e.vertex.digest]}" for e in vertex.inputs)
        platform = f" {vertex.platform}" if vertex.platform else ""
        flags = "!" if vertex.meta.ignore_cache else ""
        head = f"{len(numbers)}{flags} {vertex.op.kind}({inputs}){platform}"
        lines.append(" ".join(filter(None, [head, *_fields(vertex.op), json.dumps(vertex.meta.name, ensure_ascii=False)])))
        for action in getattr(vertex.op, "actions", ()):
            lines.append("    " + " ".join([action.kind, *_fields(action)]))
    return lines


def _fields(value: Any) -> list[str]:
    found = []
    for item in fields(value):
        given = getattr(value, item.name)
        default = item.default_factory() if callable(item.default_factory) else item.default  # type: ignore[misc]
        if given != default and item.name != "actions":
            found.append(f"{item.name}={_short(given)}")
    return found


def _short(value: Any) -> str:
    if isinstance(value, Owner):
        return f"{value.user}:{'' if value.group is None else value.group}"
    if is_value(value):
        return f"{type(value).__name__}({' '.join(_fields(value))})"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    if value is True:
        return "yes"
    return json.dumps(value.decode() if isinstance(value, bytes) else value, ensure_ascii=False)
