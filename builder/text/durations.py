"""Go's ``time.Duration`` as text, in nanoseconds."""

from __future__ import annotations

_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_LARGE = ((3600 * 10**9, "h"), (60 * 10**9, "m"))
_SMALL = ((10**6, "ms"), (10**3, "µs"))
_DIGITS = "0123456789"
_MAX_INT64 = 2**63 - 1


def parse_duration(text: str) -> int:
    """``time.ParseDuration``: ``1h30m``, ``1.5s``, ``-300ms``, ``0``. ValueError in Go's words."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise _invalid(text)
    total = 0
    while rest:
        whole, rest = _take(rest)
        fraction = ""
        if rest.startswith("."):
            fraction, rest = _take(rest[1:])
        if not (whole or fraction) or len(whole.lstrip("0")) > 19:
            raise _invalid(text)
        end = next((i for i, ch in enumerate(rest) if ch in "0123456789."), len(rest))
        unit, rest = rest[:end], rest[end:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {_quote(text)}")
        if unit not in _UNITS_NS:
            raise ValueError(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
        scale = _UNITS_NS[unit]
        fraction = fraction[:18]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        if total > 2**63:
            raise _invalid(text)
    if text[0] == "-":
        return -total
    if total > _MAX_INT64:
        raise _invalid(text)
    return total


def format_duration(nanoseconds: int) -> str:
    """``Duration.String``: ``1h0m2.5s``, ``1.5ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 10**9:
        for size, unit in _SMALL:
            if rest >= size:
                return f"{sign}{_decimal(rest, size)}{unit}"
        return f"{sign}{rest}ns"
    text = ""
    for size, unit in _LARGE:
        if rest >= size or text:
            text += f"{rest // size}{unit}"
            rest %= size
    return f"{sign}{text}{_decimal(rest, 10**9)}s"


def _decimal(value: int, size: int) -> str:
    whole, fraction = divmod(value, size)
    digits = f"{fraction:0{len(str(size)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def _take(text: str) -> tuple[str, str]:
    """The digits that it begins with, and the rest."""
    rest = text.lstrip(_DIGITS)
    return text[: len(text) - len(rest)], rest


def _invalid(text: str) -> ValueError:
    return ValueError(f"time: invalid duration {_quote(text)}")


def _quote(text: str) -> str:
    """As package time quotes: everything but printable ASCII byte by byte in hexadecimal."""
    out = []
    for byte in text.encode("utf-8", "surrogateescape"):
        if byte in b'"\\':
            out.append("\\" + chr(byte))
        else:
            out.append(chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}")
    return f'"{"".join(out)}"'
