"""Values in the forms that Go's libraries read: numbers, sizes, CSV fields. All raise ``ParseError``."""

from __future__ import annotations

from builder.text.chars import byte_length
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
    """One line of CSV (tonistiigi/go-csvvalue): comma-separated, ``"..."`` with ``""`` for a quote."""
    if line.endswith("\n"):
        line = line[:-2] if line.endswith("\r\n") else line[:-1]
    if not line:
        raise ParseError("EOF")
    fields: list[str] = []
    pos = 0
    while True:
        if line.startswith('"', pos):
            field, pos = _quoted_field(line, pos)
        else:
            end = line.find(",", pos)
            end = len(line) if end < 0 else end
            field = line[pos:end]
            bare = field.find('"')
            if bare >= 0:
                raise _csv_error(line[: pos + bare], 'bare " in non-quoted field')
            pos = end
        fields.append(field)
        if pos == len(line):
            return fields
        pos += 1  # the comma


def _quoted_field(line: str, pos: int) -> tuple[str, int]:
    parts: list[str] = []
    pos += 1
    while True:
        end = line.find('"', pos)
        if end < 0:
            raise _csv_error(line[:pos], 'extraneous or missing " in quoted-field')
        parts.append(line[pos:end])
        pos = end + 1
        if not line.startswith('"', pos):
            break
        parts.append('"')
        pos += 1
    if pos < len(line) and line[pos] != ",":
        raise _csv_error(line[: pos - 1], 'extraneous or missing " in quoted-field')
    return "".join(parts), pos


def _csv_error(before: str, cause: str) -> ParseError:
    return ParseError(f"parse error on line 1, column {byte_length(before) + 1}: {cause}")
