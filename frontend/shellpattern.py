"""Patterns of ``${V#p} ${V##p} ${V%p} ${V%%p} ${V/p/r} ${V//p/r}``.

``*`` and ``?`` are wildcards, a backslash takes a wildcard or itself literally; there are no bracket expressions.
As in BuildKit the pattern is a regular expression, so a wildcard does not cross a line end.
"""

from __future__ import annotations

from bisect import bisect_left

from builder.text.automaton import NOT_NEWLINE, ONE, STAR, Automaton, Step
from builder.text.chars import replace_invalid
from frontend.errors import ShellError


def trim_prefix(pattern: str, value: str, *, longest: bool) -> str:
    """``value`` without the shortest (or longest) prefix that ``pattern`` matches."""
    automaton = Automaton([_steps(pattern)])
    text = replace_invalid(value)
    end = automaton.longest(text) if longest else automaton.shortest(text)
    return value[max(end, 0) :]


def trim_suffix(pattern: str, value: str, *, longest: bool) -> str:
    """``value`` without the shortest (or longest) suffix that ``pattern`` matches.

    BuildKit has text and pattern reversed for it, rune by rune: what is no UTF-8 comes back as U+FFFD.
    """
    return trim_prefix(_reverse(replace_invalid(pattern)), replace_invalid(value)[::-1], longest=longest)[::-1]


def replace(pattern: str, replacement: str, value: str, *, replace_all: bool) -> str:
    """``value`` with the first (or each) longest match of ``pattern`` replaced."""
    finder = _Finder(_steps(pattern), replace_invalid(value))
    if replace_all:
        return _replace_all(finder, replacement, value)
    span = finder.find(0)
    return value[: span[0]] + replacement + value[span[1] :] if span else value


class _Finder:
    """The leftmost longest match from a position on.

    Where matches begin is known after one walk from the end, with the pattern reversed; without it each position would have to be
    tried, and the time be the square of the text's length.
    """

    def __init__(self, steps: list[Step], text: str) -> None:
        self._text = text
        self._automaton = Automaton([steps])
        self._starts = [len(text) - n for n in reversed(Automaton([steps[::-1]], floating=True).each_end(text[::-1]))]

    def find(self, position: int) -> tuple[int, int] | None:
        at = bisect_left(self._starts, position)
        if at == len(self._starts):
            return None
        start = self._starts[at]
        return start, self._automaton.longest(self._text, start)


def _replace_all(finder: _Finder, template: str, value: str) -> str:
    """Go's ReplaceAllString: an empty match right behind another match does not count."""
    parts: list[str] = []
    search_from = last_end = 0
    while search_from <= len(value) and (span := finder.find(search_from)):
        start, end = span
        parts.append(value[last_end:start])
        if end > last_end or start == 0:
            parts.append(_fill(template, value[start:end]))
        last_end = end
        search_from = max(end, search_from + 1)
    parts.append(value[last_end:])
    return "".join(parts)


def _fill(template: str, matched: str) -> str:
    """Go's Expand, which ReplaceAllString applies: ``$0`` is the match, other names are empty, ``$$`` is ``$``."""
    first, *others = template.split("$")
    out = [first]
    pending = iter(others)
    for text in pending:
        if not text:  # "$$", or a "$" at the end
            out.append("$" + next(pending, ""))
            continue
        braced = text[0] == "{"
        end = int(braced)
        while end < len(text) and (text[end].isalpha() or text[end].isdecimal() or text[end] == "_"):
            end += 1
        name = text[braced:end]
        if not name or (braced and text[end : end + 1] != "}"):
            out.append("$" + text)
        else:
            out.append((matched if name == "0" else "") + text[end + braced :])
    return "".join(out)


def _steps(pattern: str) -> list[Step]:
    steps: list[Step] = []
    text = replace_invalid(pattern.removeprefix("\ufeff"))
    pos = 0
    while pos < len(text):
        ch, following = text[pos], text[pos + 1 : pos + 2]
        pos += 1
        if ch == "*":
            if steps[-1:] != [(STAR, NOT_NEWLINE)]:  # several in a row match what one does
                steps.append((STAR, NOT_NEWLINE))
        elif ch == "?":
            steps.append((ONE, NOT_NEWLINE))
        elif ch != "\\":
            steps.append((ONE, ch))
        elif following not in ("}", "/"):  # those two are escaped for the sake of ${}, not for the pattern
            if following not in ("*", "?", "\\"):
                bad = following or "\ufffd"
                raise ShellError(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{bad}'")
            steps.append((ONE, following))
            pos += 1
    return steps


def _reverse(pattern: str) -> str:
    """Reversed, but an escape stays in front of its character."""
    out: list[str] = []
    i = 0
    while i < len(pattern):
        step = 2 if pattern[i] == "\\" and i + 1 < len(pattern) else 1
        out.append(pattern[i : i + step])
        i += step
    return "".join(reversed(out))
