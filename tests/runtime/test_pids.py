"""A /proc of another pid namespace: which of its numbers means whom."""

from __future__ import annotations

import errno
import os
import sys
import threading
import traceback
from collections.abc import Callable

import pytest

from runtime.linux import pids, syscalls

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a pid namespace"),
]


def in_namespace(act: Callable[[], None]) -> None:
    """Run as the first process of a pid namespace, which has the /proc of the one around as its working folder."""
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWPID)
            first = os.fork()
            if first:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
            os.chdir("/proc")
            act()
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def refused(pid: int, flags: int = 0) -> int:
    """Before Linux 6.9 for a thread that is not a process' first: it is looked for."""
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def child() -> tuple[int, Callable[[], None]]:
    """Another process of the namespace, and what ends it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)

    def end() -> None:
        os.close(write)
        os.waitpid(pid, 0)

    return pid, end


def name_of(number: int) -> str:
    """Whom /proc means: the numbers that it has in each namespace."""
    with open(f"{number}/status") as file:
        return next(line.split()[-1] for line in file if line.startswith("NSpid:"))


def test_one_s_own_proc_needs_no_translation() -> None:
    before = os.getcwd()
    os.chdir("/proc")
    try:
        assert pids.in_proc() is pids.same
    finally:
        os.chdir(before)


@pytest.mark.parametrize("known", [True, False], ids=["by-pidfd", "by-search"])
def test_a_process_is_found_by_its_other_number(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    def act() -> None:
        find = pids.in_proc()
        assert find is not pids.same
        if not known:
            monkeypatch.setattr(os, "pidfd_open", refused)
        pid, end = child()
        number = find(pid)
        assert number != pid
        assert name_of(number) == str(pid)
        assert find(pid) == number
        end()
        assert find(pid) == -1

    in_namespace(act)


@pytest.mark.parametrize("known", [True, False], ids=["by-pidfd", "by-search"])
def test_a_thread_is_found_too(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    def refused(pid: int, flags: int = 0) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def act() -> None:
        find = pids.in_proc()
        if not known:
            monkeypatch.setattr(os, "pidfd_open", refused)
        ended, begun = threading.Event(), threading.Event()
        tid: list[int] = []

        def body() -> None:
            tid.append(threading.get_native_id())
            begun.set()
            ended.wait()

        read, write = os.pipe()
        back, answer = os.pipe()
        pid = os.fork()
        if pid == 0:
            thread = threading.Thread(target=body)
            thread.start()
            begun.wait()
            os.write(answer, b"%d\n" % tid[0])
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        number = int(os.read(back, 20))
        assert number != pid
        found = find(number)
        assert name_of(found) == str(number)
        with open(f"{found}/status") as file:
            tgid = next(line.split()[1] for line in file if line.startswith("Tgid:"))
        assert name_of(int(tgid)) == str(pid)
        os.close(write)
        os.waitpid(pid, 0)

    in_namespace(act)
