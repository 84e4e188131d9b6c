"""Builders that are not there, can't build, or fail; shell scripts stand in for the programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.compare import BuildSpec, CompareError
from builder.compare.builders import Buildah, Buildkit, Docker, Pybuild

Program = Callable[..., dict[str, str]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Put a shell script of that name on an otherwise empty PATH; gives the environment."""

    def make(name: str = "", script: str = "", folder: str = "bin") -> dict[str, str]:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        if name:
            (path / name).write_text(f"#!/bin/sh\n{script}\n")
            (path / name).chmod(0o755)
        return {"PATH": ":".join(str(p) for p in sorted(tmp_path.glob("*bin*")))}

    return make


@pytest.mark.parametrize(("builder", "hint"), [(Docker, "docker.io"), (Buildah, "buildah"), (Buildkit, "BuildKit's releases")])
def test_a_builder_that_is_not_installed(builder: type, hint: str, program: Program) -> None:
    with pytest.raises(CompareError, match="is not installed") as e:
        builder(environ=program()).describe()
    assert hint in e.value.hint


def client(version: str, *, buildx: bool = False) -> str:
    """A docker client that also has a daemon, 20.10.24."""
    plugin = "echo buildx" if buildx else "exit 1"
    own = f"echo 'Docker version {version}, build 1'"
    return f'case "$*" in buildx*) {plugin};; --version) {own};; *Server*) echo 20.10.24;; *) exit 1;; esac'


def test_a_docker_client_before_23_builds_with_the_daemons_buildkit(program: Program) -> None:
    assert Docker(environ=program("docker", client("20.10.24+dfsg1"))).describe() == "docker 20.10.24 (embedded BuildKit)"


def test_a_later_client_builds_with_buildx(program: Program) -> None:
    environ = program("docker", client("28.2.2", buildx=True))
    assert Docker(environ=environ).describe() == "docker 20.10.24 (buildx)"


def test_a_later_client_without_buildx_is_passed_over_for_one_that_can_build(program: Program) -> None:
    program("docker", client("28.2.2"), folder="a-bin")
    assert Docker(environ=program("docker", client("20.10.24"), folder="b-bin")).describe() == "docker 20.10.24 (embedded BuildKit)"


def test_a_later_client_without_buildx_alone_is_an_error_that_says_what_is_missing(program: Program) -> None:
    with pytest.raises(CompareError, match="needs the buildx plugin"):
        Docker(environ=program("docker", client("28.2.2"))).describe()


def test_no_daemon_is_an_error_that_names_where_it_was_looked_for(program: Program) -> None:
    script = client("20.10.24").replace("*Server*) echo 20.10.24", "*Server*) echo Cannot connect >&2; exit 1")
    with pytest.raises(CompareError, match="no docker daemon answers at unix:///nowhere") as e:
        Docker("unix:///nowhere", environ=program("docker", script)).describe()
    assert "Cannot connect" in e.value.hint


def test_no_buildkitd_is_an_error(program: Program) -> None:
    with pytest.raises(CompareError, match="no buildkitd answers"):
        Buildkit(environ=program("buildctl", "exit 1")).describe()


def test_a_build_that_fails_gives_its_exit_code_and_last_lines(program: Program) -> None:
    environ = program("buildah", "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; echo 'Error: no' >&2; exit 125")
    with pytest.raises(CompareError, match="buildah bud fails with exit code 125") as e:
        Buildah(environ=environ).build(BuildSpec(context="."), cold=True)
    lines = str(e.value).splitlines()
    assert lines[-1] == "  Error: no"
    assert "  line 50" in lines
    assert "  line 1" not in lines


def test_extra_arguments_go_to_the_build(program: Program, tmp_path: Path) -> None:
    environ = program("buildah", f'echo "$@" > {tmp_path}/args')
    Buildah("oci", ["--tls-verify=false"], environ).build(BuildSpec(context="ctx"), cold=True)
    args = (tmp_path / "args").read_text().split()
    assert args[0] == "bud"
    assert {"--layers", "--isolation=oci", "--tls-verify=false", "--no-cache"} <= set(args)


def test_pybuilds_own_state_is_removed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    builder = Pybuild()
    (tmp_path / "Dockerfile").write_text("UNKNOWN\n")
    with pytest.raises(CompareError, match="pybuild build fails with exit code 1"):
        builder.build(BuildSpec(context=str(tmp_path)), cold=True)
    builder.close()
    assert not list(tmp_path.glob("pybuild-compare-*"))
