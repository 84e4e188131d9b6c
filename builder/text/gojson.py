"""JSON as Go's encoding/json writes it: digests are made of these bytes, so they have to be BuildKit's.

Text stays UTF-8 but for five characters, which Go escapes so that JSON may stand in HTML and JavaScript. Fields are written in the
order they are in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"
"""A value that can be written."""
JSONObject: TypeAlias = "dict[str, JSON]"
"""A document that is being made."""

_ESCAPED = "<>&\u2028\u2029"


def text(value: JSON, *, indent: int | None = None) -> str:
    """``json.Marshal``, or with ``indent`` ``json.MarshalIndent``. A byte that is no UTF-8 is a lone surrogate still."""
    out = json.dumps(value, indent=indent, separators=(",", ":" if indent is None else ": "), ensure_ascii=False)
    for char in _ESCAPED:
        if char in out:
            out = out.replace(char, f"\\u{ord(char):04x}")
    return out


def valid_utf8(value: str) -> str:
    """What is no UTF-8 (a lone surrogate, of a byte or an escape) is U+FFFD, as Go reads and writes it."""
    return value if value.isascii() else "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in value)


def encode(value: JSON, *, indent: int | None = None) -> bytes:
    """The bytes. For each that is no UTF-8 Go writes the six characters ``\\ufffd``."""
    out = text(value, indent=indent)
    try:
        return out.encode()
    except UnicodeEncodeError:
        return "".join("\\ufffd" if "\ud800" <= char <= "\udfff" else char for char in out).encode()
