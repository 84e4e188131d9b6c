"""Plans and explanations as people read them."""

from __future__ import annotations

import time

import pytest

from builder.cli.why import misses_json, misses_text, plan_text, printable
from builder.graph.ops import LocalSource
from builder.graph.vertex import Vertex, VertexMeta
from builder.solver.explain import Difference, Miss, Reason, StepRecord
from builder.solver.plan import PlannedVertex, Verdict


def said(*differences: Difference, reason: Reason = "different") -> list[str]:
    """The lines below the step's name."""
    miss = Miss(StepRecord("exec", "s", "RUN x", name="[s 1/1] RUN x"), reason, differences)
    head, *lines = misses_text([(miss, "ran")]).splitlines()
    assert head == "[s 1/1] RUN x"
    return [line.strip().removeprefix("ran: ") for line in lines]


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (Difference("changed", "arg", "VERSION", "1", "2"), "ARG VERSION changed: 1 -> 2"),
        (Difference("added", "arg", "VERSION", "", "2"), "ARG VERSION was added: 2"),
        (Difference("removed", "env", "A", "1"), "ENV A was removed: 1"),
        (Difference("changed", "env", "A", "1", ""), "ENV A changed: 1 -> ''"),
        (Difference("changed", "option", "workdir", "/a", "/b"), "workdir changed: /a -> /b"),
        (Difference("changed", "instruction", "", "RUN a", "RUN b"), "the instruction changed: RUN a -> RUN b"),
        (Difference("changed", "definition"), "another part of its definition changed"),
        (Difference("changed", "content", "stage x"), "the content of stage x changed"),
        (Difference("changed", "paths", "stage x"), "other files of stage x are used"),
        (Difference("changed", "files", "ctx"), "there are too many files in ctx to name them all"),
        (Difference("changed", "input", "FROM x", "sha256:1", "sha256:2"), "FROM x changed: sha256:1 -> sha256:2"),
        (Difference("changed", "input", "RUN y"), "it builds on RUN y, whose result is another"),
        (Difference("added", "input", "FROM x"), "FROM x was added as its input"),
    ],
)
def test_a_difference_in_words(difference: Difference, text: str) -> None:
    assert said(difference) == [text]


def test_files_are_told_together() -> None:
    files = [Difference("changed", "file", "app.py"), Difference("added", "file", "new.txt")]
    assert said(*files) == ["2 files differ: app.py changed, new.txt added"]
    assert said(files[0]) == ["1 file differs: app.py changed"]
    (line,) = said(*(Difference("removed", "file", str(i)) for i in range(30)))
    assert line.startswith("30 files differ: 0 removed, 1 removed")
    assert line.endswith(" and 10 more")


def test_several_differences_have_a_line_each() -> None:
    assert said(Difference("changed", "arg", "A", "1", "2"), Difference("changed", "input", "RUN y")) == [
        "ARG A changed: 1 -> 2",
        "it builds on RUN y, whose result is another",
    ]


@pytest.mark.parametrize(
    ("reason", "text"),
    [("first", "no earlier record"), ("gone", "not in the cache any more"), ("failed", "failed"), ("ignored", "--no-cache")],
)
def test_reasons_without_differences(reason: Reason, text: str) -> None:
    (line,) = said(reason=reason)
    assert text in line


def test_the_time_of_the_record_is_told() -> None:
    at = int(time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1)))
    miss = Miss(StepRecord("exec", "s", "RUN x", name="RUN x"), "gone", since_ns=at * 10**9)
    assert "(record of 2026-01-02 03:04:05)" in misses_text([(miss, "ran")])


def test_long_values_are_cut() -> None:
    (line,) = said(Difference("changed", "env", "A", "x" * 1000, "y"))
    assert len(line) < 200


def test_names_can_not_command_the_terminal() -> None:
    assert printable("a\x1b[2J\nb\udcff ü") == r"a\x1b[2J\nb\udcff ü"


def test_json_has_everything() -> None:
    miss = Miss(StepRecord("exec", "s", "RUN x", name="n"), "different", (Difference("changed", "arg", "A", "1", "2"),), 5 * 10**9)
    assert misses_json([(miss, "ran")]) == [
        {
            "name": "n",
            "stage": "s",
            "instruction": "RUN x",
            "reason": "different",
            "since": 5.0,
            "failed": False,
            "differences": [{"change": "changed", "kind": "arg", "name": "A", "old": "1", "new": "2"}],
            "verdict": "ran",
        }
    ]


def planned(*verdicts: Verdict) -> list[PlannedVertex]:
    return [PlannedVertex(Vertex(LocalSource(str(i)), meta=VertexMeta(name=f"RUN {i}")), v) for i, v in enumerate(verdicts)]


def test_a_plan_counts() -> None:
    assert plan_text(planned("cached")) == "cached  RUN 0\neverything is cached\n"
    assert plan_text(planned("cached", "run")).splitlines()[1:] == ["run     RUN 1", "1 of 2 steps would run"]
    assert plan_text(planned("run", "maybe")).splitlines()[-1].startswith("1 of 2 steps would run, 1 more may")
