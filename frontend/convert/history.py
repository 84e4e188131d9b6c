"""``created_by`` texts of the history, as BuildKit writes them: much of it is Go's print formatting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.text.durations import format_duration
from builder.text.quoting import quote

if TYPE_CHECKING:
    from builder.oci.image import Healthcheck
    from frontend.instructions.types import KeyValuePairOptional

COMMENT = "buildkit.dockerfile.v0"


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
        f"{{Test:{words(check.test)} Interval:{format_duration(check.interval)} Timeout:{format_duration(check.timeout)} "
        f"StartPeriod:{format_duration(check.start_period)} StartInterval:{format_duration(check.start_interval)} "
        f"Retries:{check.retries}}}"
    )
