"""The state that displays draw from: every vertex with its statuses and last lines, built up from events. Pure."""

from __future__ import annotations

from collections import deque

from builder.oci.digest import Digest
from builder.progress.events import Event, Log, Status, VertexCompleted, VertexKnown, VertexStarted, Warned
from builder.values import dataclass, field

KEPT_LINES = 10
KEPT_BYTES = 1024
"""Of a line that is kept: no screen is wider."""


@dataclass(slots=True)
class StatusView:
    """One line below a vertex; ``shown`` is (bytes, time) of the last print."""

    id: str
    started: float
    current: int = 0
    total: int = 0
    updated: float = 0.0
    completed: bool = False
    changed: bool = True
    shown: tuple[int, float] | None = None


@dataclass(slots=True)
class VertexView:
    """What is known of a vertex that has begun. ``kept`` are the beginnings of its last lines, ``partial`` that of an unfinished
    one. ``seconds`` is the time of all its runs."""

    digest: Digest
    name: str
    started: float
    index: int = 0
    completed: float | None = None
    cached: bool = False
    cancelled: bool = False
    error: str = ""
    seconds: float = 0.0
    statuses: dict[str, StatusView] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    kept: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    partial: bytes = b""


class Trace:
    """Applies events. ``vertexes`` is in the order of their start; ``inputs`` has all that are known, begun or not."""

    def __init__(self) -> None:
        self.vertexes: dict[Digest, VertexView] = {}
        self.inputs: dict[Digest, tuple[Digest, ...]] = {}
        self.warnings: list[Warned] = []

    @property
    def total(self) -> int:
        """How many there are, begun or not."""
        return len(self.vertexes.keys() | self.inputs.keys())

    def apply(self, event: Event) -> VertexView | None:
        """Take an event; gives the vertex that it changed, if it is one's that has begun."""
        if isinstance(event, VertexKnown):
            self.inputs.setdefault(event.digest, event.inputs)
            return None
        if isinstance(event, Warned):
            return self._warn(event)
        if isinstance(event, VertexStarted):
            v = self.vertexes.setdefault(event.digest, VertexView(event.digest, event.name, event.time))
            if v.completed is not None:  # a second run of it: BuildKit adds the intervals up
                v.started, v.completed, v.cached = event.time, None, False
            return v
        if isinstance(event, VertexCompleted):
            v = self.vertexes.setdefault(event.digest, VertexView(event.digest, event.name, event.time))
            v.completed, v.cached, v.error, v.cancelled = event.time, event.cached, event.error, event.cancelled
            v.seconds += max(0.0, event.time - v.started)
            if v.partial:
                v.kept.append(v.partial)
                v.partial = b""
            return v
        known = self.vertexes.get(event.digest)
        if known is None:
            return None
        if isinstance(event, Status):
            self._status(known, event)
        else:
            self._log(known, event)
        return known

    def failed(self) -> list[VertexView]:
        """Vertices with an error of their own."""
        return [v for v in self.vertexes.values() if v.error and not v.cancelled]

    def _warn(self, event: Warned) -> VertexView | None:
        self.warnings.append(event)
        v = self.vertexes.get(event.digest) if event.digest is not None else None
        if v is not None:
            v.warnings.append(event.short)
        return v

    @staticmethod
    def _status(v: VertexView, event: Status) -> None:
        s = v.statuses.setdefault(event.id, StatusView(event.id, event.time))
        s.current, s.total, s.updated, s.completed, s.changed = event.current, event.total, event.time, event.completed, True

    @staticmethod
    def _log(v: VertexView, event: Log) -> None:
        """Only the last lines are cut out of a chunk: the others would not be kept."""
        *lines, rest = event.data.rsplit(b"\n", KEPT_LINES + 1)
        if lines and len(lines) <= KEPT_LINES:
            lines[0] = v.partial + lines[0]
        v.kept.extend(line[:KEPT_BYTES].rstrip(b"\r") for line in lines[-KEPT_LINES:])
        v.partial = rest[:KEPT_BYTES] if lines else (v.partial + rest)[:KEPT_BYTES]


def format_bytes(n: int) -> str:
    """``3.21MB``: decimal units with two digits."""
    size = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.2f}{unit}"
        size /= 1000
    return f"{size:.2f}TB"


def amount(s: StatusView) -> str:
    """`` 1.00MB / 3.00MB``, with the space, or nothing."""
    if s.total:
        return f" {format_bytes(s.current)} / {format_bytes(s.total)}"
    return f" {format_bytes(s.current)}" if s.current else ""
