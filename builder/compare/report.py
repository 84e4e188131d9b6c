"""A comparison as text for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from builder.compare.diff import Difference
from builder.values import asdict

if TYPE_CHECKING:
    from builder.compare.run import Comparison

_WIDTH = 160
_TITLES = {"config": "configuration", "history": "history", "layer": "layers", "file": "files"}


def as_text(comparison: Comparison, *, verbose: bool = False) -> str:
    """Times, the differences that count, and how many are rightful; ``verbose`` lists these with their reasons too."""
    return "\n".join(_lines(comparison, verbose)) + "\n"


def as_json(comparison: Comparison) -> str:
    """One document: equal, builders with seconds, differences, rightful (each with its reason)."""
    doc = {
        "equal": comparison.equal,
        "builders": [
            {"name": t.builder, "version": t.version, "cold_seconds": _round(t.cold), "cached_seconds": _round(t.cached)}
            for t in (comparison.pybuild, comparison.other)
        ],
        "differences": [_difference(d) for d in comparison.result.wrong],
        "rightful": [{**_difference(d), "reason": rule.reason} for d, rule in comparison.result.rightful],
    }
    return json.dumps(doc, indent=2, ensure_ascii=False) + "\n"


def _difference(difference: Difference) -> dict[str, str]:
    doc = asdict(difference)
    return {"area": doc["area"], "subject": doc["subject"], "field": doc["field"], "pybuild": doc["left"], "other": doc["right"]}


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _lines(comparison: Comparison, verbose: bool) -> Iterator[str]:
    timings = (comparison.pybuild, comparison.other)
    wide = max(len(t.version) for t in timings)
    yield f"{'':{wide}}  {'cold':>9}  {'cached':>9}"
    for t in timings:
        yield f"{t.version:{wide}}  {_seconds(t.cold):>9}  {_seconds(t.cached):>9}"
    yield ""
    name = comparison.other.builder
    for area, found in groupby(comparison.result.wrong, key=lambda d: d.area):
        yield f"{_TITLES[area]}:"
        for d in found:
            yield from _entry(d, name)
    rightful = comparison.result.rightful
    if verbose and rightful:
        yield "rightful:"
        for d, rule in rightful:
            yield from _entry(d, name)
            yield f"      because: {rule.reason}"
    wrong = len(comparison.result.wrong)
    verdict = "equal" if comparison.equal else f"different: {wrong} {'difference' if wrong == 1 else 'differences'}"
    if rightful:
        verdict += f" ({len(rightful)} rightful{'' if verbose else ', --verbose lists them'})"
    yield verdict


def _entry(d: Difference, other: str) -> Iterator[str]:
    yield f"  {_label(d)}"
    wide = max(len("pybuild"), len(other))
    for side, value in (("pybuild", d.left), (other, d.right)):
        yield f"    {side:{wide}}  {_short(value)}"


def _label(d: Difference) -> str:
    if d.area == "config":
        return d.subject
    if d.area == "file":
        return f"{d.subject}: {d.field}"
    return f"{d.area} {d.subject}: {d.field}"


def _short(text: str) -> str:
    plain = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return plain if len(plain) <= _WIDTH else plain[: _WIDTH - 3] + "..."


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}s"
