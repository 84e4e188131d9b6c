"""Steps that do not want to end, or take more than is theirs, under each runtime: the build ends, and nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.integration.test_kill import descendants, nothing_left
from tests.support.beacon import WAIT, Beacon
from tests.support.cli import Pybuild

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
RUNTIMES = ("native", "runc", "crun", "bwrap", *(("unprivileged",) if os.geteuid() == 0 else ()))


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def build(pybuild: Pybuild, context: Context, busybox: str, runtime: str) -> Callable[..., str]:
    """Build with one step; it has to succeed. What it said."""

    def run(step: str, *flags: str) -> str:
        folder = context({"Dockerfile": f"FROM {busybox}\n{step}\n"})
        return pybuild.ok("--runtime", runtime, "--progress=plain", *flags, folder).err

    return run


def test_a_daemon_of_a_step_ends_with_it(pybuild: Pybuild, context: Context, busybox: str, runtime: str) -> None:
    """In a session of its own, with nobody's output, and a parent that is gone."""
    with Beacon() as daemon, Beacon() as step:
        text = f"FROM {busybox}\nRUN setsid sh -c '({daemon.hold}) >/dev/null 2>&1 </dev/null &'; {step.call}\n"
        started = pybuild.start("--runtime", runtime, context({"Dockerfile": text}))
        daemon.wait_for_calls()
        step.hang_up()
        assert started.wait(WAIT) == 0
        daemon.wait_until_gone()


def test_a_daemon_that_keeps_the_output_open_does_not_keep_the_build(build: Callable[..., str]) -> None:
    assert "begun" in build("RUN echo begun; (trap '' HUP TERM; sleep 1000) &")


def test_a_step_that_closes_what_it_was_given_runs_on(build: Callable[..., str]) -> None:
    close = "exec 0<&- 1>&- 2>&-; for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done"
    build(f"RUN {close}; test ! -e /proc/self/fd/1 && echo x > /done")


def test_a_flood_of_output_is_taken_in(build: Callable[..., str]) -> None:
    said = build("RUN yes 0123456789012345678901234567890123456789 | head -c 20000000; echo; echo the-end")
    assert "[output clipped" in said


def test_a_step_that_ignores_signals_ends_with_the_build(
    pybuild: Pybuild, context: Context, busybox: str, runtime: str
) -> None:
    number = signal.SIGTERM  # what each signal does to the builder is another test's
    with Beacon() as beacon:
        step = f"RUN trap '' TERM INT HUP QUIT; {beacon.hold}"
        started = pybuild.start("--runtime", runtime, context({"Dockerfile": f"FROM {busybox}\n{step}\n"}))
        beacon.wait_for_calls()
        pids = descendants(started.pid)
        started.send_signal(number)
        assert started.wait(WAIT) == 128 + number
        beacon.wait_until_gone()
        nothing_left(pybuild.root, pids)


def test_a_step_that_forks_without_end_ends_with_the_build(
    pybuild: Pybuild, context: Context, busybox: str, runtime: str
) -> None:
    """Each of its processes is gone before it could be killed by its number, and has left others. (Some at a time, for the sake of
    this machine.)"""
    with Beacon() as beacon:
        bomb = "b() { trap '' TERM INT; while :; do (:) & (:) & (:) & done; }; for n in 1 2 3 4; do b & done"
        step = f"RUN {bomb}; {beacon.hold}"
        started = pybuild.start("--runtime", runtime, context({"Dockerfile": f"FROM {busybox}\n{step}\n"}))
        beacon.wait_for_calls()
        pids = descendants(started.pid)
        started.send_signal(signal.SIGINT)
        assert started.wait(WAIT) == 130
        beacon.wait_until_gone()
        nothing_left(pybuild.root, pids)


@pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup/pids"), reason="asks the hierarchy of v1 that counts processes")
@pytest.mark.parametrize("name", ["native", "runc", "crun"])
def test_the_processes_of_a_step_have_a_limit(pybuild: Pybuild, context: Context, busybox: str, name: str) -> None:
    with Beacon() as beacon:
        started = pybuild.start("--runtime", name, context({"Dockerfile": f"FROM {busybox}\nRUN {beacon.hold}\n"}))
        beacon.wait_for_calls()
        files = [f"/proc/{pid}/cgroup" for pid in descendants(started.pid)]
        groups = subprocess.run(["cat", *files], capture_output=True, text=True, check=False)
        limits = set()
        for line in groups.stdout.splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers == "pids" and "/pybuild/" in group:
                with open(f"/sys/fs/cgroup/pids{group}/pids.max", encoding="ascii") as file:
                    limits.add(file.read().strip())
        started.kill()
        started.wait()
        beacon.wait_until_gone()
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        assert limits == {str(min(int(file.read()) // 2, 32768))}
