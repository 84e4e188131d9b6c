"""Removing and measuring trees: however deep they are, whatever is in them, whoever else is at work there."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.files import trees
from builder.files.trees import Trail, disk_usage, held, remove_tree
from tests.support.deep import depth_of, make_deep

DEEP = 5000
"""Beyond a path's 4095 bytes, Python's recursion, and the usual number of open files."""


@pytest.fixture
def few_files() -> Iterator[None]:
    """At most 100 open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_a_tree_of_any_depth_is_measured_and_removed(deep_path: Path) -> None:
    top = deep_path / "top"
    top.mkdir()
    make_deep(str(top), DEEP)
    size, inodes = disk_usage(str(top))
    assert inodes == DEEP + 2
    assert size >= 4096
    remove_tree(str(top))
    assert os.listdir(deep_path) == []


def test_a_broad_tree_goes_with_all_kinds_of_files_and_nothing_that_links_lead_to(tmp_path: Path) -> None:
    kept, top = tmp_path / "kept", tmp_path / "top"
    (kept / "below").mkdir(parents=True)
    for name in ("a/b/c", "a/d", "e"):
        (top / name).mkdir(parents=True)
        (top / name / "file").write_text(name)
        (top / name / "link").symlink_to(kept)
        os.mkfifo(top / name / "fifo")
    os.link(top / "e/file", top / "e/again")
    remove_tree(f"{top}/")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["below", "kept"]


def test_a_file_a_link_and_nothing_at_all_go_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("/")
    for name in ("file", "link", "nothing", "no/such"):
        remove_tree(str(tmp_path / name))
    assert os.listdir(tmp_path) == []


def test_folders_that_forbid_everything_are_opened_up(tmp_path: Path) -> None:
    """In a child that is nobody: root may do everything anyway."""
    top = os.open(tmp_path, os.O_RDONLY)
    os.fchown(top, 65534 if os.geteuid() == 0 else -1, -1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.fchdir(top)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            for mode in (0o000, 0o500, 0o600, 0o300):
                os.makedirs(f"{mode}/in/er")
                Path(f"{mode}/in/file").touch()
                for name in ("in/er", "in", "."):
                    os.chmod(f"{mode}/{name}", mode)
                remove_tree(str(mode), dir_fd=top)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert (status, os.listdir(top)) == (0, [])
    os.close(top)


def test_what_appears_while_a_tree_is_removed_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "top/below").mkdir(parents=True)
    real, late = os.rmdir, ["late"]

    def rmdir(name: str, *, dir_fd: int) -> None:
        if name == "below" and late:
            os.mkdir(tmp_path / "top/below" / late.pop())
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(trees.os, "rmdir", rmdir)
    remove_tree(str(tmp_path / "top"))
    assert os.listdir(tmp_path) == []


def test_what_can_not_be_removed_is_told_or_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "top/stays").mkdir(parents=True)
    (tmp_path / "top/goes").mkdir()
    real = os.rmdir

    def rmdir(name: str, *, dir_fd: int) -> None:
        if name == "stays":
            raise OSError(16, "Device or resource busy")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(trees.os, "rmdir", rmdir)
    with pytest.raises(OSError, match="busy") as told:
        remove_tree(str(tmp_path / "top"))
    assert told.value.filename == "stays"
    remove_tree(str(tmp_path / "top"), ignore_errors=True)
    assert os.listdir(tmp_path / "top") == ["stays"]


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_mount_is_not_emptied(tmp_path: Path) -> None:
    """A mount point that is still in use when scratch is deleted: what is mounted there is not scratch."""
    precious, top = tmp_path / "precious", tmp_path / "top"
    precious.mkdir()
    (precious / "file").write_text("x")
    (top / "mounted").mkdir(parents=True)
    subprocess.run(["mount", "--bind", precious, top / "mounted"], check=True)
    try:
        with pytest.raises(OSError, match="cross-device"):
            remove_tree(str(top))
        remove_tree(str(top), ignore_errors=True)
    finally:
        subprocess.run(["umount", top / "mounted"], check=True)
    assert (precious / "file").read_text() == "x"


def test_a_walk_does_not_leave_the_tree_through_a_folder_that_was_moved_away(tmp_path: Path) -> None:
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    top.mkdir()
    elsewhere.mkdir()
    make_deep(str(top), 40)
    root = os.open(top, os.O_RDONLY)
    trail = Trail(root)
    for _ in range(40):
        trail.enter("d")
    os.rename(top / "d/d/d", elsewhere / "d")
    with pytest.raises(OSError, match="moved"):
        while trail.depth:
            trail.leave()
    trail.close()
    os.close(root)


def test_paths_below_a_held_folder_may_be_as_long_as_the_kernel_takes(deep_path: Path) -> None:
    below = deep_path / ("x" * 200)
    below.mkdir()
    make_deep(str(below), 2000)
    path = "d/" * 2000 + "f"
    with pytest.raises(OSError, match="too long"):
        os.stat(f"{below}/{path}")
    with held(str(below)) as name:
        assert os.stat(f"{name}/{path}").st_size == 4
    assert depth_of(str(below)) == (2000, b"deep")
