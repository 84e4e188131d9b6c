"""Regular expressions of Go's regexp package (RE2 syntax) as Python's, for the subset that path patterns can hold.

Differences that matter: an escape of a letter or digit is an error unless it is known, ``[[:alpha:]]`` is a class of
ASCII letters, a ``[`` in a class is a plain character. Raises ``ValueError`` for what Go rejects (``re.compile`` of the
result raises for the rest).
"""

from __future__ import annotations

_SAME_ESCAPES = frozenset("dDsSwWafnrtv")
_OUTSIDE_ESCAPES = {"A": r"\A", "b": r"\b", "B": r"\B", "z": r"\Z"}
_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t ", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_SPECIAL_IN_CLASS = frozenset("[]\\^-&~|")


def to_python(regex: str) -> str:
    """``regex`` in Python's syntax, to be compiled with ``re.ASCII``."""
    out: list[str] = []
    pos = 0
    while pos < len(regex):
        ch = regex[pos]
        if ch == "\\":
            out.append(_escape(regex[pos + 1 : pos + 2], outside=True))
            pos += 2
        elif ch == "[":
            text, pos = _class(regex, pos + 1)
            out.append(text)
        else:
            out.append(ch)
            pos += 1
    return "".join(out)


def _escape(ch: str, *, outside: bool) -> str:
    if not ch:
        raise ValueError("trailing backslash")
    if outside and ch in _OUTSIDE_ESCAPES:
        return _OUTSIDE_ESCAPES[ch]
    if ch in _SAME_ESCAPES or (ch.isascii() and not ch.isalnum()):
        return "\\" + ch
    raise ValueError("invalid escape sequence")


def _class(regex: str, pos: int) -> tuple[str, int]:
    """A class, ``pos`` behind its ``[``; and the position behind it."""
    out = ["["]
    if regex.startswith("^", pos):
        out.append("^")
        pos += 1
    first = True
    while first or not regex.startswith("]", pos):
        if regex.startswith("[:", pos) and (end := regex.find(":]", pos + 2)) >= 0:
            text = _posix_class(regex[pos + 2 : end])
            pos = end + 2
        else:
            text, pos = _range(regex, pos, first)
        out.append(text)
        first = False
    return "".join(out) + "]", pos + 1


def _posix_class(name: str) -> str:
    found = _POSIX_CLASSES.get(name)
    if found is None:
        raise ValueError("invalid character class range")
    return found


def _range(regex: str, pos: int, first: bool) -> tuple[str, int]:
    """One character or ``a-b``. A bare ``-`` counts at the ends of a class only."""
    if regex.startswith("-", pos) and not first and regex[pos + 1 : pos + 2] != "]":
        raise ValueError("invalid character class range")
    low, pos = _class_char(regex, pos)
    if regex.startswith("-", pos) and regex[pos + 1 : pos + 2] not in ("", "]"):
        high, pos = _class_char(regex, pos + 1)
        return f"{low}-{high}", pos
    return low, pos


def _class_char(regex: str, pos: int) -> tuple[str, int]:
    ch = regex[pos : pos + 1]
    if not ch:
        raise ValueError("missing closing ]")
    if ch == "\\":
        return _escape(regex[pos + 1 : pos + 2], outside=False), pos + 2
    return ("\\" + ch if ch in _SPECIAL_IN_CLASS else ch), pos + 1
