"""Truth values as Go's ``strconv.ParseBool`` reads them."""

from __future__ import annotations

from builder.text.quoting import quote

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def parse_bool(text: str) -> bool:
    """ValueError, in Go's words, for what is neither."""
    value = truth_of(text)
    if value is None:
        raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")
    return value


def truth_of(text: str) -> bool | None:
    """The same; None for what is neither."""
    return True if text in _TRUE else False if text in _FALSE else None
