"""What the runtime's processes say of one another, and what they keep open."""

from __future__ import annotations

import os
import signal

_ALL = 1 << 20


def ending(status: int | None) -> str:
    """How a process ended, by its wait status: what is said behind its name. None: somebody else has waited for it."""
    if status is None:
        return "is gone"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was killed by {signal.Signals(number).name if number in signal.valid_signals() else number}"
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"


def close_all_but(*kept: int) -> None:
    """Close every descriptor but 0, 1, 2 and ``kept`` (none of which is one of those)."""
    first = 3
    for number in sorted({*kept}):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, _ALL)


def write(path: str, text: str) -> None:
    """One write, as the kernel's own files want it (a map of ids is taken in a single call only). No file is made: where there is
    none the kernel has no such control. OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
