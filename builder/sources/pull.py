"""When a registry is asked what a tag means: the values of ``--pull``."""

from __future__ import annotations

from builder.config import parse_duration_ns
from builder.text.times import NS
from builder.values import dataclass

DAY = 86400.0
_LONG_UNITS = {"d": DAY, "w": 7 * DAY}


@dataclass(frozen=True, slots=True)
class PullPolicy:
    """``max_age``: seconds for which an earlier answer counts, None for ever. ``own``: an image of that name in the own store is
    what is meant. ``fallback``: where the registry can't be asked, whatever is here will do."""

    max_age: float | None = None
    own: bool = True
    fallback: bool = False


MISSING = PullPolicy()
"""Ask for what was never asked for."""
ALWAYS = PullPolicy(0, own=False)
NEWER = PullPolicy(0, own=False, fallback=True)
"""Take what the registry has now, if it can be reached (podman's ``newer``: by digest, never by dates)."""
_NAMED = {"missing": MISSING, "always": ALWAYS, "newer": NEWER}


def parse_pull(text: str) -> PullPolicy:
    """``missing``, ``always``, ``newer``, or how old an answer may be: ``12h``, ``1h30m``, ``7d``. ValueError."""
    if text in _NAMED:
        return _NAMED[text]
    unit = _LONG_UNITS.get(text[-1:])
    try:
        ns = parse_duration_ns(text) if unit is None else parse_duration_ns(text[:-1]) * unit
        seconds = ns / NS
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is none of missing, always, newer, and no duration such as 12h or 7d") from None
    return PullPolicy(seconds)


def age_text(seconds: float) -> str:
    """``41 days ago``; for ages from a day on."""
    days = int(seconds // DAY)
    return "1 day ago" if days == 1 else f"{days} days ago"
