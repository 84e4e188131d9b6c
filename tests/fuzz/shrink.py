"""A smaller scenario that breaks the same rule: pieces are taken away, half of them at once and then fewer, as long as it stays
broken (delta debugging)."""

from __future__ import annotations

from collections.abc import Callable

from builder.values import replace
from tests.fuzz.cases import Case, Scenario
from tests.fuzz.changes import needs
from tests.fuzz.invariants import Failure
from tests.fuzz.trees import Node, tidy

Check = Callable[[Scenario, str], list[Failure]]
_Cut = Callable[[Case], Case]


def shrink(scenario: Scenario, failure: Failure, check: Check, most: int = 100) -> tuple[Scenario, Failure]:
    """The smallest of ``most`` that are tried, with what it breaks. The scenario itself if the failure does not come again."""
    search = _Search(scenario, failure, check, most)
    search.changes()
    size = len(_cuts(search.best))
    while size := size // 2:
        at = 0
        while at < len(cuts := _cuts(search.best)):
            if not search.holds(_everywhere(search.best, cuts[at : at + size])):
                at += size
    return search.best, search.found


class _Search:
    def __init__(self, scenario: Scenario, failure: Failure, check: Check, most: int) -> None:
        self.best, self.found = scenario, failure
        self._check = check
        self._left = most

    def holds(self, smaller: Scenario) -> bool:
        """Whether ``smaller`` breaks the rule too; then it is the best."""
        if self._left <= 0 or smaller == self.best:
            return False
        self._left -= 1
        again = [f for f in self._check(smaller, self.found.invariant) if f.invariant == self.found.invariant]
        if again:
            self.best, self.found = smaller, again[0]
        return bool(again)

    def changes(self) -> None:
        """What came after the failure can't be needed; often only the last change before it is."""
        self.holds(replace(self.best, changes=self.best.changes[: self.found.at]))
        changes = self.best.changes
        if len(changes) > 1 and not self.holds(Scenario(changes[-2].case, changes[-1:])):
            for number in reversed(range(len(changes) - 1)):
                self.holds(replace(self.best, changes=changes[:number] + self.best.changes[number + 1 :]))


def _cuts(scenario: Scenario) -> list[_Cut]:
    """Everything that can be taken away, each from all cases of the scenario."""
    cases = [scenario.first, *(c.case for c in scenario.changes)]
    out: list[_Cut] = [lambda case, name=s.name: _without_stage(case, name) for s in scenario.first.stages]  # type: ignore[misc]
    if any(c.named for c in cases):
        out.append(lambda case: replace(case, named={}))
    if any(c.ignore is not None for c in cases):
        out.append(lambda case: replace(case, ignore=None))
    if any(c.head for c in cases):
        out.append(lambda case: replace(case, head=()))
    if any(c.inside for c in cases):
        out.append(lambda case: replace(case, inside=False))
    for pair in {a: None for c in cases for a in c.args}:
        out.append(lambda case, pair=pair: replace(case, args=tuple(a for a in case.args if a != pair)))  # type: ignore[misc]
    for line in {line: None for c in cases for s in c.stages for line in s.instructions}:
        out.append(lambda case, line=line: _without_line(case, line))  # type: ignore[misc]
    for path in sorted({p for c in cases for p in c.context}):
        out.append(lambda case, path=path: replace(case, context=_without_path(case, path)))  # type: ignore[misc]
    return out


def _everywhere(scenario: Scenario, cuts: list[_Cut]) -> Scenario:
    def cut(case: Case) -> Case:
        for one in cuts:
            case = one(case)
        return case

    return Scenario(cut(scenario.first), tuple(replace(c, case=cut(c.case)) for c in scenario.changes))


def _without_stage(case: Case, name: str) -> Case:
    """Stages and lines that need it go along; the last that is left stays."""
    stages = []
    gone = {name}
    for stage in case.stages:
        if stage.name in gone or stage.base in gone:
            gone.add(stage.name)
            continue
        lines = tuple(x for x in stage.instructions if not any(needs(replace(stage, base="", instructions=(x,)), g) for g in gone))
        stages.append(replace(stage, instructions=lines))
    return replace(case, stages=tuple(stages)) if stages else case


def _without_line(case: Case, line: str) -> Case:
    stages = tuple(replace(s, instructions=tuple(x for x in s.instructions if x != line)) for s in case.stages)
    return replace(case, stages=stages)


def _without_path(case: Case, path: str) -> dict[str, Node]:
    return tidy({p: n for p, n in case.context.items() if p != path})
