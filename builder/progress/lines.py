"""A step's output on its way to plain lines. The cost is linear in its bytes, whatever lines they make: a line that comes in a
thousand chunks is printed in a thousand pieces, a chunk of a thousand lines in one go.
"""

from __future__ import annotations

BEGUN = 16 << 10
"""Bytes of an unfinished line that are printed again where another step came in between."""


class StepLines:
    """Output of one step that was not printed yet. ``size`` in bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._pending: list[tuple[bytes, bytes]] = []  # (stamp, data that begins a line), or (nothing, data that goes on)
        self._open = False  # the last byte that came was not the end of a line
        self._stamp = self._begun = b""  # of the line whose beginning is printed

    def add(self, data: bytes, stamp: bytes) -> None:
        """``data`` as it came; ``stamp`` is the time for the lines that begin in it, with a space."""
        if not data:
            return
        self.size += len(data)
        if self._open:
            end = data.find(b"\n") + 1 or len(data)
            self._pending.append((b"", data[:end]))
            self._open = not data.endswith(b"\n", 0, end)
            data = data[end:]
        if data:
            self._pending.append((stamp, data))
            self._open = not data.endswith(b"\n")

    def take(self, head: bytes, *, mid_line: bool) -> tuple[bytes, bool]:
        """(what is to be printed, does it end within a line), with ``head`` before each line. ``mid_line``: the cursor is behind
        what was taken last; else the beginning of an unfinished line comes again."""
        out: list[bytes] = []
        for stamp, data in self._pending:
            if stamp:
                self._stamp, self._begun = stamp, b""
            if stamp or not mid_line:
                out.append(head + self._stamp + self._begun)
            out.append(_prefixed(data, head + self._stamp))
            mid_line = not data.endswith(b"\n")
            last = data[data.rfind(b"\n") + 1 :] if mid_line else b""
            self._begun = (self._begun + last)[-BEGUN:] if mid_line else b""
        self._pending.clear()
        self.size = 0
        return b"".join(out), mid_line


def _prefixed(data: bytes, head: bytes) -> bytes:
    data = data.replace(b"\r\n", b"\n")
    if data.find(b"\n", 0, -1) < 0:
        return data
    body, end = (data[:-1], b"\n") if data.endswith(b"\n") else (data, b"")
    return body.replace(b"\n", b"\n" + head) + end


def stamp(seconds: float) -> bytes:
    """``0.123``, ``12.34``, ``123.4`` and a space: four digits, as BuildKit prints."""
    precision = 3 if seconds < 10 else 2 if seconds < 100 else 1
    return f"{seconds:.{precision}f} ".encode()
