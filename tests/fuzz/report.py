"""A failure as text: how to repeat it, what was built, what was changed, where the two sides differ."""

from __future__ import annotations

import difflib

from tests.fuzz.cases import Scenario
from tests.fuzz.invariants import Failure


def describe(scenario: Scenario, failure: Failure | None = None, flags: str = "") -> str:
    """All that a person needs to see the failure; without one, the scenario alone. ``flags``: those of the command that
    repeats it, beside the seed."""
    seed = scenario.first.seed
    parts = ["=" * 100]
    if failure is not None:
        parts += [
            f"BROKEN: {failure.invariant}",
            f"again: python -m tests.fuzz --seed {seed} --count 1 {flags}",
            "",
            failure.text,
            "",
        ]
    else:
        parts.append(f"seed {seed}")
    parts.append(scenario.first.show())
    before = scenario.first.show()
    for number, change in enumerate(scenario.changes, 1):
        after = change.case.show()
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
        how = "" if change.in_place else " (files are replaced)"
        parts += [
            f"--- change {number}: {change.name}{how}",
            *(line for line in lines if not line.startswith(("---", "+++", "@@"))),
        ]
        before = after
    return "\n".join(parts)
