"""Wildcards in source paths by the rules of Go's ``path.Match``, which BuildKit matches COPY sources with.

``*`` and ``?`` stop at a slash, ``[a-z]`` and ``[^a-z]`` are classes, a backslash takes the next character as it is. There is no
``**`` here: two stars are two times ``*``.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re


class BadPatternError(ValueError):
    """The pattern is malformed; Go finds that whatever the name is."""

    def __init__(self) -> None:
        super().__init__("syntax error in pattern")


def contains_wildcards(text: str) -> bool:
    """Is there a ``*``, ``?`` or ``[`` that no backslash takes as it is?"""
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in "*?[":
            return True
    return False


def split_wildcards(path: str) -> tuple[str, str]:
    """A cleaned path as (folder before the first wildcard, rest); the rest is empty without wildcards."""
    parts = clean(path).split("/")
    for i, part in enumerate(parts):
        if contains_wildcards(part):
            return "/".join(parts[:i]) or ("/" if i else ""), "/".join(parts[i:])
    return "/".join(parts) or "/", ""


def clean(path: str) -> str:
    """Go's ``path.Clean``: POSIX' two leading slashes are one here."""
    out = posixpath.normpath(path) if path else "."
    return out[1:] if out.startswith("//") else out


def compile_glob(pattern: str) -> re.Pattern[str]:
    """A regular expression to be used with ``fullmatch``. BadPatternError for what Go's ErrBadPattern is given for."""
    import re

    out: list[str] = []
    i, end = 0, len(pattern)
    while i < end:
        char = pattern[i]
        i += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, i = _class(pattern, i)
            out.append(text)
        else:
            if char == "\\":
                if i == end:
                    raise BadPatternError
                char = pattern[i]
                i += 1
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _class(pattern: str, i: int) -> tuple[str, int]:
    """The class that begins behind ``[`` at ``i``, and the index behind its ``]``."""
    negated = pattern[i : i + 1] == "^"
    i += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern[i : i + 1] == "]"):
        low, i = _class_char(pattern, i)
        high = low
        if pattern[i] == "-":
            high, i = _class_char(pattern, i + 1)
        ranges.append((low, high))
    # A range from high to low holds nothing (Go compares numbers); re would refuse it.
    inner = "".join(f"\\U{ord(a):08x}-\\U{ord(b):08x}" for a, b in ranges if a <= b)
    if not inner:
        return ("." if negated else "(?!)"), i + 1
    return f"[{'^' if negated else ''}{inner}]", i + 1


def _class_char(pattern: str, i: int) -> tuple[str, int]:
    if pattern[i : i + 1] in ("", "-", "]"):
        raise BadPatternError
    if pattern[i] == "\\":
        i += 1
    # A lone surrogate is a byte that is not UTF-8: Go's RuneError.
    if i >= len(pattern) - 1 or "\ud800" <= pattern[i] <= "\udfff":
        raise BadPatternError
    return pattern[i], i + 1
