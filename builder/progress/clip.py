"""How much of a step's output is shown: BuildKit's limits (util/progress/logs), for each of the two streams of a step.

2 MiB in all, and 200 KiB for each second the step has run; BUILDKIT_STEP_LOG_MAX_SIZE and BUILDKIT_STEP_LOG_MAX_SPEED set others in
bytes, -1 is none. Of a step that fails the last 256 KiB are shown where something was left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

MAX_SIZE = 2 << 20
MAX_SPEED = 200 << 10
TAIL = 256 << 10
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class LogClip:
    """One stream of a step, which begins now. ``size`` and ``speed`` in bytes and bytes a second, -1 for no limit."""

    def __init__(self, size: int = MAX_SIZE, speed: int = MAX_SPEED, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._speed, self._clock = size, speed, clock
        self._created = clock()
        self._written = 0
        self._clipping = False
        self._tail: bytearray | None = None

    def __call__(self, data: bytes) -> bytes:
        """What is shown of ``data``, with a note where it begins to be cut."""
        limit, by_speed = self._limit()
        room = len(data) if limit < 0 else min(len(data), max(0, limit - self._written))
        self._written += len(data)
        if room < len(data) and self._tail is None:
            self._tail = bytearray()
        if self._tail is not None:
            self._tail += data
            if len(self._tail) > 2 * TAIL:
                del self._tail[:-TAIL]
        if room == len(data):
            self._clipping = False
            return data
        if self._clipping:
            return data[:room]
        self._clipping = True
        shown = f"{binary_units(self._speed)}/s" if by_speed else binary_units(self._size)
        return data[:room] + f"\n[output clipped, log limit {shown} reached]\n".encode()

    def rest(self) -> bytes:
        """For the end of a step that failed: its last output, if any of it was cut; else nothing."""
        tail, self._tail = self._tail, None
        return bytes(tail[-TAIL:]) if tail else b""

    def _limit(self) -> tuple[int, bool]:
        """(bytes until now, is it the speed's)."""
        if self._speed != -1:
            limit = math.ceil(self._clock() - self._created) * self._speed
            if self._size == -1 or limit <= self._size:
                return limit, True
        return self._size, False


def limits_of(environ: Mapping[str, str]) -> tuple[int, int]:
    """(size, speed) as the environment has them; what is no number there is passed over."""
    return _number(environ, "BUILDKIT_STEP_LOG_MAX_SIZE", MAX_SIZE), _number(environ, "BUILDKIT_STEP_LOG_MAX_SPEED", MAX_SPEED)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    try:
        value = int(environ.get(name, ""))
    except ValueError:
        return default
    return value if -1 <= value < 1 << 31 else default


def binary_units(count: int) -> str:
    """``2MiB``, ``1.5KiB``: Go's ``%#g`` of units.Bytes."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return repr(value).removesuffix(".0") + _UNITS[unit]
