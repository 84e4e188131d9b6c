"""``--resource NAME=VALUE`` and the older flags of ``docker build`` for the same (buildx: build/utils.go, ParseResourceLimits).

The refusals are those of docker's daemon for a container (daemon/daemon_unix.go, verifyPlatformContainerResources) and BuildKit's
of lists (util/cpuset): the kernel says no more than "invalid argument" to most of these, in the middle of a build.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from builder.errors import UsageError
from builder.graph.ops import LinuxResources
from builder.text.quoting import quote

NAMES = ("memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_MOST = (1 << 63) - 1
_LEAST_MEMORY = 6 << 20
_MAX_CPU = 8192


def parse_resources(entries: Sequence[str]) -> LinuxResources:
    """Of two for one name the later counts. What is zero, or less, is no limit, as buildx sends no such value. UsageError."""
    found: dict[str, int | str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals:
            raise UsageError(f"invalid resource {quote(entry)}, expected key=value", hint="--resource takes memory=1g and the like")
        name, value = name.strip(), value.strip()
        if name not in NAMES:
            raise UsageError(f"unknown resource {quote(name)}", hint="resources are " + ", ".join(NAMES))
        found[name] = _value(name, value)
    numbers = {name: value for name, value in found.items() if isinstance(value, int) and (value > 0 or name == "memory-swap")}
    limits = LinuxResources(
        memory=numbers.get("memory", 0),
        memory_swap=numbers.get("memory-swap", 0),
        cpu_shares=numbers.get("cpu-shares", 0),
        cpu_period=numbers.get("cpu-period", 0),
        cpu_quota=numbers.get("cpu-quota", 0),
        cpuset_cpus=str(found.get("cpuset-cpus", "")),
        cpuset_mems=str(found.get("cpuset-mems", "")),
    )
    _check(limits)
    return limits


def _value(name: str, text: str) -> int | str:
    if name.startswith("cpuset-"):
        _check_list(name, text)
        return text
    if name == "memory-swap" and text == "-1":
        return -1
    if name.startswith("memory"):
        match = _SIZE.fullmatch(text)
        size = int(float(match[1]) * (1 << _SHIFTS[(match[2] or "").lower()])) if match else -1
        if not 0 <= size <= _MOST:
            raise UsageError(f"invalid value {quote(text)} for resource {name}: invalid size", hint="sizes are like 512m, 1.5g")
        return size
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not -_MOST - 1 <= int(text) <= _MOST:
        raise UsageError(f"invalid value {quote(text)} for resource {name}: it takes a whole number")
    return int(text)


def _check_list(name: str, text: str) -> None:
    for part in (part.strip() for part in text.split(",")):
        low, dash, high = part.partition("-")
        ends = [low.strip(), high.strip()] if dash else [low]
        if not part:
            continue
        kind = "range" if dash else "element"
        if not all(re.fullmatch(r"\+?[0-9]{1,18}", end) for end in ends) or int(ends[0]) > int(ends[-1]):
            raise UsageError(f"invalid {name} value: {text}: invalid cpuset {kind} {quote(part)}", hint="lists are like 0-2,4")
        if int(ends[-1]) > _MAX_CPU:
            raise UsageError(f"invalid {name} value: {text}: cpuset {kind} {quote(part)} exceeds maximum {_MAX_CPU}")


def _check(limits: LinuxResources) -> None:
    if 0 < limits.memory < _LEAST_MEMORY:
        raise UsageError("--resource memory: minimum memory limit allowed is 6MB")
    if limits.memory_swap > 0 and not limits.memory:
        raise UsageError("--resource memory-swap needs memory: you should always set the memory limit when using memory-swap")
    if 0 < limits.memory_swap < limits.memory:
        hint = "memory-swap is memory and swap together"
        raise UsageError("--resource memory-swap: minimum memoryswap limit should be larger than memory limit", hint=hint)
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise UsageError("--resource cpu-period can't be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < limits.cpu_quota < 1000:
        raise UsageError("--resource cpu-quota can't be less than 1ms (i.e. 1000)")
