"""SIGINT, SIGTERM and SIGHUP end a command: what runs is stopped, what lies about is cleaned up, and that within a moment.

The handler sets the token that all of the command's work belongs to, and raises KeyboardInterrupt for the main thread, which may be
anywhere. Should the clean-up take longer than a moment, the process leaves all the same: the store is made for being killed, and
sandboxes die with us.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from types import FrameType

from builder.state.cancel import Token

INTERRUPTED = 128 + signal.SIGINT
_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Whoever ends us often says so twice: a terminal and its shell both hang up, systemd sends SIGHUP after SIGTERM. The clean-up is
# not to be interrupted by that. A second Ctrl-C of somebody who has waited is meant.
_QUIET_SECONDS = 0.5
_PATIENCE_SECONDS = 3.0


class Signals:
    """While it is entered. A signal that the caller has ignored (nohup) or handles himself is left to him."""

    def __init__(self) -> None:
        self.token = Token()
        self._number = 0
        self._first = 0.0
        self._handled: dict[int, object] = {}

    def __enter__(self) -> Signals:
        for number in _OURS:
            try:
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler):
                    signal.signal(number, self._end)
                    self._handled[number] = before
            except ValueError:  # not the main thread: the program around us ends us in its own way
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._handled.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def exit_code(self, code: int) -> int:
        """``code``, or 128 + the number of the signal that ended the command.

        A failure after a signal comes of the signal, whatever it looks like: KeyboardInterrupt is lost where Python runs a
        ``__del__`` or a callback of C code, and the token ends the work some other way then. Work that ended well has 0.
        """
        return 128 + self._number if self._number and code else code

    def _end(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._number:
            if number == signal.SIGINT and now - self._first > _QUIET_SECONDS:
                os._exit(128 + self._number)
            return
        self._number, self._first = number, now
        if number == signal.SIGHUP:
            _leave_dead_terminals()
        watchdog = threading.Timer(_PATIENCE_SECONDS, os._exit, (128 + number,))
        watchdog.daemon = True
        watchdog.start()
        self.token.set()
        raise KeyboardInterrupt


def _leave_dead_terminals() -> None:
    """Writing to a terminal that hung up is an error, which would come in the way of the clean-up."""
    for fd in (1, 2):
        try:
            if stat.S_ISCHR(os.fstat(fd).st_mode) and not os.isatty(fd):
                os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
        except OSError:
            continue
