"""``pybuild compare`` as it is typed: exit codes, times, reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Dockerd

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("dockerd")]

Run = Callable[..., subprocess.CompletedProcess[str]]
Context = Callable[[dict[str, str | bytes]], str]

SAME = "ARG BASE\nFROM $BASE\nRUN echo made > /made\nCOPY a.txt /etc/\nENV A=1\n"
# Two builders can't agree on this.
RANDOM = "ARG BASE\nFROM $BASE\nRUN cat /proc/sys/kernel/random/uuid > /id\n"


@pytest.fixture
def run(dockerd: Dockerd, base: str) -> Run:
    def run(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "builder", "compare", "--build-arg", f"BASE={base}", *args]
        given = {"DOCKER_HOST": f"unix://{dockerd.socket}", "DOCKER_CONFIG": f"{os.path.dirname(dockerd.socket)}/client"}
        return subprocess.run(
            command, env={**os.environ, **given, **environ}, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def test_equal_images_exit_with_0_and_give_four_times(run: Run, context: Context) -> None:
    done = run("--with", "docker", context({"Dockerfile": SAME, "a.txt": "a"}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("equal (")
    table = done.stdout.splitlines()[:3]
    assert [line.split()[0] for line in table] == ["cold", "pybuild", "docker"]
    assert all(line.count("s") >= 2 and "-" not in line.split()[-2:] for line in table[1:])


def test_different_images_exit_with_1_and_say_where(run: Run, context: Context) -> None:
    done = run("--with", "docker", context({"Dockerfile": RANDOM}))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "  /id: digest\n" in done.stdout
    assert "different: 1 difference" in done.stdout


def test_a_file_of_rules_of_ones_own_makes_a_difference_rightful(run: Run, context: Context, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[rule]]\narea = "file"\nsubject = "/id"\nfield = "digest"\nreason = "random"\n')
    done = run("--with", "docker", "--ignore", str(tmp_path / "mine.toml"), "--verbose", context({"Dockerfile": RANDOM}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "because: random" in done.stdout


def test_json_is_one_document(run: Run, context: Context) -> None:
    done = run("--with", "docker", "--json", context({"Dockerfile": RANDOM}))
    assert done.returncode == 1, done.stderr
    doc = json.loads(done.stdout)
    assert doc["equal"] is False
    assert [(d["area"], d["subject"], d["field"]) for d in doc["differences"]] == [("file", "/id", "digest")]
    assert all(b["cold_seconds"] > 0 and b["cached_seconds"] > 0 for b in doc["builders"])


def test_the_exit_code_of_failing_builds_is_2(run: Run, context: Context) -> None:
    done = run("--with", "docker", context({"Dockerfile": "ARG BASE\nFROM $BASE\nRUN echo so sad; exit 3\n"}))
    assert done.returncode == 2
    assert "pybuild build fails with exit code 1" in done.stderr
    assert "so sad" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_other_builders_failure_is_told_as_its_own(run: Run, context: Context) -> None:
    # The BuildKit inside dockerd 20.10 knows no heredocs.
    done = run("--with", "docker", context({"Dockerfile": "ARG BASE\nFROM $BASE\nCOPY <<E /x\nx\nE\n"}))
    if done.returncode != 0:  # a newer dockerd builds it
        assert done.returncode == 2
        assert "docker build fails with exit code" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing option '--with'"),
        (("--with", "kaniko"), "'kaniko' is not one of 'docker', 'buildah', 'buildkit'"),
        (("--with", "docker", "--no-cache"), "--no-cache has no meaning here"),
        (("--with", "docker", "--isolation", "oci"), "--isolation has no meaning --with docker"),
        (("--with", "buildah", "--docker-host", "x"), "--docker-host has no meaning --with buildah"),
        (("--with", "docker", "--docker-host", "unix:///nowhere/d.sock"), "no docker daemon answers at unix:///nowhere/d.sock"),
        (("--with", "docker", "--platform", "linux/amd64,linux/arm64"), "one platform is compared at a time"),
        (("--with", "docker", "--ignore", "/nowhere.toml"), "/nowhere.toml: No such file or directory"),
        (("--with", "docker", "-f", "-"), "standard input can't be compared"),
    ],
)
def test_what_cannot_be_compared_exits_with_2_and_one_line(run: Run, tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    done = run(*args, str(tmp_path))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_is_missing_exits_with_2(run: Run, tmp_path: Path) -> None:
    done = run("--with", "buildkit", str(tmp_path), PATH=str(tmp_path))
    assert done.returncode == 2
    assert "buildctl is not installed" in done.stderr
