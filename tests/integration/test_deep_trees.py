"""Folders nested deeper than recursion, open files and (with the root in front) paths go, through everything that touches files."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.values import dataclass
from tests.support.cli import Pybuild, assert_refused
from tests.support.deep import depth_of, make_deep

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
DEEP = 1020
"""More than Python's limit of recursion. (Twice that is what a path can name; the kernel's work grows with the square of it.)"""

NEST = "i=0; while [ $i -lt {} ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; echo -n deep > f"
TOO_LONG = "x=$(printf %0200d 0); for i in $(seq 40); do mkdir $x && cd $x 2>/dev/null || break; done; true"
"""The last folder is one that busybox makes and can't enter: its path has 4220 bytes."""


@dataclass(frozen=True)
class Deep(Pybuild):
    snapshotter: str = ""


@pytest.fixture(params=["overlay", "native"])
def deep(request: pytest.FixtureRequest, pybuild: Pybuild, deep_path: Path) -> Deep:
    """pybuild with either snapshotter."""
    config = deep_path / "config.toml"
    config.write_text(f'[worker.oci]\nsnapshotter = "{request.param}"\n')
    return Deep(str(deep_path / "root"), {"PYBUILD_CONFIG": str(config)}, request.param)


def deep_tar(depth: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("d/" * depth + "f")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"deep"))
    return out.getvalue()


def test_a_failed_step_that_nested_folders_does_not_wedge_the_root(
    deep: Pybuild, context: Context, busybox: str
) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN {NEST.format(1200)}; exit 1\n"})
    for _ in range(2):
        assert_refused(deep(folder), "exit code: 1")
    deep.ok("--target", "base", context({"Dockerfile": f"FROM {busybox} AS base\nRUN true\n"}))
    deep.ok("prune", "-af")
    deep.fsck()


DOCKERFILE = """FROM {base} AS made
WORKDIR /made
RUN {nest}
FROM {base} AS copied
COPY context /context
ADD deep.tar /added/
COPY --from=made /made /from/
COPY --link --from=made --exclude=**/nothing /made /linked/
RUN true
"""


def test_everything_copies_packs_and_unpacks_nested_folders(
    deep: Deep, context: Context, busybox: str, deep_path: Path
) -> None:
    text = DOCKERFILE.format(base=busybox, nest=NEST.format(DEEP))
    folder = shutil.copytree(context({"Dockerfile": text, "deep.tar": deep_tar(DEEP), "context/other": "o"}), deep_path / "context")
    make_deep(f"{folder}/context", DEEP)
    local, archive, layout = deep_path / "local", deep_path / "files.tar", deep_path / "layout"
    outputs = [f"type=local,dest={local}", f"type=tar,dest={archive}", f"type=oci,tar=false,dest={layout}"]
    if deep.snapshotter == "native":
        outputs = outputs[:1]  # what is written does not depend on it
    deep.ok(*(word for output in outputs for word in ("-o", output)), str(folder))
    for name in ("context", "added", "from", "linked"):
        assert depth_of(str(local / name)) == (DEEP, b"deep"), name
    if deep.snapshotter == "native":
        deep.fsck()
        deep.ok("prune", "-af")
        return
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert {f"{name}/{'d/' * DEEP}f" for name in ("context", "added", "from", "linked")} <= set(names)
    # The image back again: its layers are unpacked on an empty root.
    other = Pybuild(str(deep_path / "root-2"), deep.env)
    again = context({"Dockerfile": "FROM base\nRUN true\nCOPY --from=base /context /twice\n"})
    other.ok("--build-context", f"base=oci-layout://{layout}", "-o", f"type=local,dest={deep_path / 'again'}", again)
    assert depth_of(str(deep_path / "again/twice")) == (DEEP, b"deep")
    for each in (deep, other):
        each.fsck()
        each.ok("du", "--verbose")
        each.ok("prune", "-af")


def test_what_no_path_can_name_is_refused_where_it_is_packed_and_goes_with_prune(
    deep: Pybuild, context: Context, busybox: str, deep_path: Path
) -> None:
    text = f"FROM {busybox} AS made\nWORKDIR /made\nRUN {TOO_LONG}\nFROM {busybox}\nCOPY --from=made /made /d\n"
    folder = context({"Dockerfile": text})
    deep.ok("--target", "made", "-o", "type=cacheonly", folder)
    assert_refused(deep("--target", "made", "-o", f"type=oci,dest={deep_path}/i.tar", folder), "too long")
    assert_refused(deep("--target", "made", "-o", f"type=local,dest={deep_path}/local", folder), "too long")
    assert_refused(deep(folder), "too long")
    deep.fsck()
    deep.ok("du")
    deep.ok("prune", "-af")
    assert [name for name in os.listdir(f"{deep.root}/snapshots") if name[0] != "."] == []
