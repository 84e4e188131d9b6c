"""A step of an ordinary user in a container that may do nothing: no capability, no new privileges, no namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from runtime.errors import RuntimeFault
from runtime.linux.overrides import NAME
from runtime.unprivileged import executor
from tests.runtime.conftest import make_rootfs
from tests.runtime.unprivileged.test_bare import step
from tests.support import containers

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or os.uname().machine != "x86_64", reason="needs root, and amd64 for the files' sake"),
    pytest.mark.xdist_group("containers"),
]


@pytest.fixture(scope="module")
def machine() -> Iterator[str]:
    if shutil.which("proot") is None:
        pytest.skip("proot is not installed")
    with tempfile.TemporaryDirectory(prefix="machine-") as work:
        os.chmod(work, 0o755)
        with containers.machine(work) as root:
            yield root


@pytest.fixture
def work() -> Iterator[str]:
    """Where the user can reach it: pytest's own folders are root's only."""
    with tempfile.TemporaryDirectory(prefix="work-") as folder:
        os.mkdir(f"{folder}/snapshot")
        root = make_rootfs(f"{folder}/snapshot/root")
        for name in ("chown", "ln", "mkfifo", "su", "find"):
            if not os.path.lexists(f"{root}/bin/{name}"):
                os.symlink("busybox", f"{root}/bin/{name}")
        subprocess.run(["chown", "-R", "43210:43210", folder], check=True)
        yield folder


def run(machine: str, work: str, script: str) -> subprocess.CompletedProcess[str]:
    """``own(script, ...)`` is ``run`` with a file for owners."""
    prelude = 'def own(script, user="", **options): return run(script, user, owners=work + "/owners", **options)\n'
    return step(machine, work, prelude + script, container=containers.RESTRICTED)


def test_a_step_is_root_and_its_owners_are_kept(machine: str, work: str) -> None:
    script = "id -u; touch /f; chown 5:6 /f; chmod 4711 /f; mknod /c c 1 3; stat -c '%u:%g %a' /f /etc/passwd; stat -c %F /c"
    done = run(machine, work, f'print(own("{script}"))')
    assert done.stdout == "0\n5:6 4711\n0:0 644\ncharacter special file\n0\n", done.stderr
    assert os.getxattr(f"{work}/snapshot/root/f", NAME) == b"5:6:4711"
    assert os.stat(f"{work}/snapshot/root/f").st_uid == 43210


def test_what_root_may_not_do_without_rights_is_done(machine: str, work: str) -> None:
    """The permissions on disk are those that the account needs, the others are told."""
    script = "umask 0777; touch /f; chown 0 /f; chmod 0 /f; echo x >/f; cat /f; mkdir -m 0 /d;"
    script += "chmod 555 /d; touch /d/x; stat -c %a /f /d"
    done = run(machine, work, f'own("{script}")')
    assert done.stdout == "x\n0\n555\n", done.stderr


def test_another_user_s_step_is_his(machine: str, work: str) -> None:
    script = "id -u; id -G; touch /tmp/f; ln -s f /tmp/l; stat -c %u:%g /tmp/f /tmp/l; chown 0 /tmp/f"
    done = run(machine, work, f'own("{script}", "app")')
    assert done.stdout == "1000\n1001 2000\n1000:1001\n1000:1001\n", done.stderr
    assert "Operation not permitted" in done.stderr


def test_mounts_are_there_and_read_only_ones_are_copies(machine: str, work: str) -> None:
    script = """
os.makedirs(work + "/cache"), os.makedirs(work + "/src")
open(work + "/src/file", "w").write("source")
mounts = (BindMount("/cache", work + "/cache"), BindMount("/src", work + "/src", True), TmpfsMount("/t"),
          BindMount("/run/secret", work + "/src/file", True, True))
own("cat /src/file /run/secret; echo changed >/src/file; echo kept >/cache/x; touch /t/x; grep -c localhost /etc/hosts;"
    "echo x >/dev/null; test -e /proc/self/status && echo proc", mounts=mounts, remove_stubs_recursive=True)
print(open(work + "/src/file").read(), open(work + "/cache/x").read(), sorted(os.listdir(work + "/snapshot")),
      sorted(os.listdir(work + "/snapshot/root")))
"""
    done = run(machine, work, script)
    assert done.stdout == (
        "sourcesource2\nproc\nsource kept\n ['root'] ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp']\n"
    ), done.stderr


def test_a_missing_command_is_told_as_by_runc(machine: str, work: str) -> None:
    done = run(machine, work, 'print(own("", args=("nonsense",)))')
    assert (done.stdout, done.stderr) == ("1\n", 'exec: "nonsense": executable file not found in $PATH\n')


def test_a_path_that_is_no_program_is_told_as_by_runc(machine: str, work: str) -> None:
    done = run(machine, work, 'print(own("", args=("/none/such",))); print(own("", args=("/bin",)))')
    assert done.stdout == "1\n1\n"
    missing = 'exec: "/none/such": stat /none/such: no such file or directory'
    assert done.stderr.splitlines() == [missing, 'exec: "/bin": permission denied']


def test_nothing_is_left_running(machine: str, work: str) -> None:
    script = """
own("(sleep 1000 & sleep 1001 &) & exit 0")
names = [open(f"/proc/{pid}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit()]
print(any(name in ("sleep", "busybox", "proot") for name in names))
"""
    assert run(machine, work, script).stdout == "False\n"


def test_without_proot_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "find_program", lambda _: None)
    monkeypatch.setattr(executor.UnprivilegedExecutor, "_chroots", staticmethod(lambda: False))
    with pytest.raises(RuntimeFault, match="needs uid 0 or proot") as caught:
        executor.UnprivilegedExecutor().check()
    assert caught.value.hint.startswith("apt install proot")
