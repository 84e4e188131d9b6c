"""Plain progress, line by line: BuildKit's ``#5 [build 2/4] RUN make`` (util/progress/progressui/printer.go).

One vertex at a time is "open": its lines come at once. Others wait until it ends, or has been silent for a while; a change of
the open one is said with ``#N ...``.
"""

from __future__ import annotations

import threading
from typing import BinaryIO

from builder.progress.events import Event
from builder.progress.trace import Trace, VertexView, amount

SILENCE = 5.0
"""Seconds without a line after which another vertex may interrupt the open one."""
STATUS_SECONDS = 5.0
STATUS_SHARE = 0.05


class PlainDisplay:
    """A sink that prints to a binary stream. ``close`` prints what is left."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self.trace = Trace()
        self._open: VertexView | None = None
        self._count = 0
        self._first = True

    def __call__(self, event: Event) -> None:
        with self._lock:
            v = self.trace.apply(event)
            if v is None:
                return
            now = v.active
            if v is self._open or self._open is None or v.completed is not None or now - self._open.active > SILENCE:
                self._print(v)
                if self._open is None:
                    self._next()
            self._out.flush()

    def close(self) -> None:
        with self._lock:
            for v in self.trace.vertexes.values():
                if v.dirty or v is self._open:
                    self._print(v, final=True)
            self._out.flush()

    def _next(self) -> None:
        """Open the vertex with the newest waiting output, if there is one."""
        waiting = [v for v in self.trace.vertexes.values() if v.dirty and v.completed is None]
        if waiting:
            self._print(max(waiting, key=lambda v: v.active))

    def _print(self, v: VertexView, *, final: bool = False) -> None:
        if not v.index:
            self._count += 1
            v.index = self._count
        head = b"#%d " % v.index
        if v is not self._open:
            if self._open is not None:
                self._line(b"#%d ..." % self._open.index)
            if not self._first:
                self._line(b"")
            self._first = False
            self._line(head + v.name.encode("utf-8", "replace"))
        open_status = self._print_statuses(v, head)
        for line in v.pending:
            self._line(head + line)
        v.pending.clear()
        v.dirty = False
        self._open = v
        # Layers of a base image are pulled when a step needs them, after its vertex has ended: it ends when they are there.
        if v.completed is not None and (final or not open_status):
            self._open = None
            self._line(head + _ending(v))

    def _print_statuses(self, v: VertexView, head: bytes) -> bool:
        is_open = False
        for s in v.statuses.values():
            is_open = is_open or not s.completed
            if not s.changed:
                continue
            if s.shown is not None and not s.completed:
                share = (s.current - s.shown[0]) / s.total if s.total else 0.0
                if share < STATUS_SHARE and s.updated - s.shown[1] < STATUS_SECONDS:
                    continue
            s.shown, s.changed = (s.current, s.updated), False
            took = s.updated - s.started
            text = s.id + amount(s) + (f" {took:.1f}s" if took > 0.01 else "") + (" done" if s.completed else "")
            self._line(head + text.encode("utf-8", "replace"))
        return is_open

    def _line(self, data: bytes) -> None:
        self._out.write(data + b"\n")


def _ending(v: VertexView) -> bytes:
    if v.cancelled:
        return b"CANCELED"
    if v.error:
        return b"ERROR: " + v.error.encode("utf-8", "replace")
    return b"CACHED" if v.cached else f"DONE {v.seconds:.1f}s".encode()
