"""Owners and modes as ``--chown`` and ``--chmod`` give them."""

from __future__ import annotations

from builder.graph.ops import Owner
from frontend.errors import ConvertError

_MAX_ID = 2**31 - 1
_MAX_MODE = 0o7777


def parse_owner(text: str) -> Owner:
    """``user[:group]``, names or numbers. ``root`` and an empty part are 0, as in BuildKit."""
    user, colon, group = text.partition(":")
    return Owner(_id(user), _id(group) if colon else None)


def _id(text: str) -> str | int:
    if text in ("root", ""):
        return 0
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits.isascii() and digits.isdigit() and -_MAX_ID - 1 <= int(text) <= _MAX_ID:
        return int(text)
    return text


def parse_mode(text: str) -> tuple[int | None, str]:
    """An octal number, or the text of a symbolic mode (``u=rwX,go-w``). Raises ``ConvertError``."""
    if text.isascii() and text.isdigit():
        if text.strip("01234567") or int(text, 8) > _MAX_MODE:
            raise ConvertError(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
        return int(text, 8), ""
    if not _is_symbolic(text):
        if text[:1].isascii() and text[:1].isdigit():
            raise ConvertError(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
        raise ConvertError("invalid syntax")
    return None, text


def _is_symbolic(text: str) -> bool:
    """chmod(1): clauses with commas between, each ``[ugoa...]`` and then operators with ``[rwxXstugo...]``."""
    for clause in text.split(","):
        actions = clause.lstrip("augo")
        if not actions or actions[0] not in "+-=" or actions.strip("+-=rwxXstugo"):
            return False
    return True
