"""Bytes from one open file to another: all of them, and holes stay holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.files import data

MB = 1 << 20
SHAPES: dict[str, tuple[int, list[tuple[int, bytes]]]] = {
    "empty": (0, []),
    "small": (5, [(0, b"bytes")]),
    "full": (MB, [(0, os.urandom(MB))]),
    "hole at the end": (64 * MB, [(0, b"start")]),
    "hole at the start": (64 * MB + 3, [(64 * MB, b"end")]),
    "holes between": (64 * MB, [(0, b"start"), (20 * MB, os.urandom(MB)), (60 * MB, b"more")]),
    "nothing but a hole": (64 * MB, []),
}


def make(path: Path, shape: str) -> Path:
    size, parts = SHAPES[shape]
    with open(path, "wb") as file:
        for at, text in parts:
            file.seek(at)
            file.write(text)
        file.truncate(size)
    return path


def copied(copy: Callable[..., object], source: Path) -> Path:
    target = source.with_name("target")
    with open(source, "rb") as read, open(target, "xb") as write:
        copy(read.fileno(), write.fileno(), os.fstat(read.fileno()))
    return target


def refused(*_: object) -> int:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.mark.parametrize("copy", [data.copy_bytes, data.clone])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("missing", [(), ("copy_file_range",), ("copy_file_range", "sendfile")], ids=["all", "sendfile", "read"])
def test_a_copy_has_the_bytes_and_no_more_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: Callable[..., object], shape: str, missing: tuple[str, ...]
) -> None:
    for call in missing:
        monkeypatch.setattr(os, call, refused)
    source = make(tmp_path / "source", shape)
    target = copied(copy, source)
    assert target.read_bytes() == source.read_bytes()
    assert os.stat(target).st_blocks * 512 <= sum(len(text) for _, text in SHAPES[shape][1]) + MB


def test_a_file_system_that_knows_no_holes_gets_all_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seek = os.lseek

    def no_holes(fd: int, at: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "Invalid argument")
        return seek(fd, at, how)

    monkeypatch.setattr(os, "lseek", no_holes)
    source = make(tmp_path / "source", "holes between")
    assert copied(data.copy_bytes, source).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_is_no_want_of_support_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fails(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    for call in ("copy_file_range", "sendfile"):
        monkeypatch.setattr(os, call, fails)
    if code == errno.EIO:
        monkeypatch.setattr(data, "write_all", fails)
    with pytest.raises(OSError, match=os.strerror(code)):
        copied(data.copy_bytes, make(tmp_path / "source", "full"))
