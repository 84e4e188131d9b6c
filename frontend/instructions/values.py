"""Values in the forms that Go's libraries read: numbers, sizes, CSV fields. All raise ``ParseError``."""

from __future__ import annotations

from builder.text import fields
from builder.text.quoting import quote
from frontend.errors import ParseError

_SIZE_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_DIGITS = frozenset("0123456789")


def parse_int32(text: str) -> int:
    """``strconv.ParseInt(text, 10, 32)``."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits or not _DIGITS.issuperset(digits):
        raise ParseError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    value = int(digits[-20:]) if len(digits.lstrip("0")) <= 20 else 2**63
    value = -value if text[0] == "-" else value
    if not -(2**31) <= value < 2**31:
        raise ParseError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


def parse_uint32(text: str, base: int) -> int:
    """``strconv.ParseUint(text, base, 32)`` for base 8 or 10, without its error text."""
    if not text or not set("0123456789"[:base]).issuperset(text) or len(text.lstrip("0")) > 11:
        raise ParseError("invalid number")
    value = int(text, base)
    if value >= 2**32:
        raise ParseError("value out of range")
    return value


def parse_ram_in_bytes(text: str) -> int:
    """docker/go-units ``RAMInBytes``: ``64m``, ``1.5 GiB``, ``512``; units are powers of 1024."""
    last = max(text.rfind(ch) for ch in "0123456789. ")
    if last < 0:
        raise ParseError(f"invalid size: '{text}'")
    number, suffix = text[: last + (text[last] != " ")], text[last + 1 :].lower()
    if not number or number.strip("+-0123456789.eE") or "_" in number:
        raise ParseError(f"invalid size: '{text}'")
    try:
        size = float(number)
    except ValueError:
        raise ParseError(f"invalid size: '{text}'") from None
    if size < 0 or size == float("inf"):
        raise ParseError(f"invalid size: '{text}'")
    if suffix not in ("", "b"):
        if suffix[0] not in _SIZE_UNITS or suffix[1:] not in ("", "b", "ib"):
            raise ParseError(f"invalid suffix: '{suffix}'")
        size *= _SIZE_UNITS[suffix[0]]
    if size > 2**63 - 1:
        raise ParseError(f"invalid size: '{text}'")
    return int(size)


def csv_fields(line: str) -> list[str]:
    """One line of CSV, as ``builder.text.fields``."""
    try:
        return fields.csv_fields(line)
    except ValueError as e:
        raise ParseError(str(e)) from None
