"""``type=oci,dest=F``: what docker's flags and Dockerfile mounts say in comma lists of ``key=value``. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.errors import UsageError
from builder.text.quoting import quote
from builder.text.strconv import parse_bool
from builder.values import dataclass


def csv_fields(line: str) -> list[str]:
    """One line of CSV (tonistiigi/go-csvvalue): comma-separated, ``"..."`` with ``""`` for a quote. ValueError."""
    if line.endswith("\n"):
        line = line[:-2] if line.endswith("\r\n") else line[:-1]
    if not line:
        raise ValueError("EOF")
    fields: list[str] = []
    pos = 0
    while True:
        if line.startswith('"', pos):
            field, pos = _quoted_field(line, pos)
        else:
            end = line.find(",", pos)
            end = len(line) if end < 0 else end
            field = line[pos:end]
            bare = field.find('"')
            if bare >= 0:
                raise _csv_error(line[: pos + bare], 'bare " in non-quoted field')
            pos = end
        fields.append(field)
        if pos == len(line):
            return fields
        pos += 1  # the comma


def _quoted_field(line: str, pos: int) -> tuple[str, int]:
    parts: list[str] = []
    pos += 1
    while True:
        end = line.find('"', pos)
        if end < 0:
            raise _csv_error(line[:pos], 'extraneous or missing " in quoted-field')
        parts.append(line[pos:end])
        pos = end + 1
        if not line.startswith('"', pos):
            break
        parts.append('"')
        pos += 1
    if pos < len(line) and line[pos] != ",":
        raise _csv_error(line[: pos - 1], 'extraneous or missing " in quoted-field')
    return "".join(parts), pos


def _csv_error(before: str, cause: str) -> ValueError:
    column = len(before.encode("utf-8", "surrogateescape")) + 1
    return ValueError(f"parse error on line 1, column {column}: {cause}")


def flag_fields(text: str, flag: str) -> list[str]:
    """The fields of one value of ``--flag``. UsageError."""
    try:
        return csv_fields(text)
    except ValueError as e:
        cause = "it is empty" if not text.strip() else str(e)
        raise UsageError(f"invalid value {quote(text)} for --{flag}: {cause}") from None


def key_values(fields: Sequence[str], flag: str) -> dict[str, str]:
    """``key=value`` fields of one value of ``--flag``: keys in lower case, the last of a key wins. UsageError for other fields."""
    out: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(f"invalid value {field} for --{flag}: expected key=value")
        out[key.strip().lower()] = value
    return out


@dataclass(frozen=True, slots=True)
class Values:
    """The keys of one value of a flag, once its type is known. ``what`` names it in errors: ``--output type=oci``."""

    what: str
    pairs: Mapping[str, str]

    def get(self, key: str, default: str = "") -> str:
        return self.pairs.get(key, default)

    def required(self, key: str) -> str:
        """UsageError where the key is missing or empty."""
        value = self.pairs.get(key, "")
        if not value:
            raise UsageError(f"{self.what} requires {key}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean in Go's forms; ``key=`` is true. UsageError."""
        value = self.pairs.get(key)
        if value is None:
            return default
        try:
            return not value or parse_bool(value)
        except ValueError:
            raise UsageError(f"{self.what}: non-bool value {value!r} specified for {key}") from None

    def refuse_unknown(self, known: frozenset[str]) -> None:
        """UsageError for the first key that the type does not have: nothing is silently ignored."""
        for key in self.pairs:
            if key not in known:
                hint = "options are " + ", ".join(sorted(known)) if known else "it has no options"
                raise UsageError(f"{self.what}: unknown option {key!r}", hint=hint)
