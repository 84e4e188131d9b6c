"""Numbers and tables for people."""

from __future__ import annotations

from collections.abc import Sequence

_STEPS = ((60, "second"), (60, "minute"), (24, "hour"), (7, "day"), (5, "week"), (12, "month"), (10**9, "year"))


def human_size(n: int) -> str:
    """``1.234GB``: four digits, decimal units (go-units HumanSize)."""
    size = float(n)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.4g}{unit}"
        size /= 1000
    raise AssertionError


def ago(seconds: float) -> str:
    """``3 minutes ago``."""
    value = max(0, int(seconds))
    for step, unit in _STEPS:
        if value < step:
            return f"{value} {unit}{'' if value == 1 else 's'} ago"
        value //= step
    raise AssertionError


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the left, three spaces apart."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows))
    return "\n".join(lines) + "\n"
