"""A state folder that is kept somewhere and brought back: right images always, from the cache where that can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Done, Pybuild

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
Keep = Callable[[Path], None]
Build = Callable[..., tuple[Done, dict[str, object]]]

DOCKERFILE = """FROM {base}
RUN mkdir /d && echo old > /d/old && echo old > /single
RUN rm -rf /d && mkdir /d && echo new > /d/new && rm /single
RUN mkdir -p /o/p && touch /o/file /o/p/file && chown -R 1234:4321 /o && chmod 4750 /o/file && ln /o/file /o/twice
"""
CACHE = "RUN --mount=type=cache,target=/c test -f /c/seen && echo kept > /cache; touch /c/seen\n"


def tar(*flags: str, packer: str = "tar") -> Keep:
    """Packed, and unpacked where it was."""

    def keep(root: Path) -> None:
        archive = root.with_suffix(".tar")
        subprocess.run([packer, *flags, "-C", root.parent, "-cf", archive, root.name], check=True)
        shutil.rmtree(root)
        subprocess.run([packer, *flags, "-C", root.parent, "-xf", archive], check=True)

    return keep


def copy(*words: str) -> Keep:
    """``words`` copy ``{a}`` to ``{b}``, which takes its place."""

    def keep(root: Path) -> None:
        kept = root.with_suffix(".kept")
        subprocess.run([w.format(a=root, b=kept) for w in words], check=True)
        shutil.rmtree(root)
        os.rename(kept, root)

    return keep


def in_place(*words: str) -> Keep:
    def keep(root: Path) -> None:
        subprocess.run([*words, root], check=True)

    return keep


def by_names(root: Path) -> None:
    """What tar does on a machine where 1000 has another name: its files go to whoever has theirs there."""
    subprocess.run(["find", root, "-uid", "1000", "-exec", "chown", "-h", "1001", "{}", "+"], check=True)


FAITHFUL = {
    "untouched": in_place("true"),
    "cp -a": copy("cp", "-a", "{a}", "{b}"),
    "tar with all attributes": tar("--xattrs", "--xattrs-include=*", "--numeric-owner"),
    "bsdtar": tar("-p", packer="bsdtar"),
    "rsync with all attributes": copy("rsync", "-aHAX", "--numeric-ids", "{a}/", "{b}/"),
}
LOSSY = {
    "plain tar": (tar(), "overlay marks"),
    "tar without trusted attributes": (tar("--xattrs", "--numeric-owner"), "overlay marks"),
    "tar that gives all to the user": (tar("--xattrs", "--xattrs-include=*", "--no-same-owner"), "owners"),
    "tar by names": (by_names, "owners"),
    "tar that skips devices": (copy("rsync", "-aHAX", "--no-devices", "--numeric-ids", "{a}/", "{b}/"), "whiteouts"),
    "cp -r": (copy("cp", "-r", "{a}", "{b}"), "hard links"),
    "chown": (in_place("chown", "-R", "0:0"), "owners"),
    "chmod": (in_place("chmod", "-R", "u-s"), "permissions"),
}


@pytest.fixture
def build(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> Build:
    """Builds; gives how that went, and the files of the result."""
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox)})

    def run(*flags: str, steps: str = "") -> tuple[Done, dict[str, object]]:
        Path(folder, "Dockerfile").write_text(DOCKERFILE.format(base=busybox) + steps)
        done = pybuild.ok(*flags, "-o", f"type=tar,dest={tmp_path}/files.tar", folder)
        with tarfile.open(tmp_path / "files.tar") as files:
            found = {m.name: (m.type, m.mode, m.uid, m.gid, m.size, m.linkname) for m in files}
        return done, {name: value for name, value in found.items() if not name.startswith("bin/")}

    return run


@pytest.mark.parametrize("keep", FAITHFUL.values(), ids=FAITHFUL)
def test_what_is_copied_faithfully_is_used(pybuild: Pybuild, build: Build, keep: Keep) -> None:
    _, before = build()
    keep(Path(pybuild.root))
    pybuild.fsck()
    done, after = build()
    assert "warning" not in done.err
    assert done.not_cached() == {}
    assert after == before


@pytest.mark.parametrize("has_blobs", [False, True], ids=["files only", "with blobs"])
@pytest.mark.parametrize(("keep", "lost"), LOSSY.values(), ids=LOSSY)
def test_what_a_copy_lost_is_noticed_and_made_anew(
    pybuild: Pybuild, build: Build, keep: Keep, lost: str, has_blobs: bool
) -> None:
    _, before = build(*(["-t", "app", "-o", "type=image"] if has_blobs else []))
    assert "d/new" in before
    assert not {"d/old", "single"} & before.keys()
    keep(Path(pybuild.root))
    told = pybuild("fsck")
    assert told.code == 1
    assert lost in told.out
    done, after = build()
    assert done.err.count("warning:") == 1, done.err
    assert lost in done.err
    assert after == before
    assert len(done.not_cached()) == (0 if has_blobs else 3)
    done, after = build()
    assert "warning" not in done.err
    assert (done.not_cached(), after) == ({}, before)
    pybuild.fsck()
    assert pybuild.ok("fsck").out == "No problem found\n", "what was given up is deleted"


@pytest.mark.parametrize(("keep", "kept"), [(tar(), True), (in_place("chown", "-R", "0:0"), False)], ids=["plain tar", "chown"])
def test_cache_mounts_stay_where_owners_and_permissions_came_over(pybuild: Pybuild, build: Build, keep: Keep, kept: bool) -> None:
    build(steps=CACHE)
    keep(Path(pybuild.root))
    _, after = build(steps=CACHE.replace("; touch", " ; touch"))
    assert ("cache" in after) == kept
    pybuild.fsck()
