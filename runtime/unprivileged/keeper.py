"""The supervisor of a step without namespaces: it sees to it that nothing of the step is left, however the builder ends.

    builder --- zygote --- keeper --- the step

There is no pid namespace whose end is the end of all: the keeper adopts what the step leaves (PR_SET_CHILD_SUBREAPER), so that
all of it stays below the keeper, and kills all that is there until nothing is.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.job import GONE, Job, Report, words
from runtime.linux import notify, syscalls
from runtime.linux.overrides import Table
from runtime.native import start as native
from runtime.unprivileged import ids, traps
from runtime.unprivileged.owners import Owners
from runtime.unprivileged.service import Answering, Desk, enter
from runtime.unprivileged.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable


def keep(job: Job, control: socket.socket, stdout: int, stderr: int, zygote: int) -> NoReturn:
    """Carry the job out, tell how it went, and that all is gone. Never returns."""
    report = None
    try:
        # Killed with the zygote we could not do our work; instead we watch it.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 0)
        above = os.pidfd_open(zygote)
        if os.getppid() != zygote:
            os._exit(1)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        os.setsid()
        os.umask(0o022)
        os.chdir("/proc")
        report = _Step(job, control, above, stdout, stderr).run()
    except native.CommandRefusedError as refused:
        report = Report(code=1, refused=str(refused))
    except BaseException as error:
        report = Report(error=words(error))
    finally:
        kill_below(os.getpid())
    os.close(stdout)
    os.close(stderr)
    for message in ([] if report is None else [report.encode()]) + [GONE]:
        try:
            control.send(message)
        except OSError:
            pass  # the builder is gone
    os._exit(0)


class _Step:
    """The step under way, and the answers to its calls. They are given by this process: the kernel's Yama lets only those above a
    process look into its memory."""

    def __init__(self, job: Job, control: socket.socket, above: int, stdout: int, stderr: int) -> None:
        self._job = job
        config = json.loads(job.data(job.container))
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._root = os.open(config["root"]["path"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._names = traps.names_of(os.uname().machine, traps.BELOW_PROOT if job.proot else traps.VIEWS)
        self._answers = _owners(job, config) if job.proot else _open_views(job)
        with theirs:
            self._child, self._failed = native.begin(job, config, stdout, stderr, theirs)
        self._said = b""
        self._desk: Desk | None = None
        self._ended = os.pidfd_open(self._child)
        self._poll = select.poll()
        for fd in (self._channel.fileno(), self._failed, self._ended, above):
            self._poll.register(fd, select.POLLIN)
        self._poll.register(control, select.POLLIN | select.POLLRDHUP)
        self._stops = {control.fileno(), above}
        self._command = -1  # below proot, which waits for everybody: the first of them
        self._over = False

    def run(self) -> Report | None:
        """To the end of the first process; None if it was called off."""
        listener = -1
        while True:
            # What the command left behind may make others still.
            events = dict(self._poll.poll(5 if self._over else None))
            if self._over:
                _kill_all_but(self._child)
            if self._command in events:
                self._poll.unregister(self._command)
                self._command, self._over = -1, True
            if events.keys() & self._stops:
                return None
            if self._channel.fileno() in events:
                self._poll.unregister(self._channel)
                listener = self._take()
            elif listener in events and self._desk is not None:
                if events[listener] & select.POLLIN:
                    self._desk.serve()
                    if self._desk.first:
                        self._watch(self._desk.first)
                else:
                    self._poll.unregister(listener)
            elif self._failed in events:
                self._read()
            elif self._ended in events:
                return self._report()

    def _take(self) -> int:
        """The listener comes; -1 if it can't be had."""
        try:
            _, fds, _, _ = socket.recv_fds(self._channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            fds = []
        if not fds:
            return -1
        listener = notify.Listener(fds[0])
        self._desk = Desk(listener, self._answers(listener), self._names)
        # Not to be traced by the step, which can see us; what we forked before can be looked into by us.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        if self._job.proot:
            self._desk.own = self._child
        else:
            enter(self._root)
        self._poll.register(listener.fd, select.POLLIN)
        self._channel.send(b"g")
        return listener.fd

    def _watch(self, pid: int) -> None:
        assert self._desk is not None
        self._desk.first = 0
        if self._job.proot and self._command < 0 and not self._over:
            try:
                self._command = os.pidfd_open(pid)
            except OSError:
                self._over = True
            else:
                self._poll.register(self._command, select.POLLIN)

    def _read(self) -> None:
        """What the first process says of its start. CommandRefusedError, OSError."""
        part = os.read(self._failed, 1 << 12)
        self._said += part
        if not part:
            self._poll.unregister(self._failed)
            os.close(self._failed)
            self._failed = -2
            native.check(self._child, self._said)

    def _report(self) -> Report:
        _, status, used = os.wait4(self._child, 0)
        code = os.waitstatus_to_exitcode(status)
        return Report(
            code=code if code >= 0 else 128 - code, max_rss=used.ru_maxrss * 1024, cpu_seconds=used.ru_utime + used.ru_stime
        )


def _kill_all_but(spared: int) -> None:
    for pid in _below(os.getpid(), frozenset()):
        if pid != spared:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _owners(job: Job, config: dict[str, Any]) -> Callable[[notify.Listener], Answering]:
    """Names are proot's translations, which mean to us what they mean to the kernel."""
    user = config["process"]["pretended"]
    memory, table = notify.Memory(), Table(job.owners)
    pretended = ids.of_user(user["uid"], user["gid"], tuple(user["groups"]))
    account = os.geteuid(), os.getegid()
    return lambda listener: Owners(
        listener, memory, table, pretended, account=account, absent=traps.UNKNOWN_TO_PROOT
    )


def _open_views(job: Job) -> Callable[[notify.Listener], Answering]:
    """What the step is to see, opened while our root is the container's."""
    flags = os.O_PATH | os.O_CLOEXEC
    files = {os.fsencode(name): os.open(path, flags) for name, path in job.shown}
    sys, dev = os.open("/sys", flags | os.O_DIRECTORY), os.open("/dev", flags | os.O_DIRECTORY)
    devices = frozenset(os.fsencode(name) for name in job.devices)
    memory = notify.Memory()
    return lambda listener: Views(listener, memory, files, sys, dev, devices)


_adopting = False


def adopt() -> None:
    """In the zygote: what a keeper leaves behind that was killed becomes this process' to end."""
    global _adopting
    if not _adopting:
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        _adopting = True


def kill_adopted(keepers: list[int]) -> None:
    """Kill what is below us, but for the living keepers and what is theirs."""
    if _adopting:
        os.chdir("/proc")
        kill_below(os.getpid(), frozenset(keepers))


def kill_below(top: int, spared: frozenset[int] = frozenset()) -> None:
    """Kill every process below ``top``, us, and wait for all. New ones can come while we look: until there are none.

    ``spared``: children that stay, with all below them. The working folder is a /proc. What can't be killed (it hangs in the
    kernel) nobody can help: that ends after ten seconds.
    """
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = _below(top, spared)
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in found:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue  # not ours yet: its parent is to die first
        if not found:
            return
        time.sleep(0.001)


def _below(top: int, spared: frozenset[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("."):
        if name.isdigit():
            try:
                with open(f"{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found = []
    waiting = [top]
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), []) if pid not in spared]
        found += below
        waiting += below
    return found
