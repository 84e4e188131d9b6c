"""Trees of any depth and any permissions go; what they link to stays."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.linux.removal import remove_tree


def test_a_tree_deeper_than_calls_and_paths_goes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for number in range(3000):
        os.mkdir("d", dir_fd=here)
        os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(str(root))
    assert not root.exists()


def test_links_are_removed_and_not_followed_and_closed_folders_are_opened(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    root = tmp_path / "root"
    (root / "closed/deep").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "closed/deep/link").symlink_to("../../../outside")
    (root / "closed").chmod(0)
    remove_tree(str(root))
    assert not root.exists()
    assert (outside / "kept").is_dir()


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(f"{tmp_path}/missing")
