"""Plain progress, line by line: BuildKit's ``#5 [build 2/4] RUN make`` (util/progress/progressui/printer.go).

One vertex at a time is "open": its lines come at once. Others wait until it ends, or has been silent for a while; a change of
the open one is said with ``#N ...``. What happens within a tenth of a second is shown together, so that a vertex which begins and
ends twice in it is shown once; its end is told once in any case, also where BuildKit would repeat it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import BinaryIO

from builder.oci.digest import Digest
from builder.progress.events import Event, Log
from builder.progress.lines import StepLines, stamp
from builder.progress.trace import Trace, VertexView, amount
from builder.values import dataclass, field

REFRESH_SECONDS = 0.1
SILENCE = 5.0
"""Seconds that a vertex stays open, longer by the share that its lines have of all lines."""
PATIENCE = 10.0
"""Seconds after which a vertex that waits is shown in any case."""
STATUS_SECONDS = 5.0
STATUS_SHARE = 0.05
_WAITING = 1 << 20
"""Bytes of output that wait to be printed; more is printed at once, which makes the step wait for whoever reads us."""


@dataclass(slots=True)
class _Printed:
    """What this display knows of a vertex. ``count``: events since ``since``, when it was last out of sight."""

    view: VertexView
    lines: StepLines = field(default_factory=StepLines)
    count: int = 0
    since: float = 0.0
    warned: int = 0
    ended: str = ""


class PlainDisplay:
    """A sink that prints to a binary stream. ``close`` prints what is left."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self.trace = Trace()
        self._all: dict[Digest, _Printed] = {}
        self._news: dict[Digest, _Printed] = {}
        self._open: _Printed | None = None
        self._count = 0
        self._first = True
        self._mid_line = False
        self._printed_at = float("-inf")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            view = self.trace.apply(event)
            if view is None:
                return
            now = getattr(event, "time", self._printed_at)
            v = self._all.get(view.digest) or self._all.setdefault(view.digest, _Printed(view))
            if not v.count:
                v.since = now
            v.count += 1
            self._news[view.digest] = v
            if isinstance(event, Log):
                v.lines.add(event.data, stamp(max(0.0, event.time - view.started)))
                if v.lines.size > _WAITING:
                    self._print(v)
            if now - self._printed_at >= REFRESH_SECONDS:
                self._refresh(now)
            elif self._thread is None:
                self._thread = threading.Thread(target=self._keep_fresh, name="progress", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            waiting = dict(self._news)
            if self._open is not None:
                waiting.setdefault(self._open.view.digest, self._open)
            for v in sorted(waiting.values(), key=lambda v: v is not self._open):
                self._print(v, final=True)
            self._end_line()
            self._out.flush()

    # ------------------------------------------------------------------------------------------------ which vertex is shown
    def _keep_fresh(self) -> None:
        """Errors of the stream are the next caller's, who can do something about them."""
        while not self._stop.wait(REFRESH_SECONDS):
            with self._lock, suppress(OSError, ValueError):
                if self._news:
                    self._refresh(time.monotonic())

    def _refresh(self, now: float) -> None:
        self._printed_at = now
        self._choose(now)
        self._out.flush()

    def _choose(self, now: float) -> None:
        """What has ended comes first. Of the rest the open vertex stays open for a time, and longer where it has more to say."""
        before = self._open
        ended = [v for v in self._news.values() if v.view.completed is not None]
        running = [v for v in self._news.values() if v.view.completed is None]
        for v in sorted(ended, key=lambda v: (v is not before, v.view.completed)):
            self._print(v)
        if not running:
            if before is None or before.view.completed is not None:
                self._open_any()
            return
        if before in running:
            self._print(before)
        stays = before is not None and before.view.completed is None
        shown = [*running, before] if stays and before is not None and before not in running else running
        speeds = {id(v): v.count / max(now - v.since, 1e-6) for v in shown}
        late = [v for v in running if now - v.since > PATIENCE and v is not before]
        first = late[-1] if late else max(shown, key=lambda v: speeds[id(v)])
        if not stays or late:
            self._print(first)
        elif before is not None and first is not before:
            others = 1 - speeds[id(before)] / sum(speeds.values())
            if now - before.since > SILENCE / others:
                self._print(first)

    def _open_any(self) -> None:
        for v in self._all.values():
            if v.view.completed is None:
                self._print(v)
                return

    # ------------------------------------------------------------------------------------------------ what is printed of it
    def _print(self, v: _Printed, *, final: bool = False) -> None:
        view = v.view
        if not view.index:
            self._count += 1
            view.index = self._count
        head = b"#%d " % view.index
        if v is not self._open:
            self._switch(v, head)
        is_open = self._print_statuses(view, head)
        for text in view.warnings[v.warned :]:
            self._line(head + b"WARN: " + text.encode("utf-8", "replace"))
        v.warned = len(view.warnings)
        if v.lines.size:
            text_out, self._mid_line = v.lines.take(head, mid_line=self._mid_line)
            self._out.write(text_out)
        self._news.pop(view.digest, None)
        if view.completed is not None and (final or not is_open):
            self._open = None
            v.count = 0
            self._end_line()
            ending = _ending(view)
            # Layers of a base image are pulled when a step needs them, after their vertex has ended: it does not end again.
            if not v.ended or (view.error and ending != v.ended):
                self._line(head + ending.encode("utf-8", "replace"))
            v.ended = ending

    def _switch(self, v: _Printed, head: bytes) -> None:
        if self._open is not None:
            self._line(b"#%d ..." % self._open.view.index)
            self._open.count = 0
        if not self._first:
            self._line(b"")
        self._first = False
        self._line(head + v.view.name.encode("utf-8", "replace"))
        self._open = v

    def _print_statuses(self, view: VertexView, head: bytes) -> bool:
        """Gives whether one of those that changed goes on."""
        is_open = False
        for s in view.statuses.values():
            if not s.changed:
                continue
            if s.shown is not None and not s.completed:
                share = (s.current - s.shown[0]) / s.total if s.total else 0.0
                if share < STATUS_SHARE and s.updated - s.shown[1] < STATUS_SECONDS:
                    is_open = True
                    continue
            is_open = is_open or not s.completed
            s.shown, s.changed = (s.current, s.updated), False
            took = s.updated - s.started
            text = s.id + amount(s) + (f" {took:.1f}s" if took > 0.01 else "") + (" done" if s.completed else "")
            self._line(head + text.encode("utf-8", "replace"))
        return is_open

    def _line(self, data: bytes) -> None:
        self._end_line()
        self._out.write(data + b"\n")

    def _end_line(self) -> None:
        if self._mid_line:
            self._out.write(b"\n")
            self._mid_line = False


def _ending(v: VertexView) -> str:
    if v.cancelled:
        return "CANCELED"
    if v.error:
        return f"ERROR: {v.error}"
    return "CACHED" if v.cached else f"DONE {v.seconds:.1f}s"
