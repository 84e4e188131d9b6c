"""A writable folder comes back as the step left it, also where its entries could not be moved."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.unprivileged.placing import Places


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): "folder" if p.is_dir() else p.read_text() for p in sorted(folder.rglob("*"))}


@pytest.fixture(params=["moved", "copied"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """``copied``: between the folder and the step's files rename(2) answers as between two file systems."""
    if request.param == "copied":
        rename = os.rename

        def apart(source: str, dest: str, **options: int) -> None:
            if not options and ("cache" in source.split("/")) != ("cache" in dest.split("/")):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            rename(source, dest, **options)

        monkeypatch.setattr(os, "rename", apart)
    return str(request.param)


def test_what_a_step_changes_adds_and_deletes_is_so_in_the_folder(tmp_path: Path, how: str) -> None:
    cache, rootfs = tmp_path / "cache", tmp_path / "fs"
    for path, text in {"same": "1", "changed": "old", "gone": "x", "d/same": "2", "d/changed": "old", "d/gone": "y"}.items():
        (cache / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / path).write_text(text)
    (cache / "was-folder/x").mkdir(parents=True)
    (cache / "was-file").write_text("z")
    rootfs.mkdir()
    places = Places(str(rootfs))
    places.move("/c", str(cache))
    seen = rootfs / "c"
    assert (seen / "d/same").read_text() == "2"
    for path in ("changed", "d/changed"):
        (seen / path).write_text("new")
    for path in ("gone", "d/gone", "was-file"):
        (seen / path).unlink()
    (seen / "was-folder/x").rmdir()
    (seen / "was-folder").rmdir()
    (seen / "was-folder").write_text("a file")
    (seen / "was-file").mkdir()
    (seen / "added").write_text("3")
    left = tree(seen)
    places.close()
    assert tree(cache) == left
    assert not (cache / "gone").exists()
    assert sorted(os.listdir(tmp_path)) == ["cache", "fs"]
    assert os.listdir(rootfs) in ([], ["c"])
