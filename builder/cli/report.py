"""Errors and warnings as the user sees them: one line of cause, the Dockerfile's lines, the step's output, a hint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from builder.text.gojson import valid_utf8
from builder.text.redact import redact_text

CONTEXT_LINES = 2


def excerpt(name: str, text: bytes, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """The lines of a Dockerfile around ``ranges``, those inside marked ``>>>``; BuildKit's form (errdefs/source.go)."""
    if not ranges:
        return []
    lines = text.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")
    first, last = ranges[0][0], max(end for _, end in ranges)
    if first < 1 or first > len(lines):
        return []
    begin, end = max(1, first - CONTEXT_LINES), min(len(lines), last + CONTEXT_LINES)
    marked = {n for start, stop in ranges for n in range(start, stop + 1)}
    rule = "-" * 20
    rows = [f"{n:4d} | {'>>>' if n in marked else '   '} {lines[n - 1]}".rstrip() for n in range(begin, end + 1)]
    return [f"{name}:{first}", rule, *rows, rule]


def failure(message: str, *, output: Iterable[str] = (), title: str = "", source: Sequence[str] = (), hint: str = "") -> str:
    """The text of a failed build, for standard error. Credentials of URLs are masked, not in ``output``: a step's own words."""
    parts: list[str] = []
    lines = list(output)
    if lines:
        parts += ["------", f" > {redact_text(title)}:", *lines, "------"]
    parts += map(redact_text, source)
    parts.append(f"ERROR: {redact_text(message)}")
    if hint:
        parts.append(f"hint: {redact_text(hint)}")
    return valid_utf8("\n".join(parts) + "\n").replace("\0", "\ufffd")
