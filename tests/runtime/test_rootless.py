"""Without root: a user namespace with one id, or with subordinate ids, or a reason why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from runtime import executor
from runtime.linux import idmaps
from tests.runtime.conftest import make_rootfs

pytestmark = pytest.mark.integration

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# The tests' own interpreter may lie where only root can read.
PYTHON = "/usr/bin/python3"
# newuidmap insists on an account with a name.
NOBODY = 65534

PRELUDE = """
import os, sys, threading
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from runtime import executor, zygote
from runtime.errors import RuntimeFault
from runtime.linux import mounts, namespaces
from runtime.spec import NEVER, Process, Sandbox
def show(stream, data): os.write(stream, data)
def run(name, script, user="", **options):
    process = Process(("/bin/sh", "-c", script), ("PATH=/bin",), "/", user)
    return executor.select(name).run(Sandbox(sys.argv[2], **options), process, show, NEVER).code
"""


def as_nobody(script: str, folder: str, *more: str, before: str = "true") -> subprocess.CompletedProcess[str]:
    """Run as an ordinary user; ``before`` runs as root in a mount namespace of its own."""
    command = f'{before} && exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups -- "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", command, "sh", PYTHON, "-c", PRELUDE + script, ROOT, folder, *more],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
    )


@pytest.fixture
def folder() -> Iterator[str]:
    """A rootfs that nobody owns, where nobody can reach it (pytest's own folders are root's only)."""
    if os.geteuid() != 0 or not os.path.exists(PYTHON):
        pytest.skip("needs root to become somebody else, and the system's python")
    base = tempfile.mkdtemp(prefix="rootless-")
    os.chmod(base, 0o755)
    make_rootfs(f"{base}/root")
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", base], check=True)
    probe = as_nobody("namespaces.enter_user_namespace()", f"{base}/root")
    if probe.returncode != 0:
        shutil.rmtree(base)
        pytest.skip(f"{probe.stdout} {probe.stderr}")
    yield f"{base}/root"
    shutil.rmtree(base)


@pytest.mark.parametrize("name", executor.NAMES)
def test_a_step_runs_as_root_of_a_single_id_namespace(folder: str, name: str) -> None:
    script = """
assert namespaces.enter_user_namespace().single
zygote.get()
print(run(sys.argv[3], "id -u; touch /made; exit 3"))
"""
    done = as_nobody(script, folder, name)
    assert done.stdout == "0\n3\n", done.stderr
    assert os.stat(f"{folder}/made").st_uid == NOBODY


@pytest.mark.parametrize("name", executor.NAMES)
def test_another_user_in_a_single_id_namespace_is_a_fault_with_a_hint(folder: str, name: str) -> None:
    script = """
namespaces.enter_user_namespace()
try: run(sys.argv[3], "true", "app")
except RuntimeFault as fault: print(fault, "|", fault.hint)
"""
    done = as_nobody(script, folder, name)
    assert done.stdout.startswith("user 1000:1001 does not exist in this user namespace | give the account a range in /etc/subuid")


@pytest.mark.parametrize("name", executor.NAMES)
def test_with_subordinate_ids_other_users_work(folder: str, name: str) -> None:
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed")
    base = os.path.dirname(folder)
    with open(f"{base}/sub", "w") as file:
        file.write(f"somebody:1:5\n{NOBODY}:200000:65536\n")
    before = f"mount --bind {base}/sub /etc/subuid && mount --bind {base}/sub /etc/subgid"
    script = """
found = namespaces.enter_user_namespace()
print(found.single, len(found.uids))
zygote.get()
print(run(sys.argv[3], "id -u; id -g; id -G; touch /tmp/made; exit 4", "app"))
"""
    done = as_nobody(script, folder, name, before=before)
    assert done.stdout == "False 2\n1000\n1001\n1001 2000\n4\n", done.stderr
    status = os.stat(f"{folder}/tmp/made")
    assert (status.st_uid, status.st_gid) == (200999, 201000)


@pytest.mark.parametrize("name", executor.NAMES)
def test_a_step_without_network_sees_no_interface_of_the_host(folder: str, name: str) -> None:
    """The kernel gives a new sysfs to those alone who own the network namespace."""
    script = """
namespaces.enter_user_namespace()
zygote.get()
print(run(sys.argv[3], "ls /sys/class/net /sys/devices/virtual/net; cat /sys/class/net/lo/flags", network="none"))
"""
    done = as_nobody(script, folder, name)
    assert done.stdout == "/sys/class/net:\nlo\n\n/sys/devices/virtual/net:\nlo\n0x9\n0\n", done.stderr


@pytest.mark.parametrize("name", executor.NAMES)
def test_where_no_new_sysfs_is_allowed_the_interfaces_are_covered(folder: str, name: str) -> None:
    """A container that masks a part of /sys: the kernel would not let a fresh one show it."""
    script = """
namespaces.enter_user_namespace()
zygote.get()
print(run(sys.argv[3], "ls /sys/class/net /sys/devices/virtual/net", network="none"))
"""
    done = as_nobody(script, folder, name, before="mount -t tmpfs none /sys/kernel")
    assert done.stdout == "/sys/class/net:\n\n/sys/devices/virtual/net:\n0\n", done.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("cgroup_parent='x'", {"runc": "--cgroup-parent has no effect here", "bwrap": "bwrap can't honour --cgroup-parent"}),
        (
            "ulimits=(('nofile', 1 << 20, 1 << 20),)",
            {"runc": "ulimit nofile=1048576:1048576: the hard limit of this process is 4096"},
        ),
    ],
)
@pytest.mark.parametrize("name", executor.NAMES)
def test_what_has_no_effect_in_a_user_namespace_is_refused_not_ignored(
    folder: str, name: str, option: str, said: dict[str, str]
) -> None:
    """Every capability is effective in a namespace of one's own; for limits and cgroups only those outside count."""
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
namespaces.enter_user_namespace()
try: executor.select(sys.argv[3]).admit(Sandbox("/none", {option}))
except RuntimeFault as fault: print(fault)
"""
    assert as_nobody(script, folder, name).stdout.startswith(said.get(name, said["runc"]))


def test_a_namespace_with_all_ids_as_outside_is_known_for_one(tmp_path: object) -> None:
    """Root without CAP_SYS_ADMIN makes one: its map looks like that of the first namespace, and no cgroup is to be had in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from runtime import facts
from runtime.linux import namespaces
before = facts.probe().user_namespace
namespaces.enter_user_namespace()
found = facts.probe()
print(before, found.uids == ((0, (1 << 32) - 1),), found.user_namespace)
"""
    done = subprocess.run([PYTHON, "-c", script, ROOT], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False True True\n", done.stderr


def test_an_overlay_of_a_user_namespace_keeps_its_markers_in_user_attributes(folder: str) -> None:
    script = """
namespaces.enter_user_namespace()
print(mounts.overlay_supported(os.path.dirname(sys.argv[2]), userxattr=True))
"""
    done = as_nobody(script, folder)
    assert done.stdout == "None\n", done.stderr


def test_without_privileges_the_checks_tell_what_is_missing(folder: str) -> None:
    script = """
for name in executor.NAMES:
    try: executor.select(name)
    except RuntimeFault as fault: print(fault)
try: namespaces.enter_private_mount_namespace()
except RuntimeFault as fault: print(fault)
"""
    assert as_nobody(script, folder).stdout.splitlines() == [
        "native needs root or a user namespace",
        "runc needs root or a user namespace",
        "crun needs root or a user namespace",
        "bwrap needs root or a user namespace",
        "cannot enter a mount namespace: Operation not permitted",
    ]


def test_a_refused_user_namespace_names_the_setting(folder: str) -> None:
    """The limit is lowered in a namespace around, so that the host's stays."""
    script = """
namespaces.enter_user_namespace()
with open("/proc/sys/user/max_user_namespaces", "w") as file: file.write("0")
try: namespaces.enter_user_namespace()
except RuntimeFault as fault: print(fault, "|", fault.hint)
"""
    said = "cannot make a user namespace: No space left on device | sysctl user.max_user_namespaces=15000, or run as root\n"
    assert as_nobody(script, folder).stdout == said


def test_subid_ranges_are_found_by_name_and_number(tmp_path: object) -> None:
    with open(f"{tmp_path}/subuid", "w") as file:
        file.write("root:100:10\n0:500:20\nother:1:1\n# comment\nroot:x:5\nroot:7:0\n")
    assert idmaps.subid_ranges("subuid", uid=0, folder=f"{tmp_path}") == [(100, 10), (500, 20)]
    assert idmaps.subid_ranges("subgid", uid=0, folder=f"{tmp_path}") == []
