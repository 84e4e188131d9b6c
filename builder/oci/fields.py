"""Fields of a JSON document that somebody else wrote, by their Go types: each accessor gives its type or ``MalformedError``. Pure.

As Go's encoding/json reads them: what is missing or null is the type's zero value, a number for an integer has no fraction and no
exponent and fits 64 bits, bytes and escapes that are no UTF-8 are U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from builder.text.gojson import valid_utf8

_INT64 = 1 << 63


class MalformedError(ValueError):
    """One line: which field, and what is wrong with it."""


def read(data: bytes) -> Fields:
    """The document's object. MalformedError for anything else."""
    return Fields(read_value(data))


def read_value(data: bytes) -> object:
    """The document's value, of whatever kind. MalformedError for what is no JSON."""
    try:
        return json.loads(data.decode("utf-8", "replace"), parse_constant=_no_constant)
    except RecursionError:
        raise MalformedError("the document is nested too deeply") from None
    except ValueError as e:
        raise MalformedError(f"the document is no JSON: {e}") from None


class Fields:
    """An object of a document. ``path`` is what messages call it: ``config.Healthcheck``."""

    __slots__ = ("_value", "path")

    def __init__(self, value: object, path: str = "") -> None:
        self.path = path
        self._value: dict[str, Any] = {}
        if value is not None or not path:
            if not isinstance(value, dict):
                raise MalformedError(f"{path or 'the document'} is no object")
            self._value = value

    def __contains__(self, key: str) -> bool:
        """Is the field there, and not null?"""
        return self._value.get(key) is not None

    def object(self, key: str) -> Fields:
        return Fields(self._value.get(key), self._path(key))

    def objects(self, key: str) -> list[Fields]:
        return [Fields(value, f"{self._path(key)}[{i}]") for i, value in enumerate(self._list(key))]

    def object_lists(self, key: str) -> list[list[Fields]]:
        lists = {f"{key}[{i}]": value for i, value in enumerate(self._list(key))}
        inner = Fields(lists, self.path)
        return [inner.objects(name) for name in lists]

    def text(self, key: str) -> str:
        value = self._value.get(key)
        if value is None:
            return ""
        return self._text(value, self._path(key))

    def texts(self, key: str) -> tuple[str, ...] | None:
        """None for a list that is not there: that is not the empty list."""
        if key not in self:
            return None
        return tuple("" if v is None else self._text(v, f"{self._path(key)}[{i}]") for i, v in enumerate(self._list(key)))

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        """An object of texts, sorted by name."""
        path = self._path(key)
        values = Fields(self._value.get(key), path)._value
        texts = {valid_utf8(k): "" if v is None else self._text(v, f"{path}[{json.dumps(k)}]") for k, v in values.items()}
        return tuple(sorted(texts.items()))

    def names(self, key: str) -> tuple[str, ...]:
        """An object of empty objects, which is Go's set: its names, sorted."""
        path = self._path(key)
        values = Fields(self._value.get(key), path)._value
        for name, value in values.items():
            if value is not None and not isinstance(value, dict):
                raise MalformedError(f"{path}[{json.dumps(name)}] is no object")
        return tuple(sorted({valid_utf8(name) for name in values}))

    def integers(self, key: str) -> tuple[int, ...]:
        numbers = {f"{key}[{i}]": value for i, value in enumerate(self._list(key))}
        return tuple(map(Fields(numbers, self.path).integer, numbers))

    def integer(self, key: str) -> int:
        value = self._value.get(key)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            raise MalformedError(f"{self._path(key)} is no integer")
        if not -_INT64 <= value < _INT64:
            raise MalformedError(f"{self._path(key)} is out of the range of 64 bits")
        return value

    def flag(self, key: str) -> bool:
        value = self._value.get(key)
        if not isinstance(value, bool | None):
            raise MalformedError(f"{self._path(key)} is neither true nor false")
        return bool(value)

    def time(self, key: str) -> str:
        """RFC 3339, as it is written; empty for none."""
        value = self.text(key)
        if value and not _is_time(value):
            raise MalformedError(f"{self._path(key)} is no time in the form of RFC 3339")
        return value

    def _list(self, key: str) -> list[Any]:
        value = self._value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise MalformedError(f"{self._path(key)} is no list")
        return value

    def _path(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    @staticmethod
    def _text(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise MalformedError(f"{path} is no text")
        return valid_utf8(value)


_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SHAPE = "dddd-dd-ddTdd:dd:dd"


def _is_time(text: str) -> bool:
    """``2026-08-21T15:29:35.5Z`` or with ``+02:00`` for ``Z``. By hand: a cached build has the time for no module that does it."""
    head, zone = text[: len(_SHAPE)], text[len(_SHAPE) :]
    if zone.startswith("."):
        rest = zone[1:].lstrip("0123456789")
        if len(rest) == len(zone) - 1:
            return False
        zone = rest
    if "".join("d" if c in "0123456789" else c for c in head) != _SHAPE:
        return False
    if zone != "Z":
        if "".join("d" if c in "0123456789" else c for c in zone[1:]) != "dd:dd" or zone[0] not in "+-":
            return False
        if int(zone[1:3]) > 23 or int(zone[4:]) > 59:
            return False
    year, month, day, hour, minute, second = (int(head[i:j]) for i, j in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19)))
    if year == 0 or not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= day <= (28 if month == 2 and not leap else _DAYS[month - 1])


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
