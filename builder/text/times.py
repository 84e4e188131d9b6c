"""RFC 3339 times as Go prints them, to and from nanoseconds since the epoch (floats would lose digits)."""

from __future__ import annotations

import time

NS = 1_000_000_000
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def format_rfc3339(ns: int) -> str:
    """``2026-08-21T15:29:35.5Z``: UTC, the fraction without trailing zeros."""
    seconds, fraction = divmod(ns, NS)
    moment = time.gmtime(seconds)
    text = f"{moment.tm_year:04d}-" + time.strftime("%m-%dT%H:%M:%S", moment)
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since the epoch; ValueError for anything else than RFC 3339.

    Written out: strptime and the module calendar bring the locale and a dozen regular expressions along.
    """
    try:
        if text[4] + text[7] + text[10].upper() + text[13] + text[16] != "--T::":
            raise ValueError
        year, month, day = _number(text[:4]), _number(text[5:7]), _number(text[8:10])
        seconds = _seconds(text[11:13], text[14:16]) + _number(text[17:19])
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if not 1 <= day <= _DAYS[month - 1] - (month == 2 and not leap) or not month or _number(text[17:19]) > 59:
            raise ValueError
        rest, fraction = text[19:], ""
        if rest.startswith("."):
            end = next(i for i, c in enumerate(rest + "Z") if i and c not in "0123456789")
            fraction, rest = rest[1:end], rest[end:]
            if not fraction:
                raise ValueError
        if rest not in ("Z", "z"):
            if rest[0] not in "+-" or rest[3] != ":" or len(rest) != 6:
                raise ValueError
            offset = _seconds(rest[1:3], rest[4:])
            seconds -= offset if rest[0] == "+" else -offset
        before = year - 1
        days = before * 365 + before // 4 - before // 100 + before // 400 + sum(_DAYS[: month - 1]) - (month > 2 and not leap) + day
        return ((days - 719_163) * 86_400 + seconds) * NS + int(fraction[:9].ljust(9, "0"))
    except (ValueError, IndexError):
        raise ValueError(f"not an RFC 3339 time: {text!r}") from None


def _seconds(hours: str, minutes: str) -> int:
    if _number(hours) > 23 or _number(minutes) > 59:
        raise ValueError
    return _number(hours) * 3600 + _number(minutes) * 60


def _number(digits: str) -> int:
    if len(digits) < 2 or not (digits.isascii() and digits.isdigit()):
        raise ValueError
    return int(digits)
