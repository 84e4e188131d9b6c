"""A step of a build that calls home: how a test knows, without sleeping, that a step runs, and that it is gone."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

WAIT = 60.0


class Beacon:
    """A listener on loopback. Steps (host network) run ``call`` or ``hold`` in their shell; every connection counts."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._calls: list[socket.socket] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def call(self) -> str:
        """Shell: connect, and go on once the test hangs up (``hang_up``)."""
        return f"nc 127.0.0.1 {self.port} </dev/null"

    @property
    def hold(self) -> str:
        """Shell: connect, and stay until killed."""
        return f"sleep 1000 | nc 127.0.0.1 {self.port}"

    def wait_for_calls(self, count: int = 1) -> None:
        """Come back when that many connections were made."""
        with self._changed:
            reached = self._changed.wait_for(lambda: len(self._calls) >= count, WAIT)
            assert reached, f"{len(self._calls)} of {count} calls came"

    @property
    def count(self) -> int:
        with self._changed:
            return len(self._calls)

    def hang_up(self) -> None:
        """Let every step that waits in ``call`` go on, also those that come later."""
        with self._changed:
            self._answer = True
            for call in self._calls:
                call.close()

    def wait_until_gone(self) -> None:
        """Come back when the first caller has closed its end: the kernel does that when the last process that held it ends."""
        call = self._calls[0]
        call.settimeout(WAIT)
        try:
            while call.recv(4096):
                pass
        except ConnectionResetError:
            pass

    def __enter__(self) -> Beacon:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # A blocked accept() is woken by shutdown, not by close.
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(WAIT)
        self._server.close()
        for call in self._calls:
            call.close()

    _answer = False

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with self._changed:
                self._calls.append(connection)
                if self._answer:
                    connection.close()
                self._changed.notify_all()
