"""What stands in for a mount where nothing can be mounted is the same tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.linux.overrides import NAME, Override, Table, inode
from runtime.unprivileged.copies import Copying


@pytest.fixture
def tree(tmp_path: Path) -> str:
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "d" / "f").write_text("data")
    os.link(root / "d" / "f", root / "hard")
    os.symlink("f", root / "d" / "link")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "d", NAME, Override(7, 8, 0o2750).encode())
    os.setxattr(root / "hard", "user.mine", b"1")
    os.chmod(root / "d", 0o750)
    os.utime(root / "d", (5, 5))
    return str(root)


def test_links_attributes_modes_and_times_come_over(tree: str, tmp_path: Path) -> None:
    copy = f"{tmp_path}/copy"
    Copying().top(tree, copy)
    assert os.stat(f"{copy}/hard").st_ino == os.stat(f"{copy}/d/f").st_ino != os.stat(f"{tree}/hard").st_ino
    assert (os.getxattr(f"{copy}/d/f", "user.mine"), os.getxattr(f"{copy}/d", NAME)) == (b"1", b"7:8:2750")
    assert (os.stat(f"{copy}/d").st_mode & 0o7777, os.stat(f"{copy}/d").st_mtime) == (0o750, 5)
    assert os.readlink(f"{copy}/d/link") == "f"


def test_owners_of_a_table_come_over(tree: str, tmp_path: Path) -> None:
    table = Table(f"{tmp_path}/owners")
    for name, owner in (("d/link", (3, 4)), ("fifo", (5, 6))):
        table.record(*inode(f"{tree}/{name}", follow=False), *owner)
    Copying(table).top(tree, f"{tmp_path}/copy")
    found = [table.find(*inode(f"{tmp_path}/copy/{name}", follow=False)) for name in ("d/link", "fifo")]
    assert found == [(3, 4), (5, 6)]


@pytest.mark.parametrize("kind", ["folder", "file", "memory"])
def test_an_open_file_is_copied_and_no_link_to_it(tree: str, tmp_path: Path, kind: str) -> None:
    """A part of a mount is named by its descriptor: a link to it would be the very folder of a committed snapshot."""
    if kind == "memory":
        fd = os.memfd_create("secret")
        os.write(fd, b"data")
    else:
        fd = os.open(f"{tree}/d" if kind == "folder" else f"{tree}/d/f", os.O_PATH)
    copy = f"{tmp_path}/copy"
    Copying().top(f"/proc/self/fd/{fd}", copy)
    assert not os.path.islink(copy)
    path = f"{copy}/f" if kind == "folder" else copy
    Path(path).write_text("changed")
    assert Path(f"{tree}/d/f").read_text() == "data"
    os.close(fd)
