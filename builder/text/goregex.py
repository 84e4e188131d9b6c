"""Regular expressions of Go's regexp package (RE2 syntax), for the subset that patternmatcher makes of path patterns.

It holds ``^ $``, ``.*``, ``(.*/)?``, ``[^/]*``, escapes, whatever the classes of a pattern become (a wildcard in a class is
replaced like any other, so that a class may end where nobody thought of it and have a star), and what patternmatcher means to
escape and does not: ``|`` and ``{2,3}``. (Its table of such characters has eight bits for each, theirs are the 15th.)
"""

from __future__ import annotations

from builder.text.automaton import (
    AT_END,
    AT_START,
    AT_WORD,
    EVERY,
    FOLDERS,
    NOT_AT_WORD,
    NOT_NEWLINE,
    ONE,
    OPTIONAL,
    STAR,
    CharSet,
    Step,
)

_ZERO_WIDTH = {"A": AT_START, "b": AT_WORD, "B": NOT_AT_WORD, "z": AT_END}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_Ranges = list[tuple[str, str]]
_LAST = "\U0010ffff"
_CATEGORIES = frozenset("CLMNPSZ")
_MOST_STEPS = 3_300_000  # of one expression; about Go's bound
_DIGITS, _UPPER, _LOWER = ("0", "9"), ("A", "Z"), ("a", "z")
_PERL = {"d": [_DIGITS], "w": [_DIGITS, _UPPER, ("_", "_"), _LOWER], "s": [("\t", "\n"), ("\f", "\r"), (" ", " ")]}
_POSIX = {
    "alnum": [_DIGITS, _UPPER, _LOWER],
    "alpha": [_UPPER, _LOWER],
    "ascii": [("\0", "\x7f")],
    "blank": [("\t", "\t"), (" ", " ")],
    "cntrl": [("\0", "\x1f"), ("\x7f", "\x7f")],
    "digit": [_DIGITS],
    "graph": [("!", "~")],
    "lower": [_LOWER],
    "print": [(" ", "~")],
    "punct": [("!", "/"), (":", "@"), ("[", "`"), ("{", "~")],
    "space": [("\t", "\r"), (" ", " ")],
    "upper": [_UPPER],
    "word": [_DIGITS, _UPPER, ("_", "_"), _LOWER],
    "xdigit": [_DIGITS, ("A", "F"), ("a", "f")],
}


def parse(regex: str) -> list[list[Step]]:
    """The alternatives of an expression that is searched for (``MatchString``), each as the steps that match a whole text.

    ValueError for what Go rejects.
    """
    out: list[list[Step]] = []
    steps: list[Step] = []
    repeated = False  # was the last thing a repetition? No other may follow at once
    pos = 0
    while pos < len(regex):
        ch, following = regex[pos], regex[pos + 1 : pos + 2]
        again = repeated
        repeated = False
        if ch == "|":
            out.append(_searched(steps))
            steps = []
            pos += 1
        elif regex.startswith("(.*/)?", pos):
            steps.append((FOLDERS, ""))
            pos += 6
            repeated = True
        elif ch == "{" and (counts := _counts(regex, pos)) is not None:
            low, high, pos = counts
            if again or not steps:
                raise ValueError("invalid nested repetition operator, or none to repeat")
            steps += _repeated(steps.pop(), low, high)
            repeated = True
        elif ch == "\\" and following == "Q":
            text, _, _ = regex[pos + 2 :].partition("\\E")
            steps += [(ONE, char) for char in text]
            pos += 4 + len(text)
        elif ch in "^$" or (ch == "\\" and following in _ZERO_WIDTH):
            steps.append((AT_START if ch == "^" else AT_END if ch == "$" else _ZERO_WIDTH[following], ""))
            pos += 1 + (ch == "\\")
        else:
            chars, pos = _single(regex, pos)
            repeated = regex.startswith("*", pos)
            pos += repeated
            steps.append((STAR if repeated else ONE, chars))
        if len(steps) > _MOST_STEPS:
            raise ValueError("expression too large")
    return [*out, _searched(steps)]


def _searched(steps: list[Step]) -> list[Step]:
    """What is searched for has any text before and after it, unless it is held to the start and the end."""
    begin: list[Step] = [(STAR, EVERY)]
    end: list[Step] = [(STAR, EVERY)]
    if steps[:1] == [(AT_START, "")]:
        begin, steps = [], steps[1:]
    if steps[-1:] == [(AT_END, "")]:
        end, steps = [], steps[:-1]
    return begin + _shortened(steps) + end


def _shortened(steps: list[Step]) -> list[Step]:
    """Several equal stars in a row take what one takes."""
    return [step for i, step in enumerate(steps) if not (i and step[0] in (STAR, FOLDERS) and step == steps[i - 1])]


def _counts(regex: str, pos: int) -> tuple[int, int, int] | None:
    """``{2}``, ``{2,}`` or ``{2,3}`` at ``pos``: least, most (-1: any number), the position behind it. None: it is just a brace."""
    end = regex.find("}", pos)
    first, comma, second = regex[pos + 1 : end].partition(",")
    if end < 0 or not _is_count(first) or not (second == "" or _is_count(second)):
        return None
    low, high = int(first[:9]), int(second[:9]) if second else -1 if comma else int(first[:9])
    if max(low, high) > 1000 or 0 <= high < low:
        raise ValueError("invalid repeat count")
    return low, high, end + 1


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and not (len(text) > 1 and text[0] == "0")


def _repeated(step: Step, low: int, high: int) -> list[Step]:
    kind, chars = step
    if high == 0:
        return []
    if kind in (STAR, FOLDERS):
        return [step]  # by way of "\Q\E" between the two
    if kind not in (ONE, OPTIONAL):
        return [step] if low else []
    return [step] * low + ([(STAR, chars)] if high < 0 else [(OPTIONAL, chars)] * (high - low))


def _single(regex: str, pos: int) -> tuple[str | CharSet, int]:
    """What takes one character: a class, an escape, a dot, or the character itself."""
    ch = regex[pos]
    if ch == "[":
        return _class(regex, pos + 1)
    if ch == ".":
        return NOT_NEWLINE, pos + 1
    if ch != "\\":
        if ch in "*+?()":
            raise ValueError(f"unexpected {ch}")  # Go knows them, patternmatcher leaves none
        return ch, pos + 1
    ranges: _Ranges = []
    categories: list[tuple[str, bool]] = []
    end = _group(regex, pos, ranges, categories)
    if end != pos:
        return CharSet(ranges, categories=categories), end
    return _escape(regex, pos)


def _escape(regex: str, pos: int) -> tuple[str, int]:
    """The character that an escape at ``pos`` stands for, and the position behind it."""
    ch = regex[pos + 1 : pos + 2]
    pos += 2
    if ch.isascii() and not ch.isalnum() and ch:
        return ch, pos
    if ch in _CONTROLS:
        return _CONTROLS[ch], pos
    if ch == "0" or (ch and ch in "1234567" and regex[pos : pos + 1] in tuple("01234567")):
        end = pos
        while end < pos + 2 and regex[end : end + 1] in tuple("01234567"):
            end += 1
        return chr(int(ch + regex[pos:end], 8)), end
    digits = regex[pos : pos + 2]
    if ch == "x" and len(digits) == 2 and all(d in "0123456789abcdefABCDEF" for d in digits):
        return chr(int(digits, 16)), pos + 2
    raise ValueError("invalid escape sequence")


def _group(regex: str, pos: int, ranges: _Ranges, categories: list[tuple[str, bool]]) -> int:
    r"""Add ``\d``, ``\pL`` and the like to the set, if one is at ``pos``; the position behind it, or ``pos``."""
    name = regex[pos + 1 : pos + 2] if regex.startswith("\\", pos) else ""
    if name in ("p", "P"):
        letter = regex[pos + 2 : pos + 3]
        if letter not in _CATEGORIES:
            raise ValueError("invalid character class range")
        categories.append((letter, name == "P"))
        return pos + 3
    if name.lower() not in _PERL:
        return pos
    group = _PERL[name.lower()]
    ranges += _left_by(group) if name.isupper() else group
    return pos + 2


def _left_by(ranges: _Ranges) -> _Ranges:
    """The ranges of all other characters; ``ranges`` ascend."""
    out: _Ranges = []
    low = 0
    for first, last in ranges:
        if ord(first) > low:
            out.append((chr(low), chr(ord(first) - 1)))
        low = ord(last) + 1
    return [*out, (chr(low), _LAST)]


def _class(regex: str, pos: int) -> tuple[CharSet, int]:
    """A class, ``pos`` behind its ``[``; and the position behind it."""
    negated = regex.startswith("^", pos)
    pos += negated
    ranges: _Ranges = []
    categories: list[tuple[str, bool]] = []
    first = True
    while first or not regex.startswith("]", pos):
        first = False
        if regex.startswith("[:", pos) and (end := regex.find(":]", pos + 2)) >= 0:
            name = regex[pos + 2 : end]
            group = _POSIX.get(name.removeprefix("^"))
            if group is None:
                raise ValueError("invalid character class range")
            ranges += _left_by(group) if name.startswith("^") else group
            pos = end + 2
            continue
        end = _group(regex, pos, ranges, categories)
        if end != pos:
            pos = end
            continue
        low, pos = _class_char(regex, pos)
        high = low
        if regex.startswith("-", pos) and regex[pos + 1 : pos + 2] not in ("", "]"):
            high, pos = _class_char(regex, pos + 1)
        if low > high:
            raise ValueError("invalid character class range")
        ranges.append((low, high))
    return CharSet(ranges, categories=categories, negated=negated), pos + 1


def _class_char(regex: str, pos: int) -> tuple[str, int]:
    ch = regex[pos : pos + 1]
    if not ch:
        raise ValueError("missing closing ]")
    return _escape(regex, pos) if ch == "\\" else (ch, pos + 1)
