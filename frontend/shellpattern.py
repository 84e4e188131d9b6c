"""Patterns of ``${V#p} ${V##p} ${V%p} ${V%%p} ${V/p/r} ${V//p/r}``.

``*`` and ``?`` are wildcards, a backslash takes a wildcard or itself literally; there are no bracket expressions.
As in BuildKit the pattern becomes a regular expression, so a wildcard does not cross a line end.
"""

from __future__ import annotations

import re

from frontend.errors import ShellError


def trim_prefix(pattern: str, value: str, *, longest: bool) -> str:
    """``value`` without the shortest (or longest) prefix that ``pattern`` matches."""
    match = _compile(pattern, longest).match(value)
    return value[match.end() :] if match else value


def trim_suffix(pattern: str, value: str, *, longest: bool) -> str:
    """``value`` without the shortest (or longest) suffix that ``pattern`` matches.

    A regular expression search starts at the left, so text and pattern are both reversed.
    """
    return trim_prefix(_reverse(pattern), value[::-1], longest=longest)[::-1]


def replace(pattern: str, replacement: str, value: str, *, replace_all: bool) -> str:
    """``value`` with the first (or each) longest match of ``pattern`` replaced."""
    regex = _compile(pattern, longest=True)
    if replace_all:
        return _replace_all(regex, replacement, value)
    match = regex.search(value)
    return value[: match.start()] + replacement + value[match.end() :] if match else value


def _replace_all(regex: re.Pattern[str], template: str, value: str) -> str:
    """Go's ReplaceAllString: an empty match right behind another match does not count (``re.sub`` counts it)."""
    parts: list[str] = []
    search_from = last_end = 0
    while search_from <= len(value) and (match := regex.search(value, search_from)):
        start, end = match.span()
        parts.append(value[last_end:start])
        if end > last_end or start == 0:
            parts.append(_fill(template, match.group()))
        last_end = end
        search_from = max(end, search_from + 1)
    parts.append(value[last_end:])
    return "".join(parts)


_TEMPLATE_NAME = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")


def _fill(template: str, matched: str) -> str:
    """Go's Expand, which ReplaceAllString applies: ``$0`` is the match, other names are empty, ``$$`` is ``$``."""
    if "$" not in template:
        return template

    def value_of(reference: re.Match[str]) -> str:
        name = reference.group(1) or reference.group(2)
        if name is None:
            return "$"
        return matched if name == "0" else ""

    return _TEMPLATE_NAME.sub(value_of, template)


def _compile(pattern: str, longest: bool) -> re.Pattern[str]:
    return re.compile(_to_regex(pattern.removeprefix("\ufeff"), ".*" if longest else ".*?", pattern))


def _to_regex(text: str, star: str, pattern: str) -> str:
    out: list[str] = []
    chars = iter(range(len(text)))
    for i in chars:
        ch, following = text[i], text[i + 1 : i + 2]
        if ch == "*":
            if not out or out[-1] != star:  # several stars in a row match what one does, at far higher cost
                out.append(star)
        elif ch == "?":
            out.append(".")
        elif ch != "\\":
            out.append(re.escape(ch))
        elif following not in ("}", "/"):  # those two are escaped for the sake of ${}, not for the pattern
            if following not in ("*", "?", "\\") or not following:
                bad = following or "\ufffd"
                raise ShellError(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{bad}'")
            out.append("\\" + following)
            next(chars)
    return "".join(out)


def _reverse(pattern: str) -> str:
    """Reversed, but an escape stays in front of its character."""
    out: list[str] = []
    i = 0
    while i < len(pattern):
        step = 2 if pattern[i] == "\\" and i + 1 < len(pattern) else 1
        out.append(pattern[i : i + step])
        i += step
    return "".join(reversed(out))
