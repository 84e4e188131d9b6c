"""A step in a container that may do nothing: root with docker's capabilities, its seccomp policy, and a masked /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.runtime.conftest import make_rootfs
from tests.support import containers
from tests.support.cli import REPOSITORY

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or os.uname().machine != "x86_64", reason="needs root, and amd64 for the files' sake"),
    pytest.mark.xdist_group("containers"),
]

PRELUDE = """
import os, sys
sys.dont_write_bytecode = True
from runtime import executor, zygote
from runtime.errors import RuntimeFault
from runtime.spec import BindMount, NEVER, Process, Sandbox, TmpfsMount
def show(stream, data): os.write(stream, data)
work = sys.argv[1]
zygote.get()
def run(script, user="", args=(), **options):
    process = Process(args or ("/bin/sh", "-c", script), ("PATH=/bin",), "/", user)
    return executor.select("unprivileged").run(Sandbox(work + "/snapshot/root", **options), process, show, NEVER).code
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="machine-") as work:
        os.chmod(work, 0o755)
        with containers.machine(work) as root:
            yield root


@pytest.fixture
def work(tmp_path) -> str:
    os.mkdir(f"{tmp_path}/snapshot")
    root = make_rootfs(f"{tmp_path}/snapshot/root")
    for name in ("df", "ln", "cut", "sort", "readlink", "chown", "head", "tail", "test", "su", "find"):
        if not os.path.lexists(f"{root}/bin/{name}"):
            os.symlink("busybox", f"{root}/bin/{name}")
    return str(tmp_path)


def step(
    machine: str, work: str, script: str, *, container: containers.Container = containers.DOCKER
) -> subprocess.CompletedProcess[str]:
    """``script`` is python; it calls ``run``."""
    command = [sys.executable, "-B", "-c", PRELUDE + script, work]
    env = {"PYTHONPATH": REPOSITORY, "PATH": os.environ["PATH"]}
    return containers.run(container, machine, command, env=env, binds=[work])


def listing(folder: str) -> list[tuple[object, ...]]:
    found = []
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files, ""):
            one = os.lstat(os.path.join(above, name) if name else above)
            found.append((above, name, one.st_mode, one.st_uid, one.st_gid, one.st_size, one.st_mtime_ns, one.st_ino))
    return sorted(found, key=str)


def test_a_step_is_root_in_its_own_root(machine: str, work: str) -> None:
    done = step(machine, work, 'print(run("id -u; pwd; ls /; touch /made; chown 5:6 /made; chmod 4755 /made; exit 3"))')
    assert done.stdout == "0\n/\nbin\ndev\netc\nproc\nsys\ntmp\n3\n", done.stderr
    status = os.stat(f"{work}/snapshot/root/made")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (5, 6, 0o4755)


def test_owners_are_real_for_other_users_too(machine: str, work: str) -> None:
    done = step(machine, work, 'print(run("id -u; id -g; id -G; touch /tmp/made; cat /etc/hidden", "app"))')
    assert done.stdout.splitlines()[:3] == ["1000", "1001", "1001 2000"], done.stderr
    status = os.stat(f"{work}/snapshot/root/tmp/made")
    assert (status.st_uid, status.st_gid) == (1000, 1001)


def test_proc_is_the_caller_s(machine: str, work: str) -> None:
    script = """
run("read -r a b </proc/self/stat; test $a = $$ && echo same; grep -c ^Name: /proc/self/status; readlink /proc/self/exe;"
    "ls /proc/self/fd/0;"
    "test $(readlink /proc/self) != 1 && echo link; echo told >/dev/stderr; test -e /proc/cpuinfo && echo there;"
    "test -e /proc/nonsense || echo not there; ls /sys | grep -c class; test -e /proc/kcore || echo hidden;"
    "echo x | cat /dev/stdin; echo /proc/self/task/*; readlink /proc/self/cwd; (: >/sys/x) 2>&1")
"""
    done = step(machine, work, script)
    lines = done.stdout.splitlines()
    assert lines[:4] == ["same", "1", "/bin/busybox", "/proc/self/fd/0"], done.stderr
    assert lines[4:10] == ["link", "there", "not there", "1", "hidden", "x"]
    assert lines[10].startswith("/proc/self/task/")
    assert lines[11] == "/"
    assert "Read-only file system" in lines[12]
    assert done.stderr == "told\n"


def test_another_user_has_its_own_proc_and_not_root_s_files(machine: str, work: str) -> None:
    script = """
open(work + "/secret", "w").write("hidden")
os.chmod(work + "/secret", 0o400)
run("grep ^Uid: /proc/self/status; ls /proc/self/fd/1; cat /run/secret; cat /proc/1/environ", "app",
    mounts=(BindMount("/run/secret", work + "/secret", True, True),))
"""
    done = step(machine, work, script)
    assert done.stdout == "Uid:\t1000\t1000\t1000\t1000\n/proc/self/fd/1\n", done.stderr
    assert done.stderr.count("Permission denied") == 2


def test_the_harmless_devices_are_there(machine: str, work: str) -> None:
    script = 'run("echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; ls /dev; touch /dev/shm/x")'
    done = step(machine, work, script)
    wanted = "3 5 fd full null pts random shm stderr stdin stdout tty urandom zero"
    assert " ".join(done.stdout.split()) == wanted, done.stderr


def test_devices_are_the_container_s_where_none_can_be_made(machine: str, work: str) -> None:
    capabilities = tuple(name for name in containers.DOCKER.capabilities if name != "CAP_MKNOD")
    script = 'run("echo x >/dev/null; head -c 3 /dev/zero | wc -c; ls -l /dev/null")'
    done = step(machine, work, script, container=containers.Container(capabilities=capabilities))
    assert done.stdout.startswith("3\ncrw-rw-rw-"), done.stderr
    assert "1,   3" in done.stdout


def test_the_root_is_as_before_when_the_step_is_done(machine: str, work: str) -> None:
    """Its own /dev, /etc/hosts and what lay at the mounts come back as they were; nothing else is there."""
    root = f"{work}/snapshot/root"
    for name in ("dev", "proc", "sys", "a/b/cache", "src", "etc/tmp"):
        os.makedirs(f"{root}/{name}")
    lying = {"dev/console": "image's", "etc/hosts": "image's hosts\n", "a/b/cache/lies": "here", "etc/one": ""}
    lying["etc/resolv.conf"] = ""
    for name, data in lying.items():
        with open(f"{root}/{name}", "w") as file:
            file.write(data)
    for folder in ("full", "src"):
        os.mkdir(f"{work}/{folder}")
        with open(f"{work}/{folder}/file", "w") as file:
            file.write("mounted")
    before = listing(root)
    script = """
mounts = (BindMount("/a/b/cache", work + "/full"), BindMount("/src", work + "/src", True), TmpfsMount("/etc/tmp"),
          BindMount("/etc/one", work + "/src/file", True, True))
print(run("cat /src/file /a/b/cache/file /etc/one; echo new >/a/b/cache/new; echo no >/src/no; echo x >/etc/tmp/x;"
          "rm /a/b/cache/file; echo 1.2.3.4 more >>/etc/hosts; cat /dev/console; grep -c localhost /etc/hosts",
          mounts=mounts, remove_stubs_recursive=True))
"""
    done = step(machine, work, script)
    assert done.stdout == "mountedmountedmounted2\n0\n", done.stderr
    assert listing(root) == before
    assert os.listdir(f"{work}/snapshot") == ["root"]
    assert sorted(os.listdir(f"{work}/full")) == ["new"]
    assert sorted(os.listdir(f"{work}/src")) == ["file"]


def test_mount_points_that_were_not_there_are_not_there_in_the_end(machine: str, work: str) -> None:
    os.mkdir(f"{work}/full")
    script = """
mounts = (BindMount("/a/b/cache", work + "/full"), TmpfsMount("/c/d"), BindMount("/run/one", work + "/file", True, True))
open(work + "/file", "w").close()
print(run("ls /a/b /c /run", mounts=mounts, remove_stubs_recursive=True))
"""
    done = step(machine, work, script)
    assert done.stdout.split() == ["/a/b:", "cache", "/c:", "d", "/run:", "one", "0"], done.stderr
    assert sorted(os.listdir(f"{work}/snapshot/root")) == ["bin", "dev", "etc", "proc", "sys", "tmp"]
    assert sorted(os.listdir(f"{work}/snapshot/root/etc")) == ["group", "passwd"]
    assert os.listdir(f"{work}/snapshot/root/dev") == []


def test_a_secret_is_on_no_disk_while_the_step_runs(machine: str, work: str) -> None:
    with open(f"{work}/secret", "w") as file:
        file.write("the secret")
    script = """
mounts = (BindMount("/run/secrets/one", work + "/secret", True, True),)
run("cat /run/secrets/one; ls -l /run/secrets/one | cut -c1-10; wc -c </run/secrets/one; find /run -type f -size +0", mounts=mounts)
"""
    done = step(machine, work, script)
    assert done.stdout.startswith("the secret-rw-r--r--\n10\n"), done.stderr
    assert not os.path.exists(f"{work}/snapshot/root/run/secrets/one")


def test_what_a_step_leaves_running_is_killed(machine: str, work: str) -> None:
    script = """
run("(sleep 1000 & sleep 1001 &) & exit 0")
names = []
for pid in os.listdir("/proc"):
    if pid.isdigit():
        names.append(open(f"/proc/{pid}/comm").read())
print("sleep\\n" in names, "busybox\\n" in names)
"""
    assert step(machine, work, script).stdout == "False False\n"


@pytest.mark.parametrize("whom", ["zygote", "keeper"])
def test_whoever_is_killed_takes_the_step_along(machine: str, work: str, whom: str) -> None:
    """The keeper is the parent of the step's first process, whose pid that one tells; the zygote is the keeper's."""
    script = """
import signal
def parent(pid): return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
def kill(stream, data):
    if stream == 2: return  # complaints of what is being killed
    first = int(data)
    os.kill(parent(first) if %r == "keeper" else parent(parent(first)), signal.SIGKILL)
process = Process(("/bin/sh", "-c", "(sleep 1000 & sleep 1001) & echo $$; sleep 1002"), ("PATH=/bin",), "/", "")
try: executor.select("unprivileged").run(Sandbox(work + "/snapshot/root"), process, kill, NEVER)
except RuntimeFault as fault: print(fault)
def running(): return any(open(f"/proc/{p}/comm").read() == "sleep\\n" for p in os.listdir("/proc") if p.isdigit() and parent(p))
import time
for _ in range(500):
    try:
        if not running(): break
    except OSError: pass
    time.sleep(0.01)
print("left" if running() else "all gone")
""" % whom  # noqa: UP031
    done = step(machine, work, script)
    assert "was killed by SIGKILL" in done.stdout, done.stderr
    assert done.stdout.endswith("all gone\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('network="none"', "--network=none can't be had without namespaces"),
        ('security="insecure"', "--security=insecure can't be had without namespaces"),
        ("shm_size=5", "--shm-size can't be had without namespaces"),
        ("readonly_root=True", "a read-only root file system can't be had without namespaces"),
        ('mounts=(TmpfsMount("/t", 4096),)', "mount /t: the size of a tmpfs can't be limited without namespaces"),
    ],
)
def test_what_can_t_be_had_is_refused_by_its_name(machine: str, work: str, options: str, said: str) -> None:
    done = step(machine, work, f"try: run('true', {options})\nexcept RuntimeFault as fault: print(fault)")
    assert done.stdout.strip() == said, done.stderr


def test_a_missing_command_is_told_as_by_runc(machine: str, work: str) -> None:
    done = step(machine, work, 'print(run("", args=("nonsense",)))')
    assert (done.stdout, done.stderr) == ("1\n", 'exec: "nonsense": executable file not found in $PATH\n')
