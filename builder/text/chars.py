"""How Go sees text, where that shows in results: its white space, its treatment of invalid UTF-8.

Dockerfile text is ``str`` decoded as UTF-8 with ``surrogateescape``: a byte that is no UTF-8 is a lone surrogate.
"""

from __future__ import annotations

# unicode.IsSpace. Python's str.isspace() also takes U+001C..U+001F, which Go leaves in a word.
SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
SPACES = frozenset(SPACE)


def replace_invalid(text: str) -> str:
    """Each undecodable byte becomes U+FFFD, as when Go copies a string rune by rune."""
    if text.isascii():
        return text
    return "".join("\ufffd" if "\ud800" <= ch <= "\udfff" else ch for ch in text)


def byte_chars(text: str) -> str:
    """One character for each byte of the UTF-8 form (some of BuildKit's loops see bytes, not characters)."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def from_byte_chars(text: str) -> str:
    """The reverse of ``byte_chars``."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")


def byte_length(text: str) -> int:
    """Length in bytes of the UTF-8 form."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))
