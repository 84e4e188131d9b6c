"""JSON as Go's encoding/json writes it: documents whose digests have to be those that BuildKit and containerd give them. Pure."""

from __future__ import annotations

import json
import re

_ESCAPED = {char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_NO_UTF8 = re.compile("[\ud800-\udfff]")


def text(value: object, *, indent: int | None = None) -> str:
    """Compact, or with ``indent`` as json.MarshalIndent. Bytes that are no UTF-8 stay what ``surrogateescape`` made of them."""
    out = json.dumps(value, separators=(",", ": " if indent else ":"), indent=indent, ensure_ascii=False)
    for char, escape in _ESCAPED.items():
        if char in out:
            out = out.replace(char, escape)
    return out


def valid_utf8(value: str) -> str:
    """What is no UTF-8 (a lone surrogate, of a byte or an escape) is U+FFFD, as Go reads and writes it."""
    return value if value.isascii() else _NO_UTF8.sub("\ufffd", value)


def encode(value: object, *, indent: int | None = None) -> bytes:
    """The same as bytes; what is no UTF-8 is U+FFFD, a byte each."""
    out = text(value, indent=indent)
    return out.encode() if out.isascii() else _NO_UTF8.sub(r"\\ufffd", out).encode()
