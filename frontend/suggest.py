"""The "did you mean ...?" of error and lint texts (BuildKit's util/suggest)."""

from __future__ import annotations

from collections.abc import Iterable

from frontend.errors import ParseError

_TOO_FAR = 3  # an edit distance from here on is no typing error


def search(value: str, options: Iterable[str], *, case_sensitive: bool = True) -> str:
    """The option nearest to ``value`` by edit distance, or "" if none is near or one is equal.

    Of equally near options (BuildKit takes any) one with the same letters goes first, then the first in sorted order.
    Without ``case_sensitive`` the answer is given in the casing of ``value``.
    """
    wanted = value if case_sensitive else value.lower()
    # With fewer than three edits one of three parts is whole: most options are put aside by that.
    third = (len(wanted) + 2) // 3
    parts = (wanted[:third], wanted[third : 2 * third], wanted[2 * third :])
    best, near = _TOO_FAR, [""]
    for option in options:
        candidate = option if case_sensitive else option.lower()
        if abs(len(candidate) - len(wanted)) > best:
            continue
        if not (parts[0] in candidate or parts[1] in candidate or parts[2] in candidate):
            continue
        if candidate == wanted:
            return ""
        distance = _distance(wanted, candidate, min(best + 1, _TOO_FAR))
        if distance < best:
            best, near = distance, [option]
        elif distance == best < _TOO_FAR:
            near.append(option)
    letters = sorted(wanted.lower())
    found = min(near, key=lambda option: (sorted(option.lower()) != letters, option))
    return found if case_sensitive else _match_case(found.lower(), value)


def hint(value: str, options: Iterable[str], *, case_sensitive: bool = True) -> str:
    """`` (did you mean X?)`` to append to a message, or ""."""
    found = search(value, options, case_sensitive=case_sensitive)
    return f" (did you mean {found}?)" if found else ""


def parse_error(message: str, value: str, options: Iterable[str], *, case_sensitive: bool = True) -> ParseError:
    """A ``ParseError`` whose text ends in the hint, and whose ``suggestion`` is the bare word."""
    found = search(value, options, case_sensitive=case_sensitive)
    text = f"{message} (did you mean {found}?)" if found else message
    return ParseError(text, suggestion=found)


def _distance(a: str, b: str, limit: int) -> int:
    """Levenshtein distance with unit costs, or any number >= ``limit`` if it is not below it."""
    start, shorter = 0, min(len(a), len(b))
    while start < shorter and a[start] == b[start]:
        start += 1
    end = 0
    while end < shorter - start and a[-1 - end] == b[-1 - end]:
        end += 1
    a, b = a[start : len(a) - end], b[start : len(b) - end]
    if abs(len(a) - len(b)) >= limit:
        return limit
    if not a or not b:
        return len(a) or len(b)
    row = list(range(len(b) + 1))
    for i, ch in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            cost = diagonal if ch == other else 1 + min(diagonal, row[j], row[j - 1])
            diagonal, row[j] = row[j], cost
        if min(row) >= limit:
            return limit
    return row[-1]


def _match_case(value: str, model: str) -> str:
    if model == model.lower():
        return value.lower()
    if model == model.upper():
        return value.upper()
    return value
