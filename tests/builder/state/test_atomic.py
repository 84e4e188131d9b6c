"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.state.atomic import replacing


def test_a_file_is_replaced_when_all_of_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    with replacing(str(file)) as write:
        write(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_after_an_error_the_old_file_stands_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(str(file)) as write:
        write(b"half")
        raise RuntimeError
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 255)
    with replacing(str(file)) as write:
        write(b"x")
    assert file.read_bytes() == b"x"


@pytest.mark.parametrize("end", [b"", b"end"])
def test_zeros_take_no_room_on_the_disk(tmp_path: Path, end: bytes) -> None:
    file = tmp_path / "f"
    zeros = bytes(1 << 20)
    with replacing(str(file)) as write:
        write(b"start")
        for _ in range(64):
            write(zeros)
        write(end)
    assert file.read_bytes() == b"start" + bytes(64 << 20) + end
    assert os.stat(file).st_blocks * 512 < 8 << 20


def test_a_link_that_is_ours_to_replace_is_replaced(tmp_path: Path) -> None:
    """In a folder of our own format a link is not followed: nobody's file outside is written."""
    (tmp_path / "outside").write_bytes(b"kept")
    (tmp_path / "f").symlink_to("outside")
    with replacing(str(tmp_path / "f")) as write:
        write(b"new")
    assert (tmp_path / "outside").read_bytes() == b"kept"
    assert (tmp_path / "f").read_bytes() == b"new"
