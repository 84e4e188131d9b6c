"""``created_by`` texts of the history, as BuildKit writes them: much of it is Go's print formatting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.text.quoting import quote

if TYPE_CHECKING:
    from builder.oci.image import Healthcheck
    from frontend.instructions.types import KeyValuePairOptional

COMMENT = "buildkit.dockerfile.v0"
_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"))
_SMALL_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


def words(items: Sequence[str]) -> str:
    """``[a b]`` (``%v`` of a slice)."""
    return f"[{' '.join(items)}]"


def quoted_words(items: Sequence[str]) -> str:
    """``["a" "b"]`` (``%q`` of a slice)."""
    return words([quote(item) for item in items])


def run_text(args: Sequence[str], build_args: Sequence[KeyValuePairOptional], env: Mapping[str, str]) -> str:
    """``|2 A=1 B=2 /bin/sh -c make``: the arguments in scope with their values of now, then the command."""
    values = {arg.key: env.get(arg.key, arg.value_string) for arg in build_args}
    before = [f"|{len(values)}", *(f"{key}={value}" for key, value in values.items())] if values else []
    return " ".join([*before, *args])


def healthcheck_text(check: Healthcheck) -> str:
    """``%+v`` of the struct."""
    return (
        f"{{Test:{words(check.test)} Interval:{duration(check.interval)} Timeout:{duration(check.timeout)} "
        f"StartPeriod:{duration(check.start_period)} StartInterval:{duration(check.start_interval)} Retries:{check.retries}}}"
    )


def duration(nanoseconds: int) -> str:
    """Go's ``time.Duration.String``: ``1h0m2.5s``, ``1.5ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 1_000_000_000:
        for size, unit in _SMALL_UNITS:
            if rest >= size:
                return f"{sign}{_decimal(rest, size)}{unit}"
        return f"{sign}{rest}ns"
    text = ""
    for size, unit in _UNITS:
        if rest >= size or text:
            text += f"{rest // size}{unit}"
            rest %= size
    return f"{sign}{text}{_decimal(rest, 1_000_000_000)}s"


def _decimal(value: int, size: int) -> str:
    whole, fraction = divmod(value, size)
    digits = f"{fraction:0{len(str(size)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
