"""Mounts by the new API and by the old one, in a mount namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

PRELUDE = """
import errno, os, sys
from runtime.linux import mounts, namespaces, syscalls
namespaces.enter_private_mount_namespace()
os.chdir(sys.argv[1])
def put(path, text=""):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as file: file.write(text)
def get(path):
    with open(path) as file: return file.read()
def here(*names):
    for name in names: os.makedirs(name, exist_ok=True)
    return [os.path.abspath(name) for name in names]
def without(*names):
    def missing(*args): raise OSError(errno.ENOSYS, "Function not implemented")
    for name in names: setattr(syscalls, name, missing)
"""

OLD = 'without("fsopen", "open_tree")\n'


def run(folder: object, script: str) -> str:
    """Run in a process of its own: the namespace must be entered before there are threads."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, f"{folder}"],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(params=["new", "old"])
def api(request: pytest.FixtureRequest) -> str:
    return OLD if request.param == "old" else ""


def test_the_topmost_layer_is_first_and_the_upperdir_is_the_diff(tmp_path: object, api: str) -> None:
    script = """
put("low/a", "low"); put("low/gone"); put("high/a", "high"); put("high/b,:c", "b")
low, high, upper, work, target = here("low", "high", "upper", "work", "target")
mounts.overlay([high, low], upper, work, target)
os.unlink("target/gone"); put("target/new", "n")
print(get("target/a"), get("target/b,:c"), sorted(os.listdir("upper")), os.lstat("upper/gone").st_rdev)
"""
    assert run(tmp_path, api + script) == "high b ['gone', 'new'] 0"


def test_two_hundred_layers_are_all_there(tmp_path: object, api: str) -> None:
    script = """
layers = here(*[f"a-rather-long-name-for-a-layer/{n}" for n in range(200)])
for n, layer in enumerate(layers): put(f"{layer}/{n}")
(target,) = here("target")
mounts.overlay(layers, None, None, target)
print(len(os.listdir(target)), bool(os.statvfs(target).f_flag & os.ST_RDONLY))
"""
    assert run(tmp_path, api + script) == "200 True"


def test_layers_that_do_not_fit_into_the_old_call_are_an_error_not_lost(tmp_path: object) -> None:
    script = """
layers = here(*[f"{n}" for n in range(300)])
(target,) = here("target")
try: mounts.overlay(layers, None, None, target)
except mounts.MountError as error: print(error)
"""
    assert "300 layers do not fit into the options of mount(2)" in run(tmp_path, OLD + script)


def test_one_layer_is_a_read_only_bind_and_no_layer_a_writable_one(tmp_path: object, api: str) -> None:
    script = """
put("low/a", "x")
low, upper, work, target, other = here("low", "upper", "work", "target", "other")
mounts.overlay([low], None, None, target)
try: put("target/new")
except OSError as error: print(error.errno == errno.EROFS)
mounts.overlay([], upper, work, other)
put("other/new"); print(os.listdir("upper"))
"""
    assert run(tmp_path, api + script).split("\n") == ["True", "['new']"]


def test_a_failure_tells_the_kernels_reason(tmp_path: object) -> None:
    script = """
low, high, target = here("low", "high", "target")
try: mounts.overlay([low, high + "/none"], None, None, target)
except mounts.MountError as error: print(error)
try: mounts.unmount(target)
except mounts.MountError as error: print(error)
"""
    first, second = run(tmp_path, script).split("\n")
    assert "cannot mount overlay on" in first
    assert second.endswith("Invalid argument")


def test_a_bind_by_descriptor_survives_a_swap_of_the_name(tmp_path: object, api: str) -> None:
    script = """
put("real/file", "right"); put("evil/file", "wrong")
(target,) = here("target")
fd = os.open("real", os.O_PATH)
os.rename("real", "moved"); os.symlink("evil", "real")
mounts.bind(fd, target, readonly=True)
print(get("target/file"), bool(os.statvfs(target).f_flag & os.ST_RDONLY))
"""
    assert run(tmp_path, api + script) == "right True"


def test_read_only_reaches_the_mounts_below(tmp_path: object) -> None:
    script = """
inner, target = here("outer/inner", "target")
mounts.tmpfs(inner, size=1 << 20)
mounts.bind(os.path.abspath("outer"), target, readonly=True)
try: put("target/inner/x")
except OSError as error: print(error.errno == errno.EROFS)
"""
    assert run(tmp_path, script) == "True"


def test_a_tmpfs_holds_no_more_than_its_size(tmp_path: object, api: str) -> None:
    script = """
(target,) = here("target")
mounts.tmpfs(target, size=1 << 16, mode=0o700)
try: put("target/x", "x" * (1 << 17))
except OSError as error: print(error.errno == errno.ENOSPC, oct(os.stat(target).st_mode & 0o7777))
mounts.unmount(target)
print(os.listdir(target))
"""
    assert run(tmp_path, api + script).split("\n") == ["True 0o700", "[]"]


def test_unmount_does_not_follow_a_link(tmp_path: object) -> None:
    script = """
(target,) = here("target")
mounts.tmpfs(target); os.symlink(target, "link")
try: mounts.unmount(os.path.abspath("link"))
except mounts.MountError as error: print("refused")
"""
    assert run(tmp_path, script) == "refused"


def test_the_probe_finds_overlay_working_and_leaves_nothing(tmp_path: object) -> None:
    assert run(tmp_path, 'print(mounts.overlay_supported("."), os.listdir("."))') == "None []"
    assert run(tmp_path, 'print(mounts.overlay_supported("none"))') == "none: No such file or directory"


def test_a_namespace_is_refused_once_there_are_threads(tmp_path: object) -> None:
    script = """
import threading
stop = threading.Event()
thread = threading.Thread(target=stop.wait); thread.start()
try: namespaces.enter_private_mount_namespace()
except Exception as error: print(error)
stop.set()
"""
    assert run(tmp_path, script) == "cannot enter a mount namespace: the process has threads already"


def test_a_reflink_shares_or_says_it_can_not(tmp_path: object) -> None:
    script = """
put("a", "x" * 5000); put("b")
with open("a") as a, open("b", "r+") as b:
    try: syscalls.reflink(a.fileno(), b.fileno()); print(get("b") == get("a"))
    except OSError as error: print(error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY))
"""
    assert run(tmp_path, script) == "True"
