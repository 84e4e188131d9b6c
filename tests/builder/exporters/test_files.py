"""type=local and type=tar: where the files of each platform go, and with which times."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from builder.cache.refs import ImmutableRef
from builder.errors import UsageError
from builder.exporters.files import split_by_platform, write_local, write_tar
from builder.exporters.types import BuildOutput, SolvedTarget
from builder.oci.image import ImageConfig
from builder.oci.platform import Platform


class Ref:
    """A result whose files are those of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def mount(self) -> Iterator[str]:
        yield str(self._folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "f").write_bytes(b"text")
    return root


def output(folder: Path, *platforms: str, epoch: int | None = None, multi: bool = True) -> BuildOutput:
    parsed = [Platform.parse(p) for p in platforms]
    targets = tuple(SolvedTarget(p, cast("ImmutableRef", Ref(folder)), ImageConfig(platform=p)) for p in parsed)
    return BuildOutput(targets, multi, epoch)


def names(result: BuildOutput) -> list[str]:
    data = io.BytesIO()
    write_tar(result, data.write)
    data.seek(0)
    with tarfile.open(fileobj=data) as tar:
        return tar.getnames()


def test_each_platform_has_its_folder_where_there_are_several(folder: Path, tmp_path: Path) -> None:
    both = output(folder, "linux/amd64", "linux/arm64")
    assert names(both) == ["linux_amd64", "linux_amd64/f", "linux_arm64", "linux_arm64/f"]
    write_local(both, split_by_platform(both, ""), str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["linux_amd64", "linux_arm64"]


def test_an_archive_of_one_platform_is_never_split(folder: Path) -> None:
    assert names(output(folder, "linux/amd64", multi=False)) == ["f"]


@pytest.mark.parametrize(("epoch", "time"), [(None, 0), (1500000000, 1500000000)])
def test_the_time_of_a_platforms_folder_is_the_epoch(folder: Path, tmp_path: Path, epoch: int | None, time: int) -> None:
    write_local(output(folder, "linux/amd64", epoch=epoch), True, str(tmp_path / "out"))
    assert os.stat(tmp_path / "out/linux_amd64").st_mtime == time


def test_a_platform_that_is_given_twice_needs_a_folder_that_two_can_share(folder: Path, tmp_path: Path) -> None:
    twice = output(folder, "linux/amd64", "linux/amd64")
    with pytest.raises(UsageError, match="duplicate path linux_amd64"):
        names(twice)
    with pytest.raises(UsageError, match="cannot overwrite f from linux/amd64 with linux/amd64"):
        write_local(twice, False, str(tmp_path / "one"))
    write_local(twice, True, str(tmp_path / "split"))
    assert os.listdir(tmp_path / "split/linux_amd64") == ["f"]


def test_files_come_out_where_the_kernel_can_not_copy_between_the_file_systems(folder: Path, tmp_path: Path) -> None:
    """copy_file_range from an overlay to a disk is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "copy_file_range", _refused)
        write_local(output(folder, "linux/amd64", multi=False), False, str(tmp_path / "out"))
    assert (tmp_path / "out/f").read_bytes() == b"text"


def _refused(*_: int) -> int:
    raise OSError(18, "Invalid cross-device link")


def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    """10 GB of nothing is an image of some KiB, and a folder of some KiB."""
    root = tmp_path / "root"
    root.mkdir()
    with open(root / "sparse", "wb") as file:
        file.write(b"start")
        file.seek(10 << 30)
        file.write(b"end")
    write_local(output(root, "linux/amd64", multi=False), False, str(tmp_path / "out"))
    found = os.stat(tmp_path / "out/sparse")
    assert found.st_size == (10 << 30) + 3
    assert found.st_blocks * 512 < 1 << 20
    with open(tmp_path / "out/sparse", "rb") as file:
        assert file.read(5) == b"start"
        file.seek(10 << 30)
        assert file.read() == b"end"
