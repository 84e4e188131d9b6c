"""SIGTERM and SIGHUP end a command as Ctrl-C does: what runs is stopped, what lies about is cleaned up."""

from __future__ import annotations

import os
import signal
import stat
import time
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
_OURS = (signal.SIGTERM, signal.SIGHUP)

# Whoever ends us often says so twice: a terminal and its shell both hang up, systemd sends SIGHUP after SIGTERM. The clean-up is
# not to be interrupted by that; but a signal whose exception got lost somewhere must not be the last one that counts.
_QUIET_SECONDS = 5.0


class Signals:
    """While it is entered. A signal that the caller has ignored (nohup) or handles himself is left to him."""

    def __init__(self) -> None:
        self._number = 0
        self._quiet_until = 0.0
        self._handled: list[int] = []

    def __enter__(self) -> Signals:
        for number in _OURS:
            try:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._end)
                    self._handled.append(number)
            except ValueError:  # not the main thread: the program around us ends us in its own way
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._handled:
            signal.signal(number, signal.SIG_DFL)

    def exit_code(self, code: int) -> int:
        """``code``, or 128 + the number of the signal that ended the command in place of Ctrl-C."""
        return 128 + self._number if self._number and code == INTERRUPTED else code

    def _end(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._number, self._quiet_until = number, now + _QUIET_SECONDS
        if number == signal.SIGHUP:
            _leave_dead_terminals()
        raise KeyboardInterrupt


def _leave_dead_terminals() -> None:
    """Writing to a terminal that hung up is an error, which would come in the way of the clean-up."""
    for fd in (1, 2):
        try:
            if stat.S_ISCHR(os.fstat(fd).st_mode) and not os.isatty(fd):
                os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
        except OSError:
            continue
