"""The supervisor of a step without namespaces: it sees to it that nothing of the step is left, however the builder ends.

    builder --- zygote --- keeper --- the step, and the process that answers its calls

There is no pid namespace whose end is the end of all: the keeper adopts what the step leaves (PR_SET_CHILD_SUBREAPER), so that all of it
stays below the keeper, and kills all that is there until nothing is.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from typing import NoReturn

from runtime.job import GONE, Job, Report, words
from runtime.linux import syscalls
from runtime.native import start as native


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
        report = _run(job, control, above, stdout, stderr)
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


def _run(job: Job, control: socket.socket, above: int, stdout: int, stderr: int) -> Report | None:
    """None if it was called off."""
    try:
        child, service = native.start(job, stdout, stderr)
    except native.CommandRefusedError as refused:
        return Report(code=1, refused=str(refused))
    assert service is not None
    watched, beside = os.pidfd_open(child), os.pidfd_open(service)
    poll = select.poll()
    for fd in (watched, beside, above):
        poll.register(fd, select.POLLIN)
    poll.register(control, select.POLLIN | select.POLLRDHUP)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if control.fileno() in ready or above in ready:
            return None
        if watched in ready:
            _, status, used = os.wait4(child, 0)
            code = os.waitstatus_to_exitcode(status)
            return Report(
                code=code if code >= 0 else 128 - code,
                max_rss=used.ru_maxrss * 1024,
                cpu_seconds=used.ru_utime + used.ru_stime,
            )
        if beside in ready:
            raise OSError(errno.ECHILD, "the process that answers the step's system calls died")


def kill_below(top: int) -> None:
    """Kill every process below ``top``, us, and wait for all. New ones can come while we look: until there are none.

    Where a child of ours can't be killed nobody can help; that ends after ten seconds.
    """
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for pid in _below(top):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # orphans become ours: no child means nobody is left
        time.sleep(0.001)


def _below(top: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found = []
    waiting = [top]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found
