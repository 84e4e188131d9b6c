"""Build twice with each of two builders, read both images, sort out their differences."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Sequence

from builder.compare.arguments import dockerfile
from builder.compare.diff import diff
from builder.compare.image import Image, read_image
from builder.compare.rules import Facts, Rule, Sorted, sort_out
from builder.compare.types import Builder, BuildSpec, CompareError
from builder.files.trees import remove_tree
from builder.text.paths import clean
from builder.values import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall seconds of a builder's runs; None for a run that was not asked for."""

    builder: str
    version: str
    cold: float | None
    cached: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out. ``equal``: every difference is covered by a rule."""

    pybuild: Timing
    other: Timing
    result: Sorted

    @property
    def equal(self) -> bool:
        return not self.result.wrong


def compare(
    spec: BuildSpec,
    pybuild: Builder,
    other: Builder,
    rules: Sequence[Rule],
    *,
    runs: Sequence[bool] = (True, False),
    since: float | None = None,
) -> Comparison:
    """``runs``: each run in order, True for a cold one. ``since``: times from then on (seconds of the epoch) are made by the build;
    by default the moment of this call, which only holds if the first run is cold. CompareError if either builder fails."""
    check_spec(spec)
    started = time.time() if since is None else since
    versions = [pybuild.describe(), other.describe()]
    scratch = tempfile.mkdtemp(prefix="pybuild-compare-")
    try:
        left, left_times = _built(pybuild, spec, runs, scratch)
        right, right_times = _built(other, spec, runs, scratch)
    finally:
        remove_tree(scratch)
    path = dockerfile(spec)
    facts = Facts(versions[1], started, path, mount_points(_text_of(path)))
    result = sort_out(diff(left, right), rules, facts)
    return Comparison(
        Timing(pybuild.name, versions[0], *left_times),
        Timing(other.name, versions[1], *right_times),
        result,
    )


def check_spec(spec: BuildSpec) -> None:
    """CompareError for builds that can't be done more than once, or whose result is more than one image."""
    if spec.context == "-" or spec.file == "-":
        raise CompareError("standard input can't be compared: every builder has to read it", hint="put it into a folder")
    if "," in spec.platform:
        raise CompareError("one platform is compared at a time", hint=f"--platform {spec.platform.partition(',')[0]}")


def mount_points(text: str) -> frozenset[str]:
    """Absolute targets of ``--mount`` in a Dockerfile and all folders above them, but for the root. Variables are not expanded."""
    found: set[str] = set()
    for target in re.findall(r"--mount=\S*?\b(?:target|dst|destination)=(/[^\s,]+)", text):
        path = clean(target)
        while path != "/":
            found.add(path)
            path = os.path.dirname(path)
    return frozenset(found)


def _text_of(path: str) -> str:
    """ "" for a Dockerfile that is inside a remote context."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


_Times = tuple[float | None, float | None]


def _built(builder: Builder, spec: BuildSpec, runs: Sequence[bool], scratch: str) -> tuple[Image, _Times]:
    """The image of the last run, and the seconds of the cold and the cached run."""
    times: dict[bool, float] = {}
    for cold in runs:
        begin = time.perf_counter()
        builder.build(spec, cold=cold)
        times[cold] = time.perf_counter() - begin
    folder = os.path.join(scratch, builder.name)
    os.makedirs(os.path.join(folder, "members"))
    image = read_image(builder.export(folder), os.path.join(folder, "members"))
    return image, (times.get(True), times.get(False))
