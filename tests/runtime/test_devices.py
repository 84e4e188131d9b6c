"""With CAP_MKNOD a step can make a node of any device. It must not be able to open one of the host's, whatever the cgroups are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runtime import cgroups, devices, executor
from tests.runtime.conftest import make_rootfs

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# What the cgroup tree looks like to pybuild; each in a mount namespace of the test's own.
TREES = {
    "usual": "true",
    "none": "mount -t tmpfs -o ro none /sys/fs/cgroup",
    "read-only": "for tree in $(findmnt -rno TARGET | grep ^/sys/fs/cgroup); do mount -o remount,bind,ro $tree || exit 9; done",
    "v1 without devices": "umount /sys/fs/cgroup/devices",
    "v2 alone": "mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup",
}

# As builds mount a step's root: an overlay without devices. Prints the fault, or what the script printed on both streams.
SCRIPT = """
import os, sys, threading
from runtime import executor, zygote
from runtime.errors import RuntimeFault
from runtime.linux import mounts, namespaces
from runtime.spec import NEVER, BindMount, Process, Sandbox, TmpfsMount
name, base, script = sys.argv[1:]
namespaces.enter_private_mount_namespace()
zygote.get()
for folder in ("upper", "work", "merged", "other", "bind", "empty"):
    os.makedirs(f"{base}/{folder}")
mounts.overlay([f"{base}/root", f"{base}/empty"], f"{base}/upper", f"{base}/work", f"{base}/merged")
mounts.overlay([], f"{base}/other", None, f"{base}/bind")
def show(stream, data):
    sys.stdout.write(data.decode()); sys.stdout.flush()
sandbox = Sandbox(f"{base}/merged", mounts=(BindMount("/bind", f"{base}/bind"), TmpfsMount("/tmpfs")), shm_size=1 << 20)
try:
    executor.select(name or None).run(sandbox, Process(("/bin/sh", "-c", script), ("PATH=/bin",)), show, NEVER)
except RuntimeFault as fault:
    print("refused:", fault, "|", fault.hint)
"""

FOLDERS = ("/", "/tmp/", "/dev/", "/dev/shm/", "/bind/", "/tmpfs/")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The number of a block device of the host that anybody who may open it can read: a loop device of a small file."""
    image = tmp_path_factory.mktemp("disk") / "image"
    image.write_bytes(b"HOSTDISK" * 1024)
    done = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no loop device: {done.stderr}")
    name = done.stdout.strip()
    number = os.stat(name).st_rdev
    yield os.major(number), os.minor(number)
    subprocess.run(["losetup", "--detach", name], check=True)


def run(tmp_path: object, tree: str, name: str, script: str) -> str:
    make_rootfs(f"{tmp_path}/root")
    alone = ["unshare", "-m", "sh", "-c", f'{TREES[tree]} && exec "$@"', "sh"]
    done = subprocess.run(
        [*alone, sys.executable, "-c", SCRIPT, name, f"{tmp_path}", script],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "mount:" in done.stderr:
        pytest.skip(f"this host has no such tree to take away: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("name", executor.NAMES)
def test_a_disk_of_the_host_can_not_be_read(tmp_path: object, disk: tuple[int, int], name: str, tree: str) -> None:
    major, minor = disk
    script = "".join(f"mknod {folder}disk b {major} {minor}; head -c 8 {folder}disk; " for folder in FOLDERS)
    out = run(tmp_path, tree, name, f"exec 2>&1; {script} echo end")
    assert "HOSTDISK" not in out
    assert out.startswith("refused: ") or out.endswith("end\n")


def test_the_disk_of_the_test_can_be_read_where_nothing_forbids_it(tmp_path: object, disk: tuple[int, int]) -> None:
    """Otherwise the test above would show nothing."""
    os.mknod(f"{tmp_path}/disk", 0o60600, os.makedev(*disk))
    with open(f"{tmp_path}/disk", "rb") as file:
        assert file.read(8) == b"HOSTDISK"


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_with_a_devices_cgroup_nodes_of_harmless_devices_work_anywhere_as_in_buildkit(tmp_path: object, name: str) -> None:
    if devices.refusal(cgroups.probe()):
        pytest.skip("no devices cgroup here")
    folders = ("/", "/tmp/", "/dev/", "/bind/", "/tmpfs/")
    script = "".join(f"mknod {folder}node c 1 3 && echo x >{folder}node && echo good; " for folder in folders)
    assert run(tmp_path, "usual", name, script) == "good\n" * len(folders)


@pytest.mark.parametrize("tree", ["none", "read-only", "v1 without devices"])
def test_crun_is_refused_by_name_without_a_devices_cgroup(tmp_path: object, tree: str) -> None:
    """crun 1.8.1 takes "nodev" from the root file system (and has no way to keep it)."""
    out = run(tmp_path, tree, "crun", "echo ran")
    assert out.startswith("refused: crun needs a devices cgroup here"), out
    assert "--runtime" in out


@pytest.mark.parametrize("tree", TREES)
def test_without_a_name_one_that_works_is_found(tmp_path: object, tree: str) -> None:
    assert run(tmp_path, tree, "", "echo ran") == "ran\n"


def test_the_probe_of_a_devices_cgroup_leaves_no_group() -> None:
    found = cgroups.probe()
    devices.refusal.cache_clear()
    devices.refusal(found)
    for folder in found.folders:
        assert not os.path.exists(f"{folder}/pybuild/{os.getpid()}-devices")


def test_a_tree_without_a_devices_hierarchy_is_named(tmp_path: object) -> None:
    assert devices.refusal(cgroups.Cgroups("v1", (f"{tmp_path}/memory",))) == "no devices cgroup is mounted"
    assert devices.refusal(cgroups.Cgroups("none")) == "no cgroup can be made"


def test_a_folder_that_only_looks_like_a_devices_hierarchy_is_not_taken_for_one(tmp_path: object) -> None:
    os.makedirs(f"{tmp_path}/devices")
    assert devices.refusal(cgroups.Cgroups("v1", (f"{tmp_path}/devices",))) != ""
    assert devices.refusal(cgroups.Cgroups("v2", (f"{tmp_path}",))) != ""
