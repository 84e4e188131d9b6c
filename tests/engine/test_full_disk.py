"""A disk that is full at any moment of a build: a clear error, a valid store, and with room again the same image."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Pybuild, assert_refused
from tests.support.oci import read_image

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]

PARTS = (3, 6, 10, 20, 40, 60, 75, 85, 92, 97) if "PYBUILD_DAMAGES" in os.environ else (3, 10, 40, 75, 92)
"""Percent of what a build needs."""

DOCKERFILE = """FROM {base} AS tool
RUN head -c 3000000 /dev/zero | tr '\\0' x > /made
FROM {base}
COPY big /srv/
COPY --link --from=tool /made /srv/
RUN --mount=type=cache,target=/c cp /srv/big /c/; cat /srv/* > /all
"""


@pytest.fixture
def small(pybuild: Pybuild) -> Iterator[Pybuild]:
    """pybuild with its root on a tmpfs of its own."""
    Path(pybuild.root).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", pybuild.root], check=True)
    yield pybuild
    subprocess.run(["umount", pybuild.root], check=True)


def resize(pybuild: Pybuild, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", pybuild.root], check=True)


def used(pybuild: Pybuild) -> int:
    """KiB."""
    return int(subprocess.run(["df", "-k", "--output=used", pybuild.root], capture_output=True, check=True).stdout.split()[-1])


def test_a_disk_that_fills_up_at_many_instants(small: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox), "big": b"big" * 700_000})
    command = ("-t", "app", "-o", "type=image", "-o", f"type=oci,dest={tmp_path}/i.tar", folder)
    small.ok(*command)
    whole, needed = read_image(tmp_path / "i.tar").files(), used(small)
    failures = 0
    for part in PARTS:
        small.ok("rmi", "app")
        small.ok("prune", "-af")
        small.fsck()
        resize(small, max(needed * part // 100, used(small) + 60))
        done = small(*command)
        if done.code:
            failures += 1
            assert_refused(done, code=1)
            assert re.search("No space left on device|disk is full|database or disk is full", done.err), done.err
        else:
            assert read_image(tmp_path / "i.tar").files().keys() == whole.keys()
        resize(small, 96 << 10)
        small.fsck()
        small.ok(*command)
        again = read_image(tmp_path / "i.tar").files()
        assert {path: file.data for path, file in again.items()} == {path: file.data for path, file in whole.items()}
        small.fsck()
    assert failures >= len(PARTS) // 2, "the sizes are such that most builds fail"


def test_a_disk_without_a_free_byte_can_be_pruned(small: Pybuild, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox), "big": b"big" * 700_000})
    small.ok(folder)
    resize(small, used(small))
    full = small("du")
    assert_refused(full, "metadata database")
    assert "prune" in full.err
    small.ok("prune", "-af")
    small.fsck()
    resize(small, 96 << 10)
    small.ok(folder)
