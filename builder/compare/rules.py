"""Differences that are right: rules with a reason, read from TOML, applied to a diff.

A file of rules is a list of tables ``[[rule]]``:

    builder = "buildah 1.*"         glob over the other builder's name and version, as the report shows them; default "*"
    dockerfile = "*/Dockerfile"     glob over the Dockerfile's path as it was given; default "*"
    area = "history"                config, history, layer or file
    subject = "*"                   glob over Difference.subject; * also matches "/"; default "*"
    field = "created_by"            glob over Difference.field; default "*"
    kind = "directory"              glob over Difference.kind; default "*"
    when = "made-by-build"          condition on the two values; default: none
    pybuild = "..."                 regular expression that pybuild's whole value matches; default: any
    other = "..."                   and the other builder's
    reason = "..."                  why this is no mistake; required

Conditions:
    made-by-build         both values are times, and neither lies before the comparison began
    other-made-by-build   both are times, and the other builder's does not lie before that
    next-second           both are times, and the other builder's is a second later at most
    both-empty            both sides say nothing, one by leaving the key out and the other by null, "", [], {} or false
    mount-point           the path is the target of a RUN --mount of the Dockerfile, or a folder above one
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from builder.compare.diff import ABSENT, AREAS, Difference
from builder.compare.types import CompareError
from builder.text.times import NS, parse_rfc3339
from builder.values import dataclass

RIGHTFUL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rightful.toml")

_EMPTY = {ABSENT, "null", '""', "[]", "{}", "false", ""}


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions are about: name and version of the other builder, when the comparison began (seconds of the epoch), the path
    of the Dockerfile, and the targets of its mounts with the folders above them."""

    builder: str
    since: float
    dockerfile: str = ""
    mount_points: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """See the module's text."""

    area: str
    reason: str
    builder: str = "*"
    dockerfile: str = "*"
    subject: str = "*"
    field: str = "*"
    kind: str = "*"
    when: str = ""
    pybuild: str = ""
    other: str = ""

    def covers(self, difference: Difference, facts: Facts) -> bool:
        return (
            self.area == difference.area
            and fnmatchcase(facts.builder, self.builder)
            and fnmatchcase(facts.dockerfile, self.dockerfile)
            and fnmatchcase(difference.subject, self.subject)
            and fnmatchcase(difference.field, self.field)
            and fnmatchcase(difference.kind, self.kind)
            and (not self.pybuild or re.fullmatch(self.pybuild, difference.left, re.DOTALL) is not None)
            and (not self.other or re.fullmatch(self.other, difference.right, re.DOTALL) is not None)
            and _CONDITIONS[self.when](difference, facts)
        )


@dataclass(frozen=True, slots=True)
class Sorted:
    """A diff, parted: what counts, and what a rule covers, with the rule."""

    wrong: tuple[Difference, ...]
    rightful: tuple[tuple[Difference, Rule], ...]


def sort_out(differences: Iterable[Difference], rules: Sequence[Rule], facts: Facts) -> Sorted:
    """The first rule that covers a difference has it."""
    wrong: list[Difference] = []
    rightful: list[tuple[Difference, Rule]] = []
    for difference in differences:
        rule = next((r for r in rules if r.covers(difference, facts)), None)
        if rule is None:
            wrong.append(difference)
        else:
            rightful.append((difference, rule))
    return Sorted(tuple(wrong), tuple(rightful))


def load_rules(path: str = RIGHTFUL) -> tuple[Rule, ...]:
    """The rules of a file. CompareError names the rule that is wrong."""
    import tomllib

    try:
        with open(path, "rb") as f:
            tables = tomllib.load(f)
    except OSError as e:
        raise CompareError(f"{path}: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise CompareError(f"{path}: {e}") from e
    found = tables.pop("rule", [])
    if tables or not isinstance(found, list):
        raise CompareError(f"{path}: expected [[rule]] tables, found {', '.join(sorted(tables)) or 'rule'}")
    return tuple(_rule(table, f"{path}: rule {number}") for number, table in enumerate(found, 1))


def _rule(table: object, where: str) -> Rule:
    if not isinstance(table, dict):
        raise CompareError(f"{where} is no table")
    for key, value in table.items():
        if key not in Rule.__slots__:
            raise CompareError(f"{where}: unknown key {key!r}")
        if not isinstance(value, str):
            raise CompareError(f"{where}: {key} is not a string")
    for key in ("area", "reason"):
        if not table.get(key):
            raise CompareError(f"{where} has no {key}")
    rule = Rule(**table)
    if rule.area not in AREAS:
        raise CompareError(f"{where}: unknown area {rule.area!r}", hint=f"areas are {', '.join(AREAS)}")
    if rule.when not in _CONDITIONS:
        known = ", ".join(c for c in _CONDITIONS if c)
        raise CompareError(f"{where}: unknown condition {rule.when!r}", hint=f"conditions are {known}")
    for pattern in (rule.pybuild, rule.other):
        try:
            re.compile(pattern)
        except re.error as e:
            raise CompareError(f"{where}: {pattern!r}: {e}") from e
    return rule


def _made_by_build(difference: Difference, facts: Facts) -> bool:
    ours = _seconds(difference.left)
    return ours is not None and ours >= int(facts.since) and _other_made_by_build(difference, facts)


def _other_made_by_build(difference: Difference, facts: Facts) -> bool:
    ours, other = _seconds(difference.left), _seconds(difference.right)
    return ours is not None and other is not None and other >= int(facts.since)


def _next_second(difference: Difference, facts: Facts) -> bool:
    ours, other = _seconds(difference.left), _seconds(difference.right)
    return ours is not None and other is not None and 0 < other - ours <= 1


def _seconds(text: str) -> float | None:
    """Seconds of the epoch of an RFC 3339 time, quoted or not; None if it is none."""
    try:
        return parse_rfc3339(text.strip('"')) / NS
    except ValueError:
        return None


_CONDITIONS: dict[str, Callable[[Difference, Facts], bool]] = {
    "": lambda difference, facts: True,
    "made-by-build": _made_by_build,
    "next-second": _next_second,
    "other-made-by-build": _other_made_by_build,
    "both-empty": lambda difference, facts: difference.left in _EMPTY and difference.right in _EMPTY,
    "mount-point": lambda difference, facts: difference.subject in facts.mount_points,
}
