"""Filters of ``du`` and ``prune`` in containerd's syntax (containerd/pkg/filters)::

    filter   := selector ("," selector)*         all must match
    selector := field ("." field)* [("==" | "!=" | "~=") value]
    value    := "quoted string" | anything without comma and space

A selector without operator asks whether the field is there. Several filters: one must match.

On the command line they are spelled as buildx spells them: ``key=value``, all must match (``from_flags``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from builder.cache.types import UsageRecord
from builder.errors import UsageError
from builder.values import dataclass

Matcher = Callable[[UsageRecord], bool]
_AGES = frozenset({"until", "unused-for"})
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_FLAGS: dict[str, Matcher] = {
    "inuse": lambda r: r.in_use,
    "mutable": lambda r: r.mutable,
    "immutable": lambda r: not r.mutable,
    "shared": lambda r: r.shared,
    "private": lambda r: not r.shared,
}
"""Fields that are there or not (with an empty value in buildkitd, with "true" here, so that "is not" can be said)."""


@dataclass(frozen=True, slots=True)
class Selector:
    """``operator`` is ``==``, ``!=``, ``~=`` or empty."""

    field: str
    operator: str = ""
    value: str = ""

    def match(self, record: UsageRecord) -> bool:
        value = _field(record, self.field)
        if self.operator == "":
            return value is not None
        if self.operator == "==":
            return value == self.value
        if self.operator == "!=":
            return (value or "") != self.value
        import re

        return re.search(self.value, value or "") is not None


def compile_filters(texts: Iterable[str]) -> Matcher:
    """One matcher for all; everything matches where there are none. UsageError for a malformed one."""
    filters = [parse(text) for text in texts]
    if not filters:
        return lambda _: True
    return lambda record: any(all(s.match(record) for s in selectors) for selectors in filters)


def from_flags(texts: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """(filters, nanoseconds that ``until=24h`` or ``unused-for=24h`` says, 0 where neither does) of ``--filter`` (buildx:
    commands/prune.go, toBuildkitPruneInfo). UsageError for a malformed one.

    ``id=X`` looks for X anywhere in the id; a flag such as ``inuse`` may stand alone or have a truth value.
    """
    from builder.config import parse_duration_ns

    unused_ns = 0
    selectors: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key, value = key.strip().lower(), value.strip()
        if key in selectors or (key in _AGES and not _AGES.isdisjoint(selectors)):
            raise UsageError(f"more than one filter {key!r}", hint="filters expect only one value")
        selectors[key] = ""
        if key in _AGES:
            try:
                unused_ns = parse_duration_ns(value)
            except ValueError as e:
                raise UsageError(f"{key!r} filter expects a duration (e.g., '24h')") from e
        elif key in _FLAGS and (not equals or value.lower() in _TRUTH):
            selectors[key] = key if not equals or _TRUTH[value.lower()] else f"{key}!=true"
        else:
            selectors[key] = _selector(key, value) if equals else text
    joined = ",".join(s for s in selectors.values() if s)
    parse(joined)
    return ((joined,) if joined else ()), unused_ns


def _selector(key: str, value: str) -> str:
    """``type!=x`` and ``type==x`` arrive as the key ``type!``, or with a value that begins with the second sign."""
    import json

    operator = "~=" if key == "id" else "=="
    if key[-1:] in ("!", "~"):
        key, operator = key[:-1], f"{key[-1]}="
    elif value[:1] == "=":
        value, operator = value[1:], "=="
    quoted = value if value[:1] == '"' or not any(c in value for c in ", ") else json.dumps(value)
    return f"{key}{operator}{quoted}"


def parse(text: str) -> tuple[Selector, ...]:
    """The selectors of one filter; none for the empty text. UsageError for a malformed one."""
    if not text:
        return ()
    import re

    selectors: list[Selector] = []
    scanner = re.compile(
        r'\s*(?P<field>(?:[A-Za-z][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*")(?:\.(?:[A-Za-z][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*"))*)\s*'
        r'(?:(?P<operator>==|!=|~=)\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s,]+))?\s*(?P<end>,|$)'
    )
    at = 0
    while True:
        found = scanner.match(text, at)
        if found is None:
            raise UsageError(f"invalid filter {text!r}", hint="filters look like type==regular, id~=^abc, inuse,description!=x")
        value = _unquote(found["value"] or "")
        if found["operator"] == "~=":
            try:
                re.compile(value)
            except re.error as e:
                raise UsageError(f"invalid filter {text!r}: {e}") from None
        selectors.append(Selector(found["field"], found["operator"] or "", value))
        at = found.end()
        if not found["end"]:
            return tuple(selectors)


def _unquote(text: str) -> str:
    if not text.startswith('"'):
        return text
    import json

    try:
        value: str = json.loads(text)
    except ValueError:
        raise UsageError(f"invalid quoting in a filter: {text}") from None
    return value


def _field(record: UsageRecord, name: str) -> str | None:
    """The value of a field, by buildkitd's names; None where the record has none."""
    if name == "id":
        return record.id or None
    if name == "parents":
        return ";".join(record.parents) or None
    if name == "description":
        return record.description or None
    if name == "type":
        return record.record_type or None
    flag = _FLAGS.get(name)
    return "true" if flag is not None and flag(record) else None
