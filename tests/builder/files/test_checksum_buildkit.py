"""Content has BuildKit's digests: the constants were written by buildkitd into its cache manifest, for files such as these."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.files.checksum import checksum, tree_checksum
from builder.files.tree import Tree
from builder.files.types import ChecksumOptions
from builder.oci.digest import Digest
from builder.ops.llb_json import list_digest
from builder.solver.cachekey import CONTENT_OUTPUT, root_key


def record(*digests: Digest) -> str:
    """The first digits of the record's digest."""
    return root_key(list_digest(digests), CONTENT_OUTPUT).removeprefix("sha256:")[:12]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """As of a context: the owner does not count, nor does the root."""
    for name in ("b", "d/sub", "e"):
        (tmp_path / name).mkdir(parents=True)
    for name, text in {"a.txt": "a", "b/inner": "b", "a1.txt": "a", "a2.txt": "b", "d/x": "x", "d/sub/y": "y"}.items():
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "d/l").symlink_to("x")
    for folder, names, files in os.walk(tmp_path):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o755)
        for name in files:
            if name != "l":
                os.chmod(os.path.join(folder, name), 0o640 if name == "x" else 0o644)
    return Tree(str(tmp_path), reset_owner=True, root_time_ns=0)


def test_a_file_and_a_folder(tree: Tree) -> None:
    plain = ChecksumOptions()
    assert record(tree_checksum(tree, "/a.txt", plain)) == "d9bbc07d27ae"
    assert record(tree_checksum(tree, "/b", plain)) == "f7b982ca644c"
    assert record(tree_checksum(tree, "/a.txt", plain), tree_checksum(tree, "/b", plain)) == "0478c3014dbf"
    assert record(tree_checksum(tree, "/d", plain), tree_checksum(tree, "/e", plain)) == "437faef708fc"


def test_what_wildcards_and_patterns_choose(tree: Tree) -> None:
    os.unlink(os.path.join(f"/proc/self/fd/{tree.fd}", "a.txt"))
    assert record(tree_checksum(tree, "/a*", ChecksumOptions(wildcard=True))) == "3657d1dd4a18"
    assert record(tree_checksum(tree, "/", ChecksumOptions(include=("d/sub/*",)))) == "50ca74d20fca"


def test_attributes_are_framed(tmp_path: Path) -> None:
    """BuildKit writes names and values one after another: here these two would share their bytes."""
    digests = set()
    for name, value in (("user.a", b"b"), ("user.ab", b"")):
        file = tmp_path / name
        file.write_bytes(b"same")
        try:
            os.setxattr(file, name, value)
        except OSError:
            pytest.skip("no extended attributes here")
        digests.add(checksum(str(tmp_path), f"/{name}"))
    assert len(digests) == 2


def test_a_link_right_below_the_root_is_no_copy_of_its_target(tmp_path: Path) -> None:
    """BuildKit takes it for one where patterns choose what counts."""
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    (tmp_path / "one/link").symlink_to("file")
    (tmp_path / "two/link").write_text("same")
    for name in ("one", "two"):
        digests.add(checksum(str(tmp_path / name), "/", ChecksumOptions(follow_links=True, exclude=("*.txt",))))
    assert len(digests) == 2
