"""The live display: running vertices with a clock each and the last lines of output, redrawn ten times a second.

Finished vertices scroll up above the live part and stay, so that nothing needs a terminal emulator of our own: what is redrawn
is only the block at the bottom, as high as the number of running steps and their last lines.
"""

from __future__ import annotations

import os
import threading
import time
from typing import BinaryIO

from builder.progress.events import Event
from builder.progress.trace import Trace, VertexView, amount

REDRAW = 0.1
TAIL = 6
"""Lines of output shown below a running step."""
_BLUE, _RED, _YELLOW, _DIM, _OFF = "\x1b[34m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


class TTYDisplay:
    """A sink that draws on a terminal. ``close`` leaves the final state on the screen."""

    def __init__(self, out: BinaryIO, *, title: str = "Building", color: bool | None = None) -> None:
        self._out, self._title = out, title
        self._color = not os.environ.get("NO_COLOR") if color is None else color
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self.trace = Trace()
        self._printed: set[str] = set()
        self._warned: dict[str, int] = {}
        self._height = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.trace.apply(event)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._draw(final=True)

    def _run(self) -> None:
        while not self._stop.wait(REDRAW):
            with self._lock:
                self._draw(final=False)

    def _draw(self, *, final: bool) -> None:
        now = time.monotonic()
        width, height = _size(self._out)
        done = [v for v in self.trace.vertexes.values() if v.completed is not None]
        above: list[str] = []
        for v in done:
            if v.digest not in self._printed:
                self._printed.add(v.digest)
                above += self._finished(v, width)
            above += self._warnings(v, width)
        running = [v for v in self.trace.vertexes.values() if v.completed is None]
        total = self.trace.total
        state = "FINISHED" if final and not running else ""
        head = f"[+] {self._title} {now - self._begin:.1f}s ({len(done)}/{total}) {state}".rstrip()
        live = [head] + [line for v in running for line in self._running(v, now, width)]
        live = live[: max(1, height - 1)]
        back = f"\x1b[{self._height}A" if self._height else ""
        text = back + "\r\x1b[J" + "".join(line + "\n" for line in above + live)
        self._height = 0 if final else len(live)
        self._out.write(text.encode("utf-8", "replace"))
        self._out.flush()

    def _finished(self, v: VertexView, width: int) -> list[str]:
        word, color = ("CACHED ", _BLUE) if v.cached else ("", _BLUE)
        if v.cancelled:
            word, color = "CANCELED ", _YELLOW
        elif v.error:
            word, color = "ERROR ", _RED
        return [self._row(f" => {word}{v.name}", v.seconds, width, color)]

    def _warnings(self, v: VertexView, width: int) -> list[str]:
        """What a finished vertex was warned of since the last time; some come when it has scrolled up already."""
        news = v.warnings[self._warned.get(v.digest, 0) :]
        self._warned[v.digest] = len(v.warnings)
        return [self._row(f" => WARN: {text}", v.seconds, width, _YELLOW) for text in news]

    def _running(self, v: VertexView, now: float, width: int) -> list[str]:
        rows = [self._row(f" => {v.name}", now - v.started, width, "")]
        rows += [self._row(f" => WARN: {text}", now - v.started, width, _YELLOW) for text in v.warnings]
        for s in list(v.statuses.values())[-TAIL:]:
            took = (s.updated if s.completed else now) - s.started
            rows.append(self._row(f" => => {s.id}{amount(s)}", took, width, ""))
        lines = [*v.kept, v.partial] if v.partial else list(v.kept)
        tail = [line.decode("utf-8", "replace") for line in lines[-TAIL:]]
        rows += [self._paint(_DIM, f" => => # {_printable(line)}"[: width - 1]) for line in tail]
        return rows

    def _row(self, left: str, seconds: float, width: int, color: str) -> str:
        right = f"{seconds:.1f}s"
        room = max(1, width - len(right) - 2)
        left = _printable(left)
        left = left if len(left) <= room else left[: room - 3] + "..."
        return self._paint(color, left.ljust(room) + " " + right)

    def _paint(self, color: str, text: str) -> str:
        return f"{color}{text}{_OFF}" if color and self._color else text


def _printable(text: str) -> str:
    """No control characters of a step's output reach the terminal from here: they could move the cursor."""
    return "".join(c if c.isprintable() else " " for c in text)


def _size(out: BinaryIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(out.fileno())
    except OSError:
        return 80, 24
    return (size.columns or 80), (size.lines or 24)
