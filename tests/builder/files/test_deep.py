"""Folders nested 2000 deep, in a folder with a long name of its own, through each piece that goes through trees; few files open."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from builder.cache.refs import ImmutableRef
from builder.exporters.files import write_local, write_tar
from builder.exporters.types import BuildOutput, SolvedTarget
from builder.files.apply import unpack
from builder.files.checksum import checksum, glob
from builder.files.copy import Rules, copy_tree
from builder.files.copying import copy_tree as copy_whole
from builder.files.differ import write_difference
from builder.files.replay import lay_over
from builder.files.tar.reader import TarReader
from builder.files.tree import Tree
from builder.files.trees import held
from builder.files.types import ChecksumOptions
from builder.oci.image import ImageConfig
from builder.oci.platform import Platform
from builder.ops.file.copy import Copier
from builder.ops.file.dest import Destination
from builder.ops.file.unpack import unpack as add
from builder.sources.local import IgnoreFilter
from runtime import mountpoints
from tests.support.deep import depth_of, make_deep

DEEP = 2000
FILE = "d/" * DEEP + "f"


@pytest.fixture
def deep(deep_path: Path) -> Iterator[str]:
    """A tree that is deep; the length of its name comes on top."""
    folder = deep_path / ("x" * 120)
    folder.mkdir()
    make_deep(str(folder), DEEP)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    yield str(folder)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def empty(deep_path: Path) -> str:
    folder = deep_path / ("y" * 120)
    folder.mkdir()
    return str(folder)


def layer_of(folder: str) -> list[bytes]:
    out: list[bytes] = []
    write_difference(folder, None, out.append)
    return out


def test_checksums_count_the_file_in_the_last_folder(deep: str) -> None:
    options = [ChecksumOptions(), ChecksumOptions(include=("d",), exclude=("nothing",))]
    before = [checksum(deep, "/", each) for each in options]
    with held(deep) as root:
        os.truncate(f"{root}/{FILE}", 0)
    after = [checksum(deep, "/", each) for each in options]
    assert all(x != y for x, y in zip(before, after, strict=True))
    with Tree(deep) as tree:
        assert [path for path, _ in glob(tree, "/d/*", follow_prefix=True)] == ["/d/d"]


def test_a_filter_that_ignores_all_but_a_file_in_the_last_folder(deep: str, empty: str) -> None:
    with Tree(deep, IgnoreFilter(("*", "!**/f"))) as tree:
        assert len(tree.walk(tree.root)) == DEEP + 2
    with Tree(deep, IgnoreFilter(("*", "!**/f"))) as tree:
        assert tree.child(tree.root, "d") is not None
        copy_tree(tree, empty)
    assert depth_of(empty) == (DEEP, b"deep")


PATTERNS = {"all": ((), ()), "include": (("**/f",), ()), "exclude": ((), ("d", "!**/f"))}


@pytest.mark.parametrize(("include", "exclude"), PATTERNS.values(), ids=PATTERNS)
def test_copies_with_and_without_patterns(deep: str, empty: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
    """With patterns no folder is made before the file at the end is reached."""
    with Tree(deep) as tree, Destination(empty) as root:
        copier = Copier(tree, root, Rules(), include=include, exclude=exclude)
        for _ in range(2):  # over what is there, too
            copier.copy("/", "/", contents=True, follow=False)
    assert depth_of(empty) == (DEEP, b"deep")


def test_a_layer_in_both_directions(deep: str, empty: str, deep_path: Path) -> None:
    layer = layer_of(deep)
    unpacked = unpack(layer, empty, bottom=True)
    assert (unpacked.inodes, depth_of(empty)) == (DEEP + 1, (DEEP, b"deep"))
    assert layer_of(empty) == layer
    tree = deep_path / "tree"
    tree.mkdir()
    lay_over(empty, str(tree), unpacked)
    assert depth_of(str(tree)) == (DEEP, b"deep")


def test_a_layer_without_entries_for_its_folders(deep_path: Path, empty: str) -> None:
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(FILE))
    assert unpack([out.getvalue()], empty, bottom=True).inodes == DEEP + 1
    assert depth_of(empty)[0] == DEEP
    (deep_path / "context").mkdir()
    (deep_path / "context/a.tar").write_bytes(out.getvalue())
    (deep_path / "added").mkdir()
    with Tree(str(deep_path / "context")) as tree, Destination(str(deep_path / "added")) as root:
        assert add(tree, "/a.tar", root, "/", None, None)
    assert depth_of(str(deep_path / "added"))[0] == DEEP


def test_a_whole_tree_is_copied(deep: str, empty: str) -> None:
    copy_whole(deep, empty)
    assert depth_of(empty) == (DEEP, b"deep")


def test_files_are_exported(deep: str, empty: str) -> None:
    class Ref:
        @contextmanager
        def mount(self) -> Iterator[str]:
            yield deep

    platform = Platform.parse("linux/amd64")
    target = SolvedTarget(platform, cast("ImmutableRef", Ref()), ImageConfig(platform=platform))
    output = BuildOutput((target,), False, None)
    write_local(output, False, empty)
    assert depth_of(empty) == (DEEP, b"deep")
    out: list[bytes] = []
    write_tar(output, out.append)
    assert [e.name for e in TarReader(out)][-1] == FILE


def test_the_place_of_a_mount_is_made(empty: str) -> None:
    os.close(mountpoints.make(empty, "/" + FILE, is_file=True))
    assert depth_of(empty) == (DEEP, b"")
