"""Filters of ``du`` and ``prune`` in containerd's syntax (containerd/pkg/filters)::

    filter   := selector ("," selector)*         all must match
    selector := field ("." field)* [("==" | "!=" | "~=") value]
    value    := "quoted string" | anything without comma and space

A selector without operator asks whether the field is there. Several filters: one must match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from builder.cache.types import UsageRecord
from builder.errors import UsageError
from builder.graph.values import dataclass

Matcher = Callable[[UsageRecord], bool]


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
    """None where the field is not there: the names are those of buildkitd."""
    if name == "id":
        return record.id or None
    if name == "parents":
        return ";".join(record.parents) or None
    if name == "description":
        return record.description or None
    if name == "type":
        return record.record_type or None
    flags = {
        "inuse": record.in_use,
        "mutable": record.mutable,
        "immutable": not record.mutable,
        "shared": record.shared,
        "private": not record.shared,
    }
    return "" if flags.get(name) else None
