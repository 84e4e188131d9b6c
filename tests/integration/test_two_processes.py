"""Several pybuild processes on one root: each step runs once, everyone gets the result."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.beacon import WAIT, Beacon
from tests.support.cli import Pybuild
from tests.support.oci import read_image

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


def finish(builds: list[subprocess.Popen[bytes]]) -> list[str]:
    """The progress of each; every one has to succeed."""
    out = []
    for build in builds:
        _, err = build.communicate(timeout=WAIT)
        out.append(err.decode())
        assert build.returncode == 0, err.decode()
    return out


def test_four_builds_of_one_dockerfile_run_each_step_once(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    with Beacon() as beacon:
        folder = context({"Dockerfile": f"FROM {busybox}\nRUN {beacon.call} ; echo one > /one\nRUN {beacon.call} ; cp /one /two\n"})
        builds = [
            pybuild.start("-t", f"app{n}", "-o", f"type=oci,dest={tmp_path}/{n}.tar", folder, stderr=subprocess.PIPE)
            for n in range(4)
        ]
        beacon.wait_for_calls(1)
        beacon.hang_up()
        finish(builds)
        assert beacon.count == 2, "each of the two steps ran once, in one of the processes"
    images = [read_image(tmp_path / f"{n}.tar") for n in range(4)]
    assert all(image.diff_ids == images[0].diff_ids for image in images)
    assert images[0].files()["two"].text == "one\n"
    pybuild.fsck()


def test_different_builds_go_on_side_by_side(pybuild: Pybuild, context: Context, busybox: str) -> None:
    """Both steps run at one time: each waits until the other was seen."""
    with Beacon() as beacon:
        folders = [context({"Dockerfile": f"FROM {busybox}\nRUN {beacon.call} ; echo {n} > /n\n"}) for n in range(2)]
        builds = [pybuild.start(folder, stderr=subprocess.PIPE) for folder in folders]
        beacon.wait_for_calls(2)
        beacon.hang_up()
        finish(builds)
    pybuild.fsck()


def test_the_other_process_takes_over_a_step_whose_builder_was_killed(pybuild: Pybuild, context: Context, busybox: str) -> None:
    with Beacon() as beacon:
        folder = context({"Dockerfile": f"FROM {busybox}\nRUN {beacon.call} ; echo done > /done\n"})
        first = pybuild.start(folder)
        beacon.wait_for_calls(1)
        second = pybuild.start(folder, stderr=subprocess.PIPE)
        first.kill()
        first.wait(WAIT)
        beacon.wait_for_calls(2)
        beacon.hang_up()
        finish([second])
    pybuild.fsck()


def test_of_four_builds_the_three_that_are_left_run_each_step_once(pybuild: Pybuild, context: Context, busybox: str) -> None:
    """The one that runs the first step is killed in the middle of it: one other takes the step over, once, and the next step is run
    once. What ran in full left its mark in a cache mount."""
    with Beacon() as beacon:
        mark = "echo {} >> /marks/all"
        steps = [f"RUN --mount=type=cache,target=/marks {beacon.call} ; {mark.format(n)} ; echo {n} > /{n}" for n in ("one", "two")]
        folder = context({"Dockerfile": "\n".join([f"FROM {busybox}", *steps, ""])})
        first = pybuild.start(folder)
        beacon.wait_for_calls(1)
        others = [pybuild.start(folder, stderr=subprocess.PIPE) for _ in range(3)]
        first.kill()
        first.wait(WAIT)
        beacon.wait_for_calls(2)
        beacon.hang_up()
        finish(others)
        assert beacon.count == 3, "the killed run, and one of each step"
    shown = context({"Dockerfile": f"FROM {busybox}\nRUN --mount=type=cache,target=/marks cat /marks/all\n"})
    lines = pybuild.ok("--progress=plain", shown).err.splitlines()
    marks = [found.group(1) for line in lines if (found := re.fullmatch(r"#\d+ \d+\.\d+ (one|two)", line))]
    assert marks == ["one", "two"]
    pybuild.fsck()


def test_a_locked_cache_mount_is_used_by_one_process_at_a_time(pybuild: Pybuild, context: Context, busybox: str) -> None:
    """Each step reads, waits for a bit of work, writes one more: with two at once a count would be lost."""
    step = 'n=$(cat /c/n 2>/dev/null || echo 0); for i in $(seq 2000); do :; done; echo $((n+1)) > /c/n; echo "count $n"'
    folders = [
        context({"Dockerfile": f"FROM {busybox}\nARG N={n}\nRUN --mount=type=cache,target=/c,sharing=locked {step} # {n}\n"})
        for n in range(4)
    ]
    builds = [pybuild.start(folder, stderr=subprocess.PIPE) for folder in folders]
    progress = finish(builds)
    lines = [line for text in progress for line in text.splitlines()]
    counts = sorted(int(found.group(1)) for line in lines if (found := re.fullmatch(r"#\d+ \d+\.\d+ count (\d+)", line)))
    assert counts == [0, 1, 2, 3]
