"""What is damaged in the store is a cache miss with a warning: never a fatal error, never a wrong image."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Done, Pybuild
from tests.support.oci import Image, read_image

pytestmark = pytest.mark.integration

FEW = "PYBUILD_DAMAGES" not in os.environ
"""PYBUILD_DAMAGES says how many databases are garbled, and asks for the long form of the others."""
Context = Callable[[dict[str, str | bytes]], str]

DOCKERFILE = """FROM {base} AS tool
RUN echo made > /made
FROM {base}
COPY files/ /srv/
COPY --from=tool /made /srv/
RUN cat /srv/* > /all
"""


@pytest.fixture
def built(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> tuple[str, Image]:
    """A context that was built once, and its image."""
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox), **{f"files/{n}": f"{n}\n" for n in range(5)}})
    return folder, build_again(pybuild, folder, tmp_path)[1]


def build_again(pybuild: Pybuild, folder: str, tmp_path: Path) -> tuple[Done, Image]:
    outputs = ("-t", "app", "-o", "type=image", "-o", f"type=oci,dest={tmp_path}/i.tar")
    done = pybuild.ok(*outputs, folder, env={"SOURCE_DATE_EPOCH": "1"})
    return done, read_image(tmp_path / "i.tar")


def contents(image: Image) -> dict[str, tuple[int, bytes]]:
    return {path: (file.mode, file.data) for path, file in image.files().items()}


def database(pybuild: Pybuild) -> Path:
    """The database file alone: what was in the log is written to it."""
    path = Path(pybuild.root, "metadata.db")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


@pytest.mark.parametrize("left", [0, 1, 5000, 0.9] if FEW else [0, 1, 100, 4096, 5000, 0.5, 0.9])
def test_a_truncated_database(pybuild: Pybuild, built: tuple[str, Image], tmp_path: Path, left: float) -> None:
    folder, first = built
    path = database(pybuild)
    os.truncate(path, int(left) if left >= 1 else int(path.stat().st_size * left))
    done, again = build_again(pybuild, folder, tmp_path)
    assert "warning: the metadata database" in done.err
    assert contents(again) == contents(first)
    assert build_again(pybuild, folder, tmp_path)[0].ending("RUN cat") == "CACHED"
    pybuild.fsck()
    assert "unused snapshot" not in pybuild.ok("fsck").out, "what the lost database told of is swept"


def test_names_of_whole_images_survive_the_loss_of_the_database(
    pybuild: Pybuild, built: tuple[str, Image], tmp_path: Path
) -> None:
    named = pybuild.ok("images", "--json").out
    assert named
    os.truncate(database(pybuild), 5000)
    assert pybuild.ok("images", "--json").out == named
    pybuild.ok("save", "--format", "oci", "-o", f"{tmp_path}/saved.tar", "app")
    assert contents(read_image(tmp_path / "saved.tar")) == contents(built[1])
    pybuild.ok("rmi", "app")
    database(pybuild).unlink()
    assert pybuild.ok("images", "--json").out == "", "a name that was taken away does not come back"
    pybuild.fsck()


@pytest.mark.usefixtures("built")
def test_an_image_without_all_its_blobs_has_no_name_after_the_loss_of_the_database(pybuild: Pybuild) -> None:
    database(pybuild).unlink()
    for blob in Path(pybuild.root, "content", "sha256").iterdir():
        if b'"rootfs"' in blob.read_bytes():
            blob.unlink()
    assert pybuild.ok("images", "--json").out == ""
    pybuild.fsck()


def test_a_removed_database(pybuild: Pybuild, built: tuple[str, Image], tmp_path: Path) -> None:
    folder, first = built
    database(pybuild).unlink()
    done, again = build_again(pybuild, folder, tmp_path)
    assert "warning: the metadata database" in done.err
    assert contents(again) == contents(first)
    pybuild.fsck()


@pytest.mark.parametrize("seed", range(int(os.environ.get("PYBUILD_DAMAGES", "4"))))
def test_a_garbled_database(pybuild: Pybuild, built: tuple[str, Image], tmp_path: Path, seed: int) -> None:
    """Pages full of noise anywhere: noticed, or without effect."""
    folder, first = built
    path = database(pybuild)
    choose = random.Random(seed)
    pages = path.stat().st_size // 4096
    with open(path, "r+b") as f:
        for page in choose.sample(range(pages), 1 + seed % 4):
            f.seek(page * 4096 + choose.choice([0, 0, 50, 2000]))
            f.write(choose.randbytes(choose.choice([4096, 1000, 40])))
    os.truncate(path, pages * 4096)
    _, again = build_again(pybuild, folder, tmp_path)
    assert contents(again) == contents(first)
    assert again.config["rootfs"] == {"type": "layers", "diff_ids": again.diff_ids}
    _, once_more = build_again(pybuild, folder, tmp_path)
    assert contents(once_more) == contents(first)


@pytest.mark.parametrize("turn", [1] if FEW else range(3))
def test_truncated_and_garbled_and_removed_blobs(pybuild: Pybuild, built: tuple[str, Image], tmp_path: Path, turn: int) -> None:
    folder, first = built
    choose = random.Random(1)
    blobs = sorted(Path(pybuild.root, "content", "sha256").iterdir())
    assert len(blobs) >= 6
    for number, blob in enumerate(blobs, turn):
        blob.chmod(0o600)
        if number % 3 == 0:
            os.truncate(blob, blob.stat().st_size // 2)
        elif number % 3 == 1:
            blob.write_bytes(choose.randbytes(blob.stat().st_size))
        else:
            blob.unlink()
    _, again = build_again(pybuild, folder, tmp_path)
    assert contents(again) == contents(first)
    pybuild.fsck()


def test_removed_snapshot_folders(pybuild: Pybuild, built: tuple[str, Image], tmp_path: Path) -> None:
    folder, first = built
    for snapshot in sorted(Path(pybuild.root, "snapshots").iterdir())[::2]:
        if snapshot.is_dir():
            shutil.rmtree(snapshot)
    Path(folder, "Dockerfile").write_text(Path(folder, "Dockerfile").read_text() + "RUN cp /all /more\n")
    done, again = build_again(pybuild, folder, tmp_path)
    assert "warning:" in done.err
    expected = contents(first)
    assert contents(again) == {**expected, "more": expected["all"]}
    pybuild.fsck()


def test_all_folders_of_the_store_removed(pybuild: Pybuild, built: tuple[str, Image], tmp_path: Path) -> None:
    folder, first = built
    for name in ("content", "snapshots", "ingest", "locks", "tmp"):
        shutil.rmtree(Path(pybuild.root, name))
    _, again = build_again(pybuild, folder, tmp_path)
    assert contents(again) == contents(first)
    pybuild.fsck()
