"""The fuzzer's own parts: cases come from their seed alone, contexts on disk are what the value says, failures are made smaller."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.values import replace
from tests.fuzz import listing, trees
from tests.fuzz.builds import Outcome
from tests.fuzz.cases import Case, Scenario, Stage
from tests.fuzz.changes import KINDS, changed
from tests.fuzz.generate import ALL, generate
from tests.fuzz.invariants import Failure
from tests.fuzz.mend import _without_failing
from tests.fuzz.report import describe
from tests.fuzz.shrink import shrink
from tests.fuzz.trees import Node
from tests.support.cli import REPOSITORY

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="contexts have files of several owners")


def test_a_seed_gives_the_same_scenario_in_every_process() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "3", "--count", "5", "--show"]
    texts = [
        subprocess.run(
            command, cwd=REPOSITORY, env={**os.environ, "PYTHONHASHSEED": hashes}, capture_output=True, check=True
        ).stdout
        for hashes in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert texts[0].count(b"FROM ") >= 5


@pytest.mark.parametrize(
    ("feature", "marks"),
    [("heredoc", ("<<",)), ("link", ("--link",)), ("parents", ("--parents",)), ("exclude", ("--exclude",)), ("named", ("nctx",))],
)
def test_what_a_builder_does_not_know_is_left_out(feature: str, marks: tuple[str, ...]) -> None:
    def texts(features: frozenset[str]) -> str:
        return "".join(generate(seed, features).dockerfile() for seed in range(60))

    assert all(mark in texts(ALL) for mark in marks)
    assert not any(mark in texts(ALL - {feature}) for mark in marks)


def test_every_kind_of_change_comes_about() -> None:
    names = {change.name for seed in range(80) for change in changed(generate(seed), 4).changes}
    assert names == {*KINDS, "back to what was built before"}


@needs_root
def test_a_changed_context_is_the_one_that_is_written_anew(tmp_path: Path) -> None:
    """Whatever is changed name by name, in place or not, the folder is as if it had been made that way."""
    for seed in range(12):
        tried = changed(generate(seed), 6)
        before = tried.first.tree()
        trees.write(str(tmp_path / f"kept{seed}"), before)
        for number, change in enumerate(tried.changes):
            after = change.case.tree()
            trees.write(str(tmp_path / f"kept{seed}"), after, before, in_place=change.in_place)
            trees.write(str(tmp_path / f"new{seed}-{number}"), after)
            found = listing.of_folder(str(tmp_path / f"kept{seed}"))
            assert listing.differences(found, listing.of_folder(str(tmp_path / f"new{seed}-{number}"))) == [], change.name
            before = after


@needs_root
def test_a_file_that_changes_in_place_keeps_inode_size_and_time(tmp_path: Path) -> None:
    old = {"f": Node("file", data=b"1111")}
    trees.write(str(tmp_path), old)
    before = (tmp_path / "f").stat()
    trees.write(str(tmp_path), {"f": replace(old["f"], data=b"2222")}, old, in_place=True)
    after = (tmp_path / "f").stat()
    assert (tmp_path / "f").read_bytes() == b"2222"
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def test_a_failure_is_made_as_small_as_what_it_needs() -> None:
    """The rule is broken by one instruction, one file and one change; all else goes."""
    lines = tuple(f"RUN echo {n}" for n in range(20))
    stages = (Stage("s0", "base", lines), Stage("s1", "base", ("ENV A=1", "COPY --from=s0 /x /")), Stage("s2", "base", lines[:3]))
    files = {f"f{n}": Node("file", data=b"x") for n in range(9)}
    first = Case(1, stages=stages, context=files, ignore=("*.txt",), args=(("A", "1"),))
    second = replace(first, context={**files, "f4": Node("file", data=b"y")})
    tried = 0

    def check(scenario: Scenario, only: str) -> list[Failure]:
        nonlocal tried
        tried += 1
        last = scenario.changes[-1].case if scenario.changes else scenario.first
        broken = "RUN echo 7" in last.dockerfile() and last.context.get("f4") == second.context["f4"]
        return [Failure("rule", len(scenario.changes), "broken")] if broken else []

    scenario = replace(changed(first, 0), changes=tuple(replace(c, case=second) for c in changed(first, 3).changes))
    small, failure = shrink(scenario, Failure("rule", 3, "broken"), check)
    assert tried <= 100
    assert small.changes[-1].case.dockerfile() == "FROM base AS s0\nRUN echo 7\n"
    assert list(small.changes[-1].case.context) == ["f4"]
    assert len(small.changes) == 1
    text = describe(small, failure, "--changes 3")
    assert "again: python -m tests.fuzz --seed 1 --count 1 --changes 3\n" in text
    assert "RUN echo 7" in text


def test_the_instruction_that_the_excerpt_marks_is_taken_out() -> None:
    heredoc = "COPY <<E /x\nline\nE"
    case = Case(
        1, head=("ARG A",), stages=(Stage("s0", "base", ("ENV A=1", heredoc)), Stage("s1", "base", ("RUN false", "RUN true")))
    )
    assert case.dockerfile().splitlines()[7] == "RUN false"
    text = "   7 |     FROM base AS s1\n   8 | >>> RUN false\n   9 |     RUN true\n"
    smaller = _without_failing(case, Outcome(1, "", "", "", text=text))
    assert smaller is not None
    assert [s.instructions for s in smaller.stages] == [("ENV A=1", heredoc), ("RUN true",)]
