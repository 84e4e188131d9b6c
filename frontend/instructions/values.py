"""Values in the forms that Go's libraries read: numbers, durations, sizes, CSV fields. All raise ``ParseError``."""

from __future__ import annotations

from builder.text.chars import byte_length
from builder.text.quoting import quote
from frontend.errors import ParseError

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SIZE_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_DIGITS = frozenset("0123456789")
_MAX_INT64 = 2**63 - 1


def parse_bool(text: str) -> bool:
    """``strconv.ParseBool``."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ParseError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


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


def parse_duration(text: str) -> int:
    """``time.ParseDuration``, in nanoseconds: ``1h30m``, ``1.5s``, ``-300ms``, ``0``."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise ParseError(f"time: invalid duration {_time_quote(text)}")
    total = 0
    while rest:
        whole, rest = _take(rest, "0123456789")
        fraction = ""
        if rest.startswith("."):
            fraction, rest = _take(rest[1:], "0123456789")
        if not (whole or fraction) or len(whole.lstrip("0")) > 19:
            raise ParseError(f"time: invalid duration {_time_quote(text)}")
        unit, rest = _take_unit(rest)
        if not unit:
            raise ParseError(f"time: missing unit in duration {_time_quote(text)}")
        if unit not in _UNITS_NS:
            raise ParseError(f"time: unknown unit {_time_quote(unit)} in duration {_time_quote(text)}")
        scale = _UNITS_NS[unit]
        fraction = fraction[:18]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        if total > 2**63:
            raise ParseError(f"time: invalid duration {_time_quote(text)}")
    if text[0] == "-":
        return -total
    if total > _MAX_INT64:
        raise ParseError(f"time: invalid duration {_time_quote(text)}")
    return total


def _take(text: str, chars: str) -> tuple[str, str]:
    rest = text.lstrip(chars)
    return text[: len(text) - len(rest)], rest


def _take_unit(text: str) -> tuple[str, str]:
    end = next((i for i, ch in enumerate(text) if ch in "0123456789."), len(text))
    return text[:end], text[end:]


def _time_quote(text: str) -> str:
    """As package time quotes: everything but printable ASCII byte by byte in hexadecimal."""
    out = []
    for byte in text.encode("utf-8", "surrogateescape"):
        if byte in b'"\\':
            out.append("\\" + chr(byte))
        else:
            out.append(chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}")
    return f'"{"".join(out)}"'


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
    if size > _MAX_INT64:
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
