"""The lines of a Dockerfile that a message is about, as buildx prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frontend.errors import Range

_RULER = "--------------------\n"


def excerpt(name: str, data: bytes, ranges: Sequence[Range]) -> str:
    """``NAME:LINE`` and the lines with some around them, those of ``ranges`` marked. Empty where there is no line to show."""
    lines = data.decode("utf-8", "replace").split("\n")
    if not ranges or not 1 <= (first := min(r.start for r in ranges)) <= len(lines):
        return ""
    start, end = first, min(max(max(r.end, r.start) for r in ranges), len(lines))
    padding = 4 if start == end else 2
    added = 0
    while added < padding:
        if start > 1:
            start -= 1
            added += 1
        if end != len(lines):
            end += 1
            added += 1
        added += 1
    text = f"{name}:{first}\n{_RULER}"
    for number in range(start, end + 1):
        mark = ">>>" if any(r.start <= number <= max(r.start, r.end) for r in ranges) else "   "
        text += f" {number:3d} | {mark} {lines[number - 1]}\n"
    return text + _RULER
