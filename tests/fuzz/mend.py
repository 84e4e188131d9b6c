"""Instructions that fail are taken out of most cases: a build that ends early tests little of what comes after."""

from __future__ import annotations

import random
import re

from builder.values import replace
from tests.fuzz.builds import Outcome, Workshop
from tests.fuzz.cases import Case, Scenario
from tests.fuzz.changes import changed
from tests.fuzz.generate import ALL, generate

MOST = 5


def scenario(seed: int, count: int, shop: Workshop, features: frozenset[str] = ALL) -> Scenario:
    """The scenario of that seed, with ``count`` changes. Four of five are mended first; the others keep what fails."""
    case = generate(seed, features)
    if random.Random(seed).random() < 0.8:
        case = mended(case, shop)
    return changed(case, count)


def mended(case: Case, shop: Workshop) -> Case:
    """Without the instructions at which pybuild's first tries fail."""
    for _ in range(MOST):
        with shop.bench(case) as bench:
            outcome = bench.build(bench.machine())
        if outcome.ok or (smaller := _without_failing(case, outcome)) is None:
            return case
        case = smaller
    return case


def _without_failing(case: Case, outcome: Outcome) -> Case | None:
    """By the line that the error's excerpt of the Dockerfile marks."""
    found = re.search(r"^ *(\d+) \| >>> ", outcome.text, re.MULTILINE)
    if found is None:
        return None
    wanted = int(found[1])
    line = 1 + sum(text.count("\n") + 1 for text in case.head)
    for number, stage in enumerate(case.stages):
        line += 1
        for at, instruction in enumerate(stage.instructions):
            after = line + instruction.count("\n") + 1
            if line <= wanted < after:
                left = stage.instructions[:at] + stage.instructions[at + 1 :]
                some = replace(stage, instructions=left or ("ENV left=nothing",))
                stages = (*case.stages[:number], some, *case.stages[number + 1 :])
                return replace(case, stages=stages)
            line = after
    return None
