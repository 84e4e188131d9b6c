"""The differences between two images, as data. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

from builder.compare.image import File, Image, Step
from builder.text.times import format_rfc3339
from builder.values import dataclass, fields

ABSENT = "(absent)"
AREAS = ("config", "history", "layer", "file")

_NOTHING = File("", 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs, as text for each side; ABSENT where a side has none.

    ``area`` config: ``subject`` is the key, ``config.Env``, ``created``; ``field`` is ``value``.
    ``area`` history: ``subject`` is the entry's number from 0 and ``field`` one of Step's, or ``entry`` if it is missing;
    ``area`` layer: ``subject`` is the layer's number and ``field`` the name of a member, or ``layer``.
    ``area`` file: ``subject`` is the path, ``field`` one of File's, or ``file``; ``kind`` the type of what is there (pybuild's, if
    the types differ), empty in the other areas.
    """

    area: str
    subject: str
    field: str
    left: str
    right: str
    kind: str = ""


def diff(left: Image, right: Image) -> tuple[Difference, ...]:
    """All differences, sorted by area, subject, field."""
    return (*_config(left, right), *_history(left, right), *_layers(left, right), *_files(left, right))


def _config(left: Image, right: Image) -> Iterator[Difference]:
    for key in sorted({*left.config, *right.config}):
        a, b = (_json(i.config[key]) if key in i.config else ABSENT for i in (left, right))
        if a != b:
            yield Difference("config", key, "value", a, b)


def _history(left: Image, right: Image) -> Iterator[Difference]:
    for number in range(max(len(left.history), len(right.history))):
        a, b = (i.history[number] if number < len(i.history) else None for i in (left, right))
        if a is None or b is None:
            yield Difference("history", str(number), "entry", _step(a), _step(b))
            continue
        for name in (f.name for f in fields(Step)):
            x, y = getattr(a, name), getattr(b, name)
            if x != y:
                yield Difference("history", str(number), name, _text(x), _text(y))


def _layers(left: Image, right: Image) -> Iterator[Difference]:
    """Which names each layer holds. Their content is compared in the flattened tree: a layer's digest changes with any time."""
    for number in range(max(len(left.layers), len(right.layers))):
        a, b = (i.layers[number].names if number < len(i.layers) else None for i in (left, right))
        if a is None or b is None:
            yield Difference("layer", str(number), "layer", _names(a), _names(b))
            continue
        for name in sorted(a ^ b):
            yield Difference("layer", str(number), name, *(("present", ABSENT) if name in a else (ABSENT, "present")))


def _files(left: Image, right: Image) -> Iterator[Difference]:
    for path in sorted({*left.files, *right.files}):
        a, b = left.files.get(path), right.files.get(path)
        if a is None or b is None:
            yield Difference("file", path, "file", _kind(a), _kind(b), (a or b or _NOTHING).type)
            continue
        if a == b:
            continue
        for name in (f.name for f in fields(File)):
            x, y = getattr(a, name), getattr(b, name)
            if x != y:
                yield Difference("file", path, name, _value(name, x), _value(name, y), a.type)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _step(step: Step | None) -> str:
    return ABSENT if step is None else step.created_by


def _names(names: frozenset[str] | None) -> str:
    return ABSENT if names is None else " ".join(sorted(names))


def _kind(file: File | None) -> str:
    return ABSENT if file is None else file.type


def _value(name: str, value: object) -> str:
    if name == "mode" and isinstance(value, int):
        return f"{value:04o}"
    if name == "mtime" and isinstance(value, int):
        return format_rfc3339(value)
    return _text(value)
