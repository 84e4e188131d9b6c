"""RFC 3339 times as Go prints them, to and from nanoseconds since the epoch (floats would lose digits)."""

from __future__ import annotations

import calendar
import time

NS = 1_000_000_000


def format_rfc3339(ns: int) -> str:
    """``2026-08-21T15:29:35.5Z``: UTC, the fraction without trailing zeros."""
    seconds, fraction = divmod(ns, NS)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since the epoch; ValueError for anything else than RFC 3339."""
    try:
        seconds = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        rest, fraction = text[19:], ""
        if rest.startswith("."):
            end = next(i for i, c in enumerate(rest + "Z") if i and not c.isdigit())
            fraction, rest = rest[1:end], rest[end:]
        if rest in ("Z", "z"):
            offset = 0
        elif rest[0] in "+-" and rest[3] == ":" and len(rest) == 6:
            offset = int(rest[0] + "1") * (int(rest[1:3]) * 3600 + int(rest[4:]) * 60)
        else:
            raise ValueError(text)
        return (seconds - offset) * NS + (int(fraction[:9].ljust(9, "0")) if fraction else 0)
    except (ValueError, IndexError) as e:
        raise ValueError(f"not an RFC 3339 time: {text!r}") from e
