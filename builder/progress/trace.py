"""The state that displays draw from: every vertex with its statuses and lines, built up from events. Pure."""

from __future__ import annotations

from collections import deque

from builder.oci.digest import Digest
from builder.progress.events import Event, Log, Status, VertexCompleted, VertexStarted, Warned
from builder.values import dataclass, field

KEPT_LINES = 10


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
    """What is known of a vertex. ``pending`` are lines that were not printed yet, ``partial`` the unfinished last one."""

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
    pending: list[bytes] = field(default_factory=list)
    partial: bytes = b""
    partial_at: float = 0.0
    kept: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    active: float = 0.0
    dirty: bool = True


class Trace:
    """Applies events. ``vertexes`` is in the order of their start."""

    def __init__(self) -> None:
        self.vertexes: dict[Digest, VertexView] = {}
        self.warnings: list[Warned] = []

    def apply(self, event: Event) -> VertexView | None:
        """Take an event; gives the vertex that it changed, if it is one's."""
        if isinstance(event, Warned):
            self.warnings.append(event)
            return None
        if isinstance(event, VertexStarted):
            v = self.vertexes.setdefault(event.digest, VertexView(event.digest, event.name, event.time))
            if v.completed is not None:  # a second run of it: BuildKit adds the intervals up
                v.started, v.completed, v.cached = event.time, None, False
        elif isinstance(event, VertexCompleted):
            v = self.vertexes.setdefault(event.digest, VertexView(event.digest, event.name, event.time))
            v.completed, v.cached, v.error, v.cancelled = event.time, event.cached, event.error, event.cancelled
            v.seconds += max(0.0, event.time - v.started)
            self._finish_line(v)
        else:
            known = self.vertexes.get(event.digest)
            if known is None:
                return None
            v = known
            if isinstance(event, Status):
                self._status(v, event)
            else:
                self._log(v, event)
        v.active, v.dirty = event.time, True
        return v

    def failed(self) -> list[VertexView]:
        """Vertices with an error of their own."""
        return [v for v in self.vertexes.values() if v.error and not v.cancelled]

    @staticmethod
    def _status(v: VertexView, event: Status) -> None:
        s = v.statuses.setdefault(event.id, StatusView(event.id, event.time))
        s.current, s.total, s.updated, s.completed, s.changed = event.current, event.total, event.time, event.completed, True

    @staticmethod
    def _log(v: VertexView, event: Log) -> None:
        *lines, rest = (v.partial + event.data).split(b"\n")
        if not v.partial:
            v.partial_at = event.time
        for line in lines:
            text = _stamp(v.partial_at - v.started) + line.rstrip(b"\r")
            v.pending.append(text)
            v.kept.append(text)
            v.partial_at = event.time
        v.partial = rest

    @staticmethod
    def _finish_line(v: VertexView) -> None:
        if v.partial:
            text = _stamp(v.partial_at - v.started) + v.partial
            v.pending.append(text)
            v.kept.append(text)
            v.partial = b""


def _stamp(seconds: float) -> bytes:
    """``0.123``, ``12.34``, ``123.4`` and a space: four digits, as BuildKit prints."""
    precision = 3 if seconds < 10 else 2 if seconds < 100 else 1
    return f"{seconds:.{precision}f} ".encode()


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
