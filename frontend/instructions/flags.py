"""The flags of an instruction (``--name[=value]`` in front of its arguments)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from builder.values import dataclass
from frontend import suggest
from frontend.errors import ParseError

FlagType: TypeAlias = Literal["bool", "string", "strings"]


@dataclass(frozen=True, slots=True)
class Flags:
    """Flags that were given, in the order of their first use: all values of each (a bool's are "true" or "false")."""

    values: Mapping[str, tuple[str, ...]]

    @property
    def used(self) -> tuple[str, ...]:
        """Names without dashes."""
        return tuple(self.values)

    def string(self, name: str, default: str = "") -> str:
        """The value, or ``default`` where the flag was not given."""
        given = self.values.get(name)
        return given[0] if given else default

    def strings(self, name: str) -> tuple[str, ...]:
        """All values in order."""
        return self.values.get(name, ())

    def boolean(self, name: str) -> bool:
        """False where the flag was not given."""
        return self.string(name) == "true"

    def optional_boolean(self, name: str) -> bool | None:
        """None where the flag was not given."""
        return self.boolean(name) if name in self.values else None


def parse_flags(words: Sequence[str], known: Mapping[str, FlagType]) -> Flags:
    """Check ``words`` against the flags that an instruction knows. Raises ``ParseError``."""
    values: dict[str, tuple[str, ...]] = {}
    for word in words:
        dashed, equals, value = word.partition("=")
        name = dashed[2:]
        kind = known.get(name)
        if kind is None:
            raise suggest.parse_error(f"unknown flag: {dashed}", name, known)
        if name in values and kind != "strings":
            raise ParseError(f"duplicate flag specified: {dashed}")
        values[name] = (*values.get(name, ()), _value(kind, dashed, bool(equals), value))
    return Flags(values)


def _value(kind: FlagType, dashed: str, has_value: bool, value: str) -> str:
    if kind != "bool":
        if not has_value:
            raise ParseError(f"missing a value on flag: {dashed}")
        return value
    if has_value and not value:
        raise ParseError(f"missing a value on flag: {dashed}")
    lowered = value.lower() or "true"
    if lowered not in ("true", "false"):
        raise ParseError(f"expecting boolean value for flag {dashed}, not: {value}")
    return lowered
