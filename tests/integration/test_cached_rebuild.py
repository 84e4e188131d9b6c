"""A second build is all CACHED: it runs nothing, mounts nothing, opens no connection, and makes the same image."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.values import replace
from tests.support import bases
from tests.support.cli import Done, Pybuild, Watched
from tests.support.oci import read_image
from tests.support.processes import Registry, running

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]

DOCKERFILE = """FROM {base} AS tool
RUN echo made > /made
FROM {base}
WORKDIR /srv
COPY a.txt b/ ./
COPY --from=tool /made .
ADD --chmod=600 c.txt .
RUN cat a.txt made > both
CMD ["cat", "both"]
"""
FILES: dict[str, str | bytes] = {"a.txt": "a\n", "b/inner": "b\n", "c.txt": "c\n"}


@pytest.fixture
def once_built(pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path) -> str:
    """The context of a build that was made once, from a registry that is gone since."""
    with running(Registry(str(tmp_path / "registry"))) as registry:
        assert isinstance(registry, Registry)
        base = bases.push(busybox_layout, f"{registry.host}/base:1")
        folder = context({"Dockerfile": DOCKERFILE.format(base=base), **FILES})
        done = pybuild.ok("-t", "app", "-o", "type=image", "-o", f"type=oci,dest={tmp_path}/first.tar", folder)
    assert done.ending("RUN cat a.txt").startswith("DONE")
    return folder


def assert_all_cached(done: Done) -> None:
    assert len(done.instructions()) >= 7, done.err
    assert done.not_cached() == {}, done.err


def test_second_build_needs_no_registry_and_no_runtime(pybuild: Pybuild, once_built: str, tmp_path: Path) -> None:
    done = pybuild.ok(
        "-t", "app", "-o", f"type=oci,dest={tmp_path}/second.tar", "--runtime", "crun", once_built, env={"PATH": "/nowhere"}
    )
    assert_all_cached(done)
    assert read_image(tmp_path / "second.tar") == read_image(tmp_path / "first.tar")


def test_second_build_runs_mounts_and_connects_nothing(pybuild: Pybuild, once_built: str, tmp_path: Path) -> None:
    watching = Watched(pybuild.root, log=str(tmp_path / "log"))
    assert_all_cached(watching.ok("-t", "app", once_built))
    assert watching.did() == []


def test_a_plan_of_what_is_cached_runs_mounts_and_connects_nothing(pybuild: Pybuild, once_built: str, tmp_path: Path) -> None:
    watching = Watched(pybuild.root, log=str(tmp_path / "log"))
    assert watching.ok("plan", once_built).out.endswith("everything is cached\n")
    assert watching.did() == []


def test_the_watcher_sees_a_build_that_is_not_cached(pybuild: Pybuild, once_built: str, tmp_path: Path, busybox: str) -> None:
    watching = replace(Watched(pybuild.root), log=str(tmp_path / "log"))
    with open(os.path.join(once_built, "Dockerfile"), "w", encoding="utf-8") as f:
        f.write(f"FROM {busybox}\nRUN echo new\n")
    watching.ok(once_built)
    assert {line.split()[0] for line in watching.did()} >= {"connect", "mount"}


def test_a_changed_file_runs_its_copy_and_what_follows(pybuild: Pybuild, once_built: str) -> None:
    Path(once_built, "c.txt").write_text("changed\n")
    done = pybuild.ok("-t", "app", once_built)
    assert done.ending("RUN echo made") == "CACHED"
    assert done.ending("COPY a.txt") == "CACHED"
    assert done.ending("ADD --chmod=600").startswith("DONE")
    assert done.ending("RUN cat a.txt").startswith("DONE")


def test_same_bytes_are_the_same_input_whatever_their_time(pybuild: Pybuild, once_built: str) -> None:
    for name, data in FILES.items():
        path = Path(once_built, name)
        path.unlink()
        path.write_text(str(data))
        os.utime(path, (1, 1))
    assert_all_cached(pybuild.ok("-t", "app", once_built))


def test_a_change_that_keeps_size_and_mtime_is_seen(pybuild: Pybuild, once_built: str, tmp_path: Path) -> None:
    path = Path(once_built, "a.txt")
    before = path.stat()
    path.write_text("z\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", once_built)
    assert read_image(tmp_path / "i.tar").files()["srv/both"].text == "z\nmade\n"


def test_no_cache_runs_everything_again(pybuild: Pybuild, context: Context) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY <<EOT /a\nx\nEOT\nCOPY Dockerfile /b\n"})
    pybuild.ok(folder)
    assert all(e.startswith("DONE") for e in pybuild.ok("--no-cache", folder).instructions().values())
    assert set(pybuild.ok(folder).instructions().values()) == {"CACHED"}


@pytest.mark.parametrize("flags", ["", ",uid=1000,mode=0700"])
@pytest.mark.parametrize("chosen", [["--no-cache"], ["--no-cache-filter", "used"]])
def test_no_cache_empties_the_cache_mounts_of_its_steps(
    pybuild: Pybuild, context: Context, busybox: str, flags: str, chosen: list[str]
) -> None:
    mount = f"--mount=type=cache,target=/c{flags}"
    folder = context({"Dockerfile": f"FROM {busybox} AS used\nARG N\nRUN {mount} touch /c/$N && ls /c\n"})

    def listed(name: str, *more: str) -> list[str]:
        err = pybuild.ok("--progress=plain", "--build-arg", f"N={name}", *more, folder).err
        return [n for n in ("one", "two", "three", "four") if re.search(rf"(?m)^#\d+ [\d.]+ {n}$", err)]

    assert listed("one") == ["one"]
    assert listed("two") == ["one", "two"]
    assert listed("three", *chosen) == ["three"]
    assert listed("four") == ["three", "four"]


def test_a_failed_build_keeps_its_finished_steps(pybuild: Pybuild, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo kept > /kept\nRUN false\n"})
    assert pybuild(folder).code != 0
    Path(folder, "Dockerfile").write_text(f"FROM {busybox}\nRUN echo kept > /kept\nRUN true\n")
    assert pybuild.ok(folder).ending("RUN echo kept") == "CACHED"
