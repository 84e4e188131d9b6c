"""A build sees every change of its context, also one that leaves names, sizes and times as they were."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Pybuild
from tests.support.oci import read_image

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


@pytest.mark.parametrize("copy", ["COPY d /d", "COPY d/f /d/", "COPY d/* /d/", "COPY --exclude=x d /d", "ADD . /"])
def test_bytes_that_change_with_size_and_mtime_kept(pybuild: Pybuild, context: Context, tmp_path: Path, copy: str) -> None:
    folder = context({"Dockerfile": f"FROM scratch\n{copy}\n", "d/f": "1" * 5000, "d/other": "o"})
    file = Path(folder, "d", "f")
    for byte, new_inode in (("1", False), ("2", False), ("3", True)):
        if new_inode:
            file.unlink()
        with file.open("w" if new_inode else "r+", encoding="ascii") as f:
            f.write(byte * 5000)
        os.utime(file, (1_000_000, 1_000_000))
        os.utime(file.parent, (1_000_000, 1_000_000))
        pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", folder)
        assert read_image(tmp_path / "i.tar").files()["d/f"].text == byte * 5000
