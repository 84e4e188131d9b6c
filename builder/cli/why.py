"""Plans and explanations of builds as text and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from builder.text.gojson import JSONObject
from builder.text.times import NS
from builder.values import asdict

if TYPE_CHECKING:
    from builder import Difference, Miss, PlannedVertex

_SHOWN_FILES = 20
_SHOWN_VALUE = 80
_REASONS = {
    "first": "there is no earlier record of it",
    "gone": "the same was built before, its result is not in the cache any more",
    "failed": "it failed the last time",
    "ignored": "the cache is ignored (--no-cache)",
}


def misses_text(misses: Sequence[tuple[Miss, str]]) -> str:
    """A paragraph for each of (miss, verb); ``verb`` is "ran", "would run"..."""
    lines: list[str] = []
    for miss, verb in misses:
        lines.append(printable(miss.step.name))
        when = "" if miss.since_ns is None else f" (record of {_date(miss.since_ns)})"
        points = list(_points(miss.differences)) or [_REASONS[miss.reason]]
        lines.append(f"    {verb}: {points[0]}{when}")
        lines += [f"    {' ' * len(verb)}  {point}" for point in points[1:]]
    return "".join(line + "\n" for line in lines)


def misses_json(misses: Sequence[tuple[Miss, str]]) -> list[JSONObject]:
    return [_miss_json(miss) | {"verdict": verb} for miss, verb in misses]


def _miss_json(miss: Miss) -> JSONObject:
    step = miss.step
    since = None if miss.since_ns is None else miss.since_ns / NS
    doc: JSONObject = {"name": step.name, "stage": step.stage, "instruction": step.title, "reason": miss.reason, "since": since}
    return doc | {"failed": miss.failed, "differences": [asdict(d) for d in miss.differences]}


def plan_text(steps: Sequence[PlannedVertex]) -> str:
    """A line for each step, and how many would run."""
    lines = [f"{s.verdict:6}  {printable(s.vertex.meta.name or s.vertex.op.kind)}" for s in steps]
    run, maybe = (sum(s.verdict == verdict for s in steps) for verdict in ("run", "maybe"))
    if run or maybe:
        unsure = f", {maybe} more may: that depends on what comes out of others" if maybe else ""
        lines.append(f"{run} of {len(steps)} steps would run{unsure}")
    else:
        lines.append("everything is cached")
    return "".join(line + "\n" for line in lines)


def plan_json(steps: Sequence[PlannedVertex]) -> list[JSONObject]:
    return [
        {
            "name": s.vertex.meta.name,
            "stage": s.vertex.meta.stage,
            "instruction": s.vertex.meta.instruction,
            "digest": s.vertex.digest,
            "verdict": s.verdict,
        }
        for s in steps
    ]


def planned_misses(steps: Sequence[PlannedVertex], misses: Mapping[str, Miss]) -> list[tuple[Miss, str]]:
    """Of a plan's steps, in the plan's order."""
    verbs = {"run": "would run", "maybe": "may run"}
    return [(misses[s.vertex.digest], verbs[s.verdict]) for s in steps if s.verdict in verbs and s.vertex.digest in misses]


def past_misses(misses: Sequence[Miss]) -> list[tuple[Miss, str]]:
    """Of a build that was made."""
    return [(miss, "ran, and failed" if miss.failed else "ran") for miss in misses]


def _points(differences: Sequence[Difference]) -> Iterator[str]:
    """Each difference in a few words; files together."""
    files = [d for d in differences if d.kind == "file"]
    for d in differences:
        if d.kind != "file":
            yield _point(d)
        elif d is files[0]:
            names = [f"{printable(f.name) or '.'} {f.change}" for f in files[:_SHOWN_FILES]]
            more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
            yield f"{len(files)} file{' differs' if len(files) == 1 else 's differ'}: {', '.join(names)}{more}"


def _point(d: Difference) -> str:
    name, old, new = printable(d.name), _short(d.old), _short(d.new)
    match d.kind:
        case "instruction":
            return f"the instruction changed: {old} -> {new}"
        case "arg" | "env" | "option":
            what = name if d.kind == "option" else f"{d.kind.upper()} {name}"
            value = f"{old} -> {new}" if d.change == "changed" else new if d.change == "added" else old
            return f"{what} {'changed' if d.change == 'changed' else f'was {d.change}'}: {value}"
        case "definition":
            return "another part of its definition changed"
        case "files":
            return f"there are too many files in {name} to name them all"
        case "paths":
            return f"other files of {name} are used"
        case "content":
            return f"the content of {name} changed"
        case "input":
            if d.change != "changed":
                return f"{name} was {d.change} as its input"
            return f"{name} changed: {old} -> {new}" if d.old or d.new else f"it builds on {name}, whose result is another"
    return f"{name} {d.change}"


def _short(text: str) -> str:
    text = printable(text)
    return repr("") if not text else text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 3] + "..."


def printable(text: str) -> str:
    """Names of files may hold anything, a terminal's commands too."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def _date(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // NS))
