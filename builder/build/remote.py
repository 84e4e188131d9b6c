"""The caller's end of an engine in a process of its own (``builder.build.helper``): its own process stays as it is.

Each piece of work has a socket pair of its own. The one end goes to the helper as a file descriptor; over the other the work is
told, and its events and result come back. Our end shut down calls the work off.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from builder.build import wire
from builder.errors import PybuildError, UsageError
from builder.state.cancel import current
from runtime.linux.processes import ending

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from builder.config import Config
    from builder.worker import Worker

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Callable[..., object]")


_KILLED = "if the machine ran out of memory, the kernel's log says whom it killed: dmesg | grep -i oom"


class RemoteEngine:
    """See Engine."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self._pid, self._channel = pid, channel
        self._owner = os.getpid()
        self._ignored: tuple[str, ...] = ()

    def begin(self, settings: tuple[Any, ...]) -> None:
        """Have the helper open the root; raises what that raised."""
        from builder.build import helper

        try:
            self._ignored = self._ask("open", helper.opened, _nobody, settings, {})
        except BaseException:
            self.close()
            raise

    @property
    def ignored_settings(self) -> tuple[str, ...]:
        """See Engine."""
        return self._ignored

    def do(self, work: Callable[Concatenate[Worker, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See Engine."""
        return cast("T", self._ask("do", work, _nobody, args, kwargs))

    def tell(
        self,
        work: Callable[Concatenate[Worker, S, P], T],
        sink: S,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See Engine."""
        return cast("T", self._ask("tell", work, sink, args, kwargs))

    @contextmanager
    def hold(
        self, work: Callable[Concatenate[Worker, P], AbstractContextManager[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Iterator[T]:
        """See Engine."""
        with self._call(wire.Ask("hold", work, args, kwargs)) as call:
            first = self._next(call)
            if isinstance(first, wire.Ended):
                _result(first)
                raise AssertionError("a context that was not opened has an error")
            try:
                yield cast("T", first.value)
            finally:
                call.shutdown(socket.SHUT_WR)
                _result(self._next(call))

    def outside(self, path: str) -> str:
        """See Engine. Who started the helper may look through its eyes (proc(5), /proc/PID/root)."""
        return f"/proc/{self._pid}/root{path}"

    def close(self) -> None:
        """See Engine. Comes back when the helper is gone."""
        if self._owner != os.getpid() or not self._pid:
            return
        self._channel.close()
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # somebody waits for all children of this process
        self._pid = 0

    def _ask(self, kind: str, work: Callable[..., object], sink: Callable[[Any], object], args: Any, kwargs: Any) -> Any:
        with self._call(wire.Ask(kind, work, args, kwargs)) as call:
            token = current()
            watched = [call.fileno(), token.fileno()]
            while True:
                poll = select.poll()
                for fd in watched:
                    poll.register(fd, select.POLLIN)
                ready = {fd for fd, _ in poll.poll()}
                if len(watched) > 1 and watched[1] in ready:
                    watched.pop()
                    call.shutdown(socket.SHUT_WR)
                if call.fileno() not in ready:
                    continue
                message = self._next(call)
                if isinstance(message, wire.Ended):
                    return _result(message)
                sink(message.value)

    @contextmanager
    def _call(self, ask: wire.Ask) -> Iterator[socket.socket]:
        """Begun. An error of ours in the block calls the work off and waits for its end: nothing goes on unseen."""
        if self._owner != os.getpid():
            raise UsageError("the state folder was opened by another process: open it in this one too")
        if not self._pid:
            raise UsageError("the state folder is closed")
        ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs:
                    socket.send_fds(self._channel, [b"c"], [theirs.fileno()])
                wire.send(ours, ask)
            except OSError:
                raise self._died() from None
            try:
                yield ours
            except BaseException:
                self._call_off(ours)
                raise

    def _call_off(self, call: socket.socket) -> None:
        try:
            call.shutdown(socket.SHUT_WR)
            while not isinstance(wire.receive(call), wire.Ended):
                pass
        except (OSError, wire.LostError):
            pass  # it is over

    def _next(self, call: socket.socket) -> wire.Told | wire.Ended:
        try:
            return cast("wire.Told | wire.Ended", wire.receive(call))
        except wire.LostError:
            raise self._died() from None

    def _died(self) -> PybuildError:
        """Why the helper is gone, or soon will be."""
        self._channel.close()  # should it live, it ends with that
        status: int | None = None
        try:
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # somebody waits for all children of this process
        self._pid = 0
        return PybuildError(f"the process that builds {ending(status)}", hint=_KILLED)


def open_beside(
    path: str | None, config: Config | str | None, runtime: str | None, *, repair: bool, to_prune: bool
) -> RemoteEngine:
    """See ``Root.open``: in a new process. A program of its own, since a fork of one that has threads may stand still for good."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs:
            theirs.set_inheritable(True)
            code = "import sys; sys.path[:] = sys.argv[3:]; from builder.build.helper import main; main(*map(int, sys.argv[1:3]))"
            words = [sys.executable, "-P", "-c", code, str(theirs.fileno()), str(os.getpid()), *sys.path]
            pid = os.posix_spawn(sys.executable, words, os.environ)
    except OSError as e:
        ours.close()
        raise PybuildError(f"can't start a process: {sys.executable}: {e.strerror}") from e
    engine = RemoteEngine(pid, ours)
    engine.begin((path, config, runtime, repair, to_prune))
    return engine


def _nobody(_: object) -> None:
    """A sink for work that tells nothing."""


def _result(message: wire.Told | wire.Ended) -> Any:
    assert isinstance(message, wire.Ended)
    if message.error is not None:
        raise message.error
    return message.value
