"""The process that answers a step's calls: one beside each step, until the last process of the step is dead.

Whatever goes wrong in answering one call is that call's error; whatever goes wrong here ends this process, and with it the step
(whoever started it looks after that), for a step whose calls nobody answers would go on with ENOSYS.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol

from runtime.linux import notify, syscalls
from runtime.linux.notify import Call, Listener, Memory
from runtime.linux.pids import in_proc
from runtime.linux.processes import close_all_but
from runtime.unprivileged.making import GIVEN

if TYPE_CHECKING:
    from collections.abc import Callable


class Answering(Protocol):
    """See ``owners.Owners``."""

    def answer(self, name: str, call: Call) -> int | None: ...


def fork(
    make: Callable[[Listener, Memory], Answering], names: dict[int, str], keep: tuple[int, ...] = ()
) -> tuple[int, socket.socket]:
    """Start the process; gives its pid and the socket that the listener is to be sent to, as one descriptor with one byte.

    ``names``: number to name of the calls. ``keep``: descriptors that it needs besides. The sender gets a byte back
    when it may go on. The process enters the mount namespace and the root of the first who asks.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _serve(theirs, parent, make, names, keep)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)
    theirs.close()
    return pid, ours


def submit(channel: socket.socket, program: bytes) -> None:
    """In the step's first process: put it under the filter, and wait until its calls are answered. Closes the socket. OSError."""
    # The message is sent under the filter: what is sent by is not in it.
    listener = notify.install(program)
    socket.send_fds(channel, [b"l"], [listener])
    os.close(listener)
    if channel.recv(1) != b"g":
        raise OSError(errno.ECHILD, "the process that answers system calls died")
    channel.close()


def _serve(
    channel: socket.socket,
    parent: int,
    make: Callable[[Listener, Memory], Answering],
    names: dict[int, str],
    keep: tuple[int, ...],
) -> NoReturn:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # Not to be traced by the step, where it could see us; and to the terminal's signals we don't listen.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0)
    close_all_but(channel.fileno(), *keep)
    os.chdir("/proc")
    numbers = in_proc()
    memory = Memory(numbers)
    _, fds, _, _ = socket.recv_fds(channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
    if not fds:
        os._exit(0)  # the step could not be started
    listener = Listener(fds[0], numbers)
    answering = make(listener, memory)
    channel.send(b"g")
    channel.close()
    desk = Desk(listener, answering, names)
    desk.callers_root = True
    poll = select.poll()
    poll.register(listener.fd, select.POLLIN)
    while poll.poll()[0][1] & select.POLLIN:
        desk.serve()
    os._exit(0)  # nobody is left under the filter


class Desk:
    """Answers one call after the other. ``names``: number to name of the calls."""

    def __init__(self, listener: Listener, answering: Answering, names: dict[int, str]) -> None:
        self._listener = listener
        self._answering = answering
        self._names = names
        self.own = 0  # a process of ours under the filter, for which the kernel answers
        self.first = 0  # the first caller that is none of ours, told once
        self._told = False
        self.callers_root = False  # enter mount namespace and root of the next who asks

    def serve(self) -> None:
        """The next call, which is there. OSError of our own side only."""
        call = self._listener.receive()
        if call is None:
            return
        if call.pid == self.own:
            self._listener.proceed(call)
            return
        if not self._told:
            self.first, self._told = call.pid, True
        if self.callers_root:
            _enter_namespace(call.shown)
            self.callers_root = False
        try:
            value = self._answering.answer(self._names[call.number], call)
        except OSError as error:
            # A caller that died is nobody to tell.
            self._listener.fail(call, error.errno or errno.EIO)
        except OverflowError:
            self._listener.fail(call, errno.EINVAL)
        else:
            if value is None:
                self._listener.proceed(call)
            elif value != GIVEN:
                self._listener.answer(call, value)


def _enter_namespace(pid: int) -> None:
    root = os.open(f"{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = os.open(f"{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    enter(root, namespace)
    os.close(root)
    os.close(namespace)


def enter(root: int, namespace: int | None = None) -> None:
    """Make the open folder our root, and keep our working folder. Nothing is imported from then on: it would be the image's."""
    sys.meta_path.clear()
    sys.path.clear()
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if namespace is not None:
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
    os.fchdir(root)
    os.chroot(".")
    os.fchdir(here)
    os.close(here)
