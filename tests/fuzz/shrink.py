"""A smaller scenario that breaks the same rule: pieces are taken away one after another as long as it stays broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from builder.values import replace
from tests.fuzz.cases import Case, Change, Scenario
from tests.fuzz.changes import needs
from tests.fuzz.invariants import Failure
from tests.fuzz.trees import Node, tidy

Check = Callable[[Scenario, str], list[Failure]]


def shrink(scenario: Scenario, failure: Failure, check: Check, most: int = 100) -> tuple[Scenario, Failure]:
    """The smallest of ``most`` that are tried, with what it breaks. The scenario itself if the failure does not come again."""
    best, found = scenario, failure
    tries = 0
    progress = True
    while progress and tries < most:
        progress = False
        for smaller in _smaller(best, found):
            if tries >= most:
                break
            tries += 1
            again = [f for f in check(smaller, failure.invariant) if f.invariant == failure.invariant]
            if again:
                best, found, progress = smaller, again[0], True
                break
    return best, found


def _smaller(scenario: Scenario, failure: Failure) -> Iterator[Scenario]:
    """Coarse pieces first."""
    changes = scenario.changes
    if failure.at < len(changes):
        yield replace(scenario, changes=changes[: failure.at])
    if len(changes) > 1:
        yield replace(scenario, changes=changes[-1:])
        yield Scenario(changes[-2].case, changes[-1:])
        for number in range(len(changes) - 1):
            yield replace(scenario, changes=changes[:number] + changes[number + 1 :])
    cases = [scenario.first, *(c.case for c in changes)]
    for name in [s.name for s in scenario.first.stages[:-1]]:
        yield _everywhere(scenario, lambda case, name=name: _without_stage(case, name))  # type: ignore[misc]
    if len(scenario.first.stages) > 1:
        yield _everywhere(scenario, lambda case: replace(case, stages=case.stages[:-1]))
    if any(c.ignore is not None for c in cases):
        yield _everywhere(scenario, lambda case: replace(case, ignore=None))
    if any(c.head for c in cases):
        yield _everywhere(scenario, lambda case: replace(case, head=()))
    for pair in {a: None for c in cases for a in c.args}:
        yield _everywhere(scenario, lambda case, pair=pair: replace(case, args=tuple(a for a in case.args if a != pair)))  # type: ignore[misc]
    for line in {line: None for c in cases for s in c.stages for line in s.instructions}:
        yield _everywhere(scenario, lambda case, line=line: _without_line(case, line))  # type: ignore[misc]
    if any(c.named for c in cases):
        yield _everywhere(scenario, lambda case: replace(case, named={}))
    for path in sorted({p for c in cases for p in c.context}):
        yield _everywhere(scenario, lambda case, path=path: replace(case, context=_without_path(case, path)))  # type: ignore[misc]
    if any(c.inside for c in cases):
        yield _everywhere(scenario, lambda case: replace(case, inside=False))


def _everywhere(scenario: Scenario, change: Callable[[Case], Case]) -> Scenario:
    return Scenario(change(scenario.first), tuple(_changed(c, change(c.case)) for c in scenario.changes))


def _changed(change: Change, case: Case) -> Change:
    return replace(change, case=case)


def _without_stage(case: Case, name: str) -> Case:
    """Stages and lines that need it go along."""
    stages = []
    gone = {name}
    for stage in case.stages:
        if stage.name in gone or stage.base in gone:
            gone.add(stage.name)
            continue
        lines = tuple(
            line for line in stage.instructions if not any(needs(replace(stage, base="", instructions=(line,)), g) for g in gone)
        )
        stages.append(replace(stage, instructions=lines))
    return replace(case, stages=tuple(stages)) if stages else case


def _without_line(case: Case, line: str) -> Case:
    stages = tuple(replace(s, instructions=tuple(x for x in s.instructions if x != line)) for s in case.stages)
    return replace(case, stages=stages)


def _without_path(case: Case, path: str) -> dict[str, Node]:
    return tidy({p: n for p, n in case.context.items() if p != path})
