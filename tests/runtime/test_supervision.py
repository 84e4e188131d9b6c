"""A builder killed by SIGKILL leaves no process, no mount and no cgroup that is not swept; nor does a killed helper."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import cgroups, executor, zygote
from runtime.errors import RuntimeFault
from runtime.job import Report
from tests.runtime.conftest import Runner
from tests.support.deadline import deadline

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

BUILDER = """
import sys, threading
from runtime import executor, zygote
from runtime.linux import namespaces
from runtime.spec import NEVER, Process, Sandbox
name, rootfs, marker, early = sys.argv[1:]
if early == "early":
    namespaces.enter_private_mount_namespace()
    zygote.get()
def show(stream, data):
    sys.stdout.write(data.decode()); sys.stdout.flush()
command = f"trap '' TERM INT HUP; sleep {marker} & echo ready; sleep {marker}"
executor.select(name).run(Sandbox(rootfs), Process(("/bin/sh", "-c", command), ("PATH=/bin",)), show, NEVER)
"""


def processes(marker: str) -> list[str]:
    """Processes with ``marker`` as a word of their command line."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if marker.encode() in words:
            found.append(pid)
    return found


def namespaces_with(text: str) -> list[str]:
    """Processes whose mount table names ``text``: somebody else's namespace would keep a mount alive."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/mountinfo") as file:
                if text in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize("early", ["early", "late"])
def test_nothing_is_left_when_the_builder_is_killed(run: Runner, early: str) -> None:
    """Both with the helper forked at start and with one started as a program from a thread."""
    marker = f"9{os.getpid()}.{len(run.name)}{len(early)}"
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDER, run.name, run.rootfs, marker, early],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "ready\n"
    assert eventually(lambda: len(processes(marker)) >= 2)
    children = [int(pid) for pid in processes(run.rootfs)]
    assert builder.pid in children
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert eventually(lambda: not processes(marker))
    assert eventually(lambda: not processes(run.rootfs))
    assert eventually(lambda: not namespaces_with(run.rootfs))
    # The output pipe was held by nobody else, and what stays of cgroups is empty.
    assert builder.stdout.read() == ""
    builder.stdout.close()
    found = cgroups.probe()

    def swept() -> bool:
        cgroups.sweep("/pybuild", found.folders)
        left = []
        for folder in found.folders:
            if os.path.isdir(f"{folder}/pybuild"):
                left += [name for name in os.listdir(f"{folder}/pybuild") if name.startswith(f"{builder.pid}-")]
        return not left

    assert eventually(swept)


def children(pid: int) -> list[int]:
    """In the order of their birth."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return sorted(map(int, file.read().split()))


@pytest.mark.parametrize(
    ("victim", "said"),
    [
        ("helper", "the sandbox helper process was killed by SIGKILL"),
        ("supervisor", "cannot set up the sandbox: the sandbox's supervisor was killed by SIGKILL"),
        ("first", "cannot set up the sandbox: the sandbox was killed by SIGKILL"),
    ],
)
def test_whoever_is_killed_is_named_and_the_next_run_works(run: Runner, victim: str, said: str) -> None:
    failures: list[RuntimeFault] = []

    def listen(stream: int, data: bytes) -> None:
        chain = [zygote.get().pid]
        while len(chain) < 3:
            chain.append(children(chain[-1])[-1])
        os.kill(chain[("helper", "supervisor", "first").index(victim)], signal.SIGKILL)

    marker = f"8{os.getpid()}.{len(run.name)}{len(victim)}"
    try:
        with deadline(60):
            run.run(("/bin/sh", "-c", f"sleep {marker} & echo ready; sleep {marker}"), listen=listen)
    except RuntimeFault as fault:
        failures.append(fault)
    assert [str(fault) for fault in failures] == [said]
    assert eventually(lambda: not processes(marker))
    assert run("exit 5").code == 5


LEAKING = """
import json, os, sys, threading
for number in range(7, 40):
    if number not in map(int, os.listdir("/proc/self/fd")):
        os.dup2(os.open("/", os.O_RDONLY), number, inheritable=True)
from runtime import executor, launch, zygote
from runtime.errors import RuntimeFault
from runtime.job import Job
from runtime.linux import namespaces
from runtime.spec import NEVER, Process, Sandbox
early, name, rootfs = sys.argv[1:]
if early == "early":
    namespaces.enter_private_mount_namespace()
    zygote.get()
def run(cwd, *command):
    found = bytearray()
    process = Process(command, ("PATH=/bin",), cwd)
    try: executor.select(name).run(Sandbox(rootfs), process, lambda _, data: found.extend(data), NEVER)
    except RuntimeFault: pass
    return found.decode()
def bare(*command):
    found = bytearray()
    launch.start(Job(command, "/mnt"), lambda _, data: found.extend(data), NEVER)
    return found.decode()
"""


@pytest.mark.parametrize("early", ["early", "late"])
def test_no_folder_that_the_builder_has_open_reaches_a_runtime(run: Runner, early: str) -> None:
    """CVE-2024-21626: a descriptor of a folder of the host is a way out, for whom it is left open as for a working folder that
    names it."""
    show = """
print(json.dumps([bare("/bin/ls", "/proc/self/fd"), run("/", "ls", "/proc/self/fd"),
    *(run(f"/proc/self/fd/{number}", "ls", "-d", "host", "home", "usr", "root") for number in (7, 8, 9, 20, 39))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", LEAKING + show, early, run.name, run.rootfs],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    runtimes, steps, *folders = json.loads(done.stdout)
    assert runtimes.split() == ["0", "1", "2", "3"]  # 3 is ls reading the folder
    assert steps.split() == ["0", "1", "2", "3"]
    for found in folders:
        assert not {"usr", "home", "root"} & set(found.split()), found


def test_a_step_has_no_way_to_the_terminal_of_who_builds(run: Runner) -> None:
    """CVE-2017-5226: with TIOCSTI a step could type there. Its session is none that has a terminal."""
    script = """
import fcntl, os, sys, termios, threading
from runtime import executor, zygote
from runtime.spec import NEVER, Process, Sandbox
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
assert os.open("/dev/tty", os.O_RDWR) > 2
zygote.get()
def show(stream, data): os.write(2, data)
command = ("/bin/sh", "-c", "(echo typed >/dev/tty) 2>/dev/null && echo terminal; echo ran")
executor.select(sys.argv[1]).run(Sandbox(sys.argv[2]), Process(command, ("PATH=/bin",)), show, NEVER)
"""
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, run.name, run.rootfs],
            env={**os.environ, "PYTHONPATH": ROOT},
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == "ran\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_helper_that_can_not_fork_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on processes, or no memory: one sandbox fails with the reason, all others of the build go on."""

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = [os.memfd_create("job"), theirs.detach(), *(os.memfd_create("x") for _ in range(3))]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", fork)
        assert zygote._fork(fds, []) is None
    with ours:
        assert Report.decode(ours.recv(1 << 16)).error == "cannot start a process: Resource temporarily unavailable"
        assert ours.recv(1) == b""


def test_without_dev_null_the_reason_is_told(run: Runner) -> None:
    """In a mount namespace of its own, where /dev/null is a file on a file system without devices."""
    script = """
import sys, threading
from runtime import executor
from runtime.errors import RuntimeFault
from runtime.spec import NEVER, Process, Sandbox
try: executor.select(sys.argv[1]).run(Sandbox(sys.argv[2]), Process(("true",), ("PATH=/bin",)), print, NEVER)
except RuntimeFault as fault: print(fault)
"""
    node = f"{run.rootfs}/../node"
    os.mknod(node, 0o20666, os.makedev(1, 3))
    hide = f"mount --bind {node} {node} && mount -o remount,bind,nodev {node} && mount --move {node} /dev/null"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{hide} && exec "$@"', "sh", sys.executable, "-c", script, run.name, run.rootfs],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "cannot set up the sandbox: Permission denied: /dev/null\n", done.stderr


def test_the_process_in_the_sandbox_killed_from_outside_is_an_exit_status(run: Runner) -> None:
    marker = f"7{os.getpid()}.{len(run.name)}"

    def listen(stream: int, data: bytes) -> None:
        assert eventually(lambda: bool(processes(marker)))
        for pid in processes(marker):
            os.kill(int(pid), signal.SIGKILL)

    result = run.run(("/bin/sh", "-c", f"echo ready; exec sleep {marker}"), listen=listen)
    assert (result.code, result.status.signal) == (137, 9)


def test_no_module_of_a_project_is_imported_by_the_helper(run: Runner, tmp_path: Path) -> None:
    """The working folder may be one that was cloned to be built: nothing of it runs but in a sandbox."""
    (tmp_path / "runtime").mkdir()
    for name in ("runtime/__init__", "socket", "select", "threading", "json"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w')")
    script = """
import os, sys, threading
from runtime import executor
from runtime.spec import NEVER, Process, Sandbox
os.chdir(sys.argv[3])
command = Process(("/bin/sh", "-c", "exit 7"), ("PATH=/bin",))
print(executor.select(sys.argv[1]).run(Sandbox(sys.argv[2]), command, print, NEVER).code)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, run.name, run.rootfs, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "7\n", done.stderr
    assert not (tmp_path / "imported").exists()


def test_a_run_sees_mounts_made_after_the_helper_started(tmp_path: object) -> None:
    """The helper is started early; rootfs mounts come later. One namespace, so that it sees them."""
    script = """
import os, sys, threading
from runtime import executor, zygote
from runtime.linux import mounts, namespaces
from runtime.spec import NEVER, Process, Sandbox
namespaces.enter_private_mount_namespace()
zygote.get()
base = sys.argv[1]
for name in ("upper", "work", "merged", "empty"): os.mkdir(f"{base}/{name}")
mounts.overlay([f"{base}/root", f"{base}/empty"], f"{base}/upper", f"{base}/work", f"{base}/merged")
command = Process(("/bin/sh", "-c", "rm /etc/group; echo new >/tmp/file"), ("PATH=/bin",))
print(executor.select(sys.argv[2]).run(Sandbox(f"{base}/merged"), command, print, NEVER).code)
mounts.unmount(f"{base}/merged")
print(sorted(os.listdir(f"{base}/upper")), os.listdir(f"{base}/upper/etc"), os.listdir(f"{base}/upper/tmp"))
"""
    from tests.runtime.conftest import make_rootfs

    for name in executor.NAMES:
        base = f"{tmp_path}/{name}"
        make_rootfs(f"{base}/root")
        done = subprocess.run(
            [sys.executable, "-c", script, base, name],
            env={**os.environ, "PYTHONPATH": ROOT},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.splitlines() == ["0", "['dev', 'etc', 'proc', 'sys', 'tmp'] ['group'] ['file']"], done.stderr


def test_a_sandbox_has_no_way_to_the_builders_files(run: Runner) -> None:
    """/proc/1/root and the like are the sandbox's own."""
    result = run("ls /proc/1/root; echo; ls /proc/1/fd; true")
    assert result.out == "bin\ndev\netc\nproc\nsys\ntmp\n\n0\n1\n2\n"
