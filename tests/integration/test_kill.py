"""Whatever ends pybuild: no process, mount or cgroup of it is left, the store is valid, and the next build goes on."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import subprocess
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.beacon import WAIT, Beacon
from tests.support.cli import Pybuild
from tests.support.oci import read_image
from tests.support.processes import eventually

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


def processes_with(text: str) -> list[int]:
    """Pids of processes whose command line or environment names ``text`` (a folder of this test)."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as f:
                    if text.encode() in f.read():
                        found.append(int(pid))
                        break
            except OSError:
                break
    return found


def descendants(pid: int) -> set[int]:
    """Every process below ``pid``, whatever session it is in."""
    out: set[int] = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
            for child in map(int, f.read().split()):
                try:
                    out |= {child} | descendants(child)
                except FileNotFoundError:
                    out.add(child)
    return out


def mounts_below(folder: str) -> list[str]:
    """Mount points under ``folder`` in any mount namespace of the machine that can be seen."""
    found = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as f:
                found |= {line.split()[4] for line in f if folder in line}
        except OSError:
            continue
    return sorted(found)


def cgroups_with_processes(pids: set[int]) -> list[str]:
    """Folders of pybuild's cgroups that still hold one of ``pids``, or any process at all under a builder that is dead."""
    busy = []
    for folder, _, files in os.walk("/sys/fs/cgroup"):
        if "/pybuild/" in folder + "/" and "cgroup.procs" in files:
            try:
                with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as f:
                    if pids & set(map(int, f.read().split())):
                        busy.append(folder)
            except OSError:
                continue
    return busy


def cgroups_of(pid: int) -> list[str]:
    """pybuild names a step's group after its own pid."""
    return [d for d, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(d).startswith(f"{pid}-")]


def nothing_left(root: str, pids: set[int]) -> None:
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the processes of the build are gone")
    eventually(lambda: not processes_with(root), "no process names the root")
    eventually(lambda: not mounts_below(root), "no mount under the root")
    assert cgroups_with_processes(pids) == []


def test_sigkill_in_a_run_leaves_nothing(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    with Beacon() as beacon:
        folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo kept > /kept\nRUN echo half > /half ; {beacon.hold}\n"})
        build = pybuild.start(folder)
        beacon.wait_for_calls()
        pids = descendants(build.pid)
        assert len(pids) >= 3, "the sandbox's processes are below the builder"
        assert mounts_below(pybuild.root)
        build.kill()
        build.wait(WAIT)
        beacon.wait_until_gone()
        nothing_left(pybuild.root, pids)
    pybuild.fsck()

    Path(folder, "Dockerfile").write_text(f"FROM {busybox}\nRUN echo kept > /kept\nRUN test ! -e /half && echo whole > /half\n")
    done = pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", folder)
    assert done.ending("RUN echo kept") == "CACHED"
    assert read_image(tmp_path / "i.tar").files()["half"].text == "whole\n"
    assert cgroups_of(build.pid) == [], "the next build swept the dead one's empty groups"
    pybuild.fsck()


@pytest.mark.parametrize("runtime", ["crun", "bwrap"])
def test_sigkill_leaves_nothing_with_any_runtime(pybuild: Pybuild, context: Context, busybox: str, runtime: str) -> None:
    with Beacon() as beacon:
        build = pybuild.start("--runtime", runtime, context({"Dockerfile": f"FROM {busybox}\nRUN {beacon.hold}\n"}))
        beacon.wait_for_calls()
        pids = descendants(build.pid)
        build.kill()
        build.wait(WAIT)
        beacon.wait_until_gone()
        nothing_left(pybuild.root, pids)
    pybuild.fsck()


@pytest.fixture
def interruptible(context: Context, busybox: str) -> Callable[[Beacon], str]:
    """A context whose build runs two steps that never end, after one that does."""

    def make(beacon: Beacon) -> str:
        one = f"FROM {busybox} AS one\nRUN echo first > /first\nRUN {beacon.hold}\n"
        two = f"FROM {busybox}\nRUN {beacon.hold} ; echo second\nCOPY --from=one /first /\n"
        return context({"Dockerfile": one + two})

    return make


def interrupt(
    pybuild: Pybuild, folder: str, beacon: Beacon, number: signal.Signals, *args: str, again: signal.Signals | None = None
) -> tuple[int, str, int]:
    """(exit code, standard error, pid) of a build that got a signal (or two) while both steps ran; nothing of it may be left."""
    build = pybuild.start(*args, folder, stderr=subprocess.PIPE)
    beacon.wait_for_calls(2)
    pids = descendants(build.pid)
    build.send_signal(number)
    if again is not None:
        build.send_signal(again)
    _, err = build.communicate(timeout=WAIT)
    nothing_left(pybuild.root, pids)
    pybuild.fsck()
    return build.returncode, err.decode(), build.pid


def test_ctrl_c_stops_running_steps_and_keeps_the_finished(
    pybuild: Pybuild, interruptible: Callable[[Beacon], str], busybox: str
) -> None:
    with Beacon() as beacon:
        folder = interruptible(beacon)
        code, err, pid = interrupt(pybuild, folder, beacon, signal.SIGINT)
    assert code == 130, err
    assert "Traceback" not in err
    assert "CANCELED" in err
    assert re.search(r"^ERROR: .*cancell?ed", err, re.MULTILINE)
    assert cgroups_of(pid) == []
    Path(folder, "Dockerfile").write_text(f"FROM {busybox} AS one\nRUN echo first > /first\n")
    assert pybuild.ok(folder).ending("RUN echo first") == "CACHED"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("runtime", ["runc", "crun", "bwrap"])
def test_sigterm_and_hang_up_end_as_ctrl_c_does(
    pybuild: Pybuild, interruptible: Callable[[Beacon], str], number: signal.Signals, runtime: str
) -> None:
    """Not only processes and mounts are gone, which the kernel sees to: also scratch folders, and the groups of steps."""
    with Beacon() as beacon:
        code, err, pid = interrupt(pybuild, interruptible(beacon), beacon, number, "--runtime", runtime)
    assert code == 128 + number, err
    assert "Traceback" not in err
    assert "CANCELED" in err
    assert re.search(r"^ERROR: .*cancell?ed", err, re.MULTILINE)
    assert cgroups_of(pid) == []
    assert os.listdir(f"{pybuild.root}/tmp") == []


def test_the_signal_may_come_twice(pybuild: Pybuild, interruptible: Callable[[Beacon], str]) -> None:
    """A shell that hangs up tells its jobs once more; systemd sends SIGHUP after SIGTERM."""
    with Beacon() as beacon:
        code, err, pid = interrupt(pybuild, interruptible(beacon), beacon, signal.SIGTERM, again=signal.SIGHUP)
    assert code in (128 + signal.SIGTERM, 128 + signal.SIGHUP), err  # they may be pending both, and then the lower one is first
    assert "Traceback" not in err
    assert cgroups_of(pid) == []
    assert os.listdir(f"{pybuild.root}/tmp") == []


def test_a_signal_that_the_caller_ignores_does_not_end_the_build(pybuild: Pybuild, context: Context, busybox: str) -> None:
    """nohup. The step's own processes have the signal as ever."""
    with Beacon() as beacon:
        folder = context({"Dockerfile": f"FROM {busybox}\nRUN {beacon.call} ; sh -c 'kill -HUP $$' ; test $? = 129\n"})
        build = pybuild.start(folder, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        beacon.wait_for_calls()
        build.send_signal(signal.SIGHUP)
        beacon.hang_up()
        assert build.wait(WAIT) == 0


def test_a_terminal_that_is_gone_is_no_obstacle(pybuild: Pybuild, interruptible: Callable[[Beacon], str]) -> None:
    """The kernel hangs the session up when nobody holds the terminal's other end any more; what is written then is an error."""
    ours, theirs = os.openpty()
    seen = threading.Event()

    def read() -> None:
        while not seen.is_set():
            if select.select([ours], [], [], 0.05)[0]:
                os.read(ours, 1 << 16)

    reader = threading.Thread(target=read)
    with Beacon() as beacon:
        folder = interruptible(beacon)
        build = pybuild.start("--progress", "tty", folder, stderr=theirs, before=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0))
        os.close(theirs)
        reader.start()
        beacon.wait_for_calls(2)
        pids = descendants(build.pid)
        seen.set()
        reader.join(WAIT)
        os.close(ours)
        assert build.wait(WAIT) == 128 + signal.SIGHUP
        nothing_left(pybuild.root, pids)
    assert cgroups_of(build.pid) == []
    assert os.listdir(f"{pybuild.root}/tmp") == []


def test_a_failing_step_stops_its_siblings(pybuild: Pybuild, context: Context, busybox: str) -> None:
    with Beacon() as beacon:
        dockerfile = (
            f"FROM {busybox} AS long\nRUN {beacon.hold}\n"
            f"FROM {busybox} AS short\nRUN {beacon.call} ; exit 3\n"
            "FROM scratch\nCOPY --from=long / /\nCOPY --from=short / /\n"
        )
        build = pybuild.start(context({"Dockerfile": dockerfile}), stderr=subprocess.PIPE)
        beacon.wait_for_calls(2)
        pids = descendants(build.pid)
        beacon.hang_up()
        _, err = build.communicate(timeout=WAIT)
        nothing_left(pybuild.root, pids)
    assert build.returncode == 1
    assert "exit code: 3" in err.decode()
    assert "CANCELED" in err.decode()
    pybuild.fsck()


def test_sigkill_during_a_pull_leaves_a_valid_store(
    pybuild: Pybuild, context: Context, tmp_path: Path, busybox_layout: str
) -> None:
    from tests.support.registries import StallingRegistry

    with StallingRegistry(busybox_layout) as server:
        folder = context({"Dockerfile": f"FROM {server.host}/base:1\nRUN cat /etc/motd > /copy\n"})
        build = pybuild.start(folder)
        server.wait_until_stalled()
        build.kill()
        build.wait(WAIT)
        pybuild.fsck()
        server.go_on()
        pybuild.ok(folder)
    pybuild.fsck()
