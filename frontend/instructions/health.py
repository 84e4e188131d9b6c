"""HEALTHCHECK."""

from __future__ import annotations

from builder.text.durations import parse_duration
from builder.text.quoting import quote
from frontend.errors import ParseError
from frontend.instructions.flags import Flags, FlagType, parse_flags
from frontend.instructions.types import HealthConfig
from frontend.instructions.values import parse_int32
from frontend.parser.node import Node

_MILLISECOND = 10**6
_FLAGS: dict[str, FlagType] = {
    "interval": "string", "timeout": "string", "start-period": "string", "start-interval": "string", "retries": "string",
}  # fmt: skip


def parse_health(node: Node) -> HealthConfig:
    """``NONE`` or ``[flags] CMD command``. ``node`` has at least one argument. Raises ``ParseError``."""
    kind, *command = node.args
    kind = kind.upper()
    if kind == "NONE":  # its flags are not looked at, as in BuildKit
        if command:
            raise ParseError("HEALTHCHECK NONE takes no arguments")
        return HealthConfig(("NONE",))
    flags = parse_flags(node.flags, _FLAGS)
    if kind != "CMD":
        raise ParseError(f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)")
    if not command:
        raise ParseError("Missing command after HEALTHCHECK CMD")
    test = ("CMD", *command) if node.json else ("CMD-SHELL", " ".join(command))
    return HealthConfig(
        test,
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags),
    )


def _interval(flags: Flags, name: str) -> int:
    text = flags.string(name)
    try:
        duration = parse_duration(text) if text else 0
    except ValueError as e:
        raise ParseError(str(e)) from None
    if duration and duration < _MILLISECOND:
        raise ParseError(f"Interval {quote(name)} cannot be less than 1ms")
    return duration


def _retries(flags: Flags) -> int:
    text = flags.string("retries")
    retries = parse_int32(text) if text else 0
    if retries < 0:
        raise ParseError(f"--retries cannot be negative ({retries})")
    return retries
