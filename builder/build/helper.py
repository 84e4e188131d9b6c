"""The process that builds for a library's caller: it opens the root, and does what it is asked in a thread for each piece of work.

It ends with its caller, who may die in any way: the channel is closed then, and his pid's descriptor is readable.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from builder.build import wire
from builder.errors import PybuildError
from builder.state.cancel import Token, scope

if TYPE_CHECKING:
    from builder.build.engine import LocalEngine


def opened(engine: LocalEngine) -> tuple[str, ...]:
    """What the caller hears of a root that could be opened: its ignored settings."""
    return engine.ignored_settings


def main(channel: int, parent: int) -> NoReturn:
    """Serve until the caller is gone."""
    # Away from the terminal: its Ctrl-C is for the caller, who then calls off what he wants to end.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(channel, False)
    try:
        alive = os.pidfd_open(parent)
        if os.getppid() == parent:
            _serve(socket.socket(fileno=channel), alive)
    finally:
        os._exit(0)


def _serve(channel: socket.socket, alive: int) -> None:
    first = _accept(channel)
    if first is None:
        return
    engine = _open(first)
    if engine is None:
        return
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(alive, select.POLLIN)
    calls: dict[int, _Call] = {}
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if alive in ready:
            break
        for fd in ready & calls.keys():
            calls[fd].call_off()
            poll.unregister(fd)
            del calls[fd]
        if channel.fileno() in ready:
            sock = _accept(channel)
            if sock is None:
                break
            call = _Call(engine, sock)
            # A duplicate: the thread closes its own when it is done, and the number would soon be another call's.
            calls[call.watched] = call
            poll.register(call.watched, select.POLLRDHUP)
            call.start()
    for call in calls.values():
        call.call_off()
    for thread in threading.enumerate():
        if isinstance(thread, _Call):
            thread.join()
    engine.close()


def _accept(channel: socket.socket) -> socket.socket | None:
    _, fds, _, _ = socket.recv_fds(channel, 16, 1, socket.MSG_CMSG_CLOEXEC)
    return socket.socket(fileno=fds[0]) if fds else None


def _open(sock: socket.socket) -> LocalEngine | None:
    """In this thread, the only one so far: it enters namespaces."""
    from builder.build.engine import open_here

    with sock:
        try:
            ask: wire.Ask = wire.receive(sock)
            path, config, runtime, repair, to_prune = ask.args
            engine = open_here(path, config, runtime, repair=repair, to_prune=to_prune)
        except Exception as e:
            wire.send(sock, wire.Ended(error=e))
            return None
        wire.send(sock, wire.Ended(opened(engine)))
        return engine


class _Call(threading.Thread):
    """One piece of work. ``watched``: a descriptor that hangs up when the caller calls it off, or has had his answer."""

    def __init__(self, engine: LocalEngine, sock: socket.socket) -> None:
        super().__init__(name="call", daemon=True)
        self._engine, self._sock = engine, sock
        self._token = Token()
        self._lock = threading.Lock()
        self.watched = os.dup(sock.fileno())

    def call_off(self) -> None:
        """Also of one that is over: then only its descriptor is closed."""
        self._token.set()
        os.close(self.watched)

    def run(self) -> None:
        with self._sock, scope(self._token):
            try:
                ended = self._work(wire.receive(self._sock))
            except wire.LostError:
                return
            except BaseException as e:
                ended = wire.Ended(error=e)
            try:
                self._send(ended)
            except OSError:
                pass  # the caller is gone
            except PybuildError as e:
                self._send(wire.Ended(error=e))

    def _work(self, ask: wire.Ask) -> wire.Ended:
        if ask.kind == "tell":
            return wire.Ended(self._engine.tell(ask.work, self._tell, *ask.args, **ask.kwargs))
        if ask.kind == "hold":
            with self._engine.hold(ask.work, *ask.args, **ask.kwargs) as value:
                self._tell(value)
                self._token.wait()
            return wire.Ended()
        return wire.Ended(self._engine.do(ask.work, *ask.args, **ask.kwargs))

    def _tell(self, value: Any) -> None:
        self._send(wire.Told(value))

    def _send(self, message: wire.Told | wire.Ended) -> None:
        with self._lock:
            wire.send(self._sock, message)
