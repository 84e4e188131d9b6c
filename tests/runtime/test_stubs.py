"""Mount points made for a run leave no trace, and their removal follows no link (CVE-2024-23652)."""

from __future__ import annotations

import os

import pytest

import runtime.stubs
from runtime.stubs import Stubs


@pytest.fixture
def root(tmp_path: object) -> str:
    os.makedirs(f"{tmp_path}/root/etc")
    os.makedirs(f"{tmp_path}/outside/empty")
    return f"{tmp_path}/root"


def touch(path: str, text: str = "") -> None:
    with open(path, "w") as file:
        file.write(text)


def test_what_was_made_and_is_still_empty_goes_and_the_rest_stays(root: str) -> None:
    touch(f"{root}/etc/hosts")
    stubs = Stubs(root, ["/secret", "/cache", "/full", "/filled"])
    for name in ("cache", "full"):
        os.mkdir(f"{root}/{name}")
    touch(f"{root}/etc/resolv.conf")
    touch(f"{root}/secret")
    touch(f"{root}/filled", "x")
    touch(f"{root}/full/file")
    stubs.clean()
    assert sorted(os.listdir(root)) == ["etc", "filled", "full"]
    assert os.listdir(f"{root}/etc") == ["hosts"]


def test_parent_folders_go_only_when_asked(root: str) -> None:
    for recursive, left in ((False, ["a", "etc"]), (True, ["etc"])):
        stubs = Stubs(root, ["/a/b/c"], recursive=recursive)
        os.makedirs(f"{root}/a/b/c", exist_ok=True)
        stubs.clean()
        assert sorted(os.listdir(root)) == left
        if not recursive:
            os.removedirs(f"{root}/a/b")


def test_the_times_of_the_parent_folder_stay(root: str) -> None:
    stubs = Stubs(root, [])
    touch(f"{root}/etc/resolv.conf")
    os.utime(f"{root}/etc", ns=(5, 7))
    stubs.clean()
    status = os.stat(f"{root}/etc")
    assert (status.st_mtime_ns, os.listdir(f"{root}/etc")) == (7, [])


def test_a_mount_point_behind_a_link_is_found_inside(root: str) -> None:
    os.symlink("/etc", f"{root}/config")
    stubs = Stubs(root, ["/config/sub"])
    os.mkdir(f"{root}/etc/sub")
    stubs.clean()
    assert os.listdir(f"{root}/etc") == []


def test_a_parent_swapped_for_a_link_is_not_followed(root: str) -> None:
    os.mkdir(f"{root}/dir")
    stubs = Stubs(root, ["/dir/empty"])
    os.rmdir(f"{root}/dir")
    os.symlink("../outside", f"{root}/dir")
    stubs.clean()
    assert os.listdir(f"{root}/../outside") == ["empty"]


def test_a_parent_swapped_for_a_link_to_another_folder_of_the_root_is_not_followed(root: str) -> None:
    """What lies empty there was no mount point, and belongs to the layer."""
    os.makedirs(f"{root}/dir")
    os.makedirs(f"{root}/other/empty")
    stubs = Stubs(root, ["/dir/empty"])
    os.rmdir(f"{root}/dir")
    os.symlink("other", f"{root}/dir")
    stubs.clean()
    assert os.listdir(f"{root}/other") == ["empty"]


def test_a_parent_swapped_after_the_look_at_it_is_not_followed_out(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may still write to the tree: another step that has the same cache folder mounted."""
    os.mkdir(f"{root}/dir")
    stubs = Stubs(root, ["/dir/empty"])
    real = runtime.stubs.resolve_in_root

    def look(root: str, path: str) -> str:
        found = real(root, path)
        if path == "dir":
            os.rmdir(f"{root}/dir")
            os.symlink("../outside", f"{root}/dir")
        return found

    monkeypatch.setattr(runtime.stubs, "resolve_in_root", look)
    stubs.clean()
    assert os.path.islink(f"{root}/dir")
    assert os.listdir(f"{root}/../outside") == ["empty"]


@pytest.mark.parametrize("target", ["folder", "file"])
def test_a_stub_swapped_for_a_link_stays(root: str, target: str) -> None:
    os.mkdir(f"{root}/folder")
    touch(f"{root}/file")
    stubs = Stubs(root, ["/stub"])
    os.symlink(target, f"{root}/stub")
    stubs.clean()
    assert sorted(os.listdir(root)) == ["etc", "file", "folder", "stub"]
