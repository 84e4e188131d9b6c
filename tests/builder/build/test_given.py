"""Files that a build is given: those of a context beneath it, those that the user names wherever they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.build.given import link_out_of, read_beneath
from runtime.errors import UnsafePathError
from runtime.linux.named import descriptor_of, read_named


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_bytes(b"outside")
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "file").write_bytes(b"inside")
    return folder


@pytest.mark.parametrize("target", ["../outside", "/outside", "a/../../outside"])
def test_a_link_in_a_context_ends_inside_of_it(folder: Path, target: str) -> None:
    (folder / "a").mkdir()
    (folder / "link").symlink_to(target)
    with pytest.raises(FileNotFoundError):
        read_beneath(str(folder), "link", 100)
    (folder / "outside").write_bytes(b"its own")
    assert read_beneath(str(folder), "link", 100) == b"its own"


def test_a_link_out_is_told_from_one_that_leads_nowhere(folder: Path) -> None:
    (folder / "out").symlink_to("../outside")
    (folder / "in").symlink_to("file")
    (folder / "dangling").symlink_to("nothing")
    assert [link_out_of(str(folder), n) for n in ("out", "in", "dangling", "file", "none")] == ["../outside", "", "", "", ""]


@pytest.mark.parametrize("read", [read_beneath, lambda folder, name, limit: read_named(os.path.join(folder, name), limit)])
def test_only_regular_files_of_bounded_size_are_read(folder: Path, read: object) -> None:
    assert callable(read)
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("fifo")
    for name in ("fifo", "link", "."):
        with pytest.raises(UnsafePathError, match="is not a regular file"):
            read(str(folder), name, 100)
    assert read(str(folder), "file", 6) == b"inside"
    with pytest.raises(UnsafePathError, match="exceeds 5 bytes"):
        read(str(folder), "file", 5)


def test_a_file_that_the_user_names_may_be_a_link_to_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "link").symlink_to("../outside")
    monkeypatch.chdir(folder)
    assert read_named("link", 100) == b"outside"
    assert read_named("../context/link", 100) == b"outside"
    assert read_named("/dev/null", 100) == b""


def test_an_open_descriptor_is_read_to_its_end(folder: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    assert read_named(f"/dev/fd/{reader}", 100) == b"from a pipe"
    os.close(reader)
    fd = os.open(folder / "file", os.O_RDONLY)
    os.read(fd, 3)
    assert read_named(f"/proc/self/fd/{fd}", 100) == b"inside", "a regular file from its begin, as when it is opened by that name"
    with pytest.raises(UnsafePathError, match="more than 5 bytes"):
        read_named(f"/dev/fd/{fd}", 5)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        read_named(f"/dev/fd/{fd}", 5)
    fd = os.open(folder, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        read_named(f"/dev/fd/{fd}", 5)
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "number"),
    [("/dev/stdin", 0), ("/dev/fd/63", 63), ("/proc/self/fd/5", 5), ("/dev/fd/", None), ("/dev/fd/x", None), ("dev/fd/1", None)],
)
def test_descriptors_have_their_own_names(path: str, number: int | None) -> None:
    assert descriptor_of(path) == number
