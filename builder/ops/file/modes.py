"""Symbolic modes as chmod(1) has them, by the rules of BSD's setmode(3), which ``COPY --chmod=u=rwX,go=rX`` goes by.

Without ``u``, ``g``, ``o`` or ``a`` a clause is for all three; there is no umask. ``X`` looks at the mode the file had before any
clause, ``go=u`` at what the clauses before made of it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

_UID, _GID, _STICKY = 0o4000, 0o2000, 0o1000
_STANDARD = _UID | _GID | 0o777
_WHO = {"a": _STANDARD, "u": _UID | 0o700, "g": _GID | 0o070, "o": 0o007}
_PERM = {"r": 0o444, "w": 0o222, "x": 0o111}
_SHIFT = {"u": 6, "g": 3, "o": 0}

# (what, operator, bits): what is "set" (operator + or -), "X", or the class whose bits are copied (operator + - =, bits: to whom).
_Command = tuple[str, str, int]


class BadModeError(ValueError):
    """Not a mode."""

    def __init__(self) -> None:
        super().__init__("invalid syntax")


def parse_mode(text: str) -> Callable[[int], int]:
    """A function from st_mode (its file type matters for ``X``) to permission bits, up to 0o7777. BadModeError.

    A text that begins with a digit is octal, up to 7777.
    """
    if text[:1].isdigit():
        if not all(c in "01234567" for c in text) or int(text, 8) > 0o7777:
            raise BadModeError
        bits = int(text, 8)
        return lambda mode: bits
    commands = _parse(text)
    return lambda mode: _apply(commands, mode)


def _parse(text: str) -> list[_Command]:
    commands: list[_Command] = []
    for clause in text.split(","):
        rest = clause.lstrip("augo")
        who = 0
        for char in clause[: len(clause) - len(rest)]:
            who |= _WHO[char]
        if not rest:
            raise BadModeError
        copied = False
        while rest:
            operator, rest = rest[0], rest[1:]
            if operator not in "+-=":
                raise BadModeError
            if operator == "=":
                copied = False
            perms = rest[: len(rest) - len(rest.lstrip("rwxXstugo"))]
            rest = rest[len(perms) :]
            who, copied = _operation(commands, who & ~_STICKY, operator, perms, copied)
    return commands


def _operation(commands: list[_Command], who: int, operator: str, perms: str, copied: bool) -> tuple[int, bool]:
    """One operator with its permissions. Gives ``who`` (``t`` adds the sticky bit) and whether ``=`` has had its effect."""
    bits = execute = 0
    for char in perms:
        if char in _PERM:
            bits |= _PERM[char]
        elif char == "s":
            # Of "others" alone there is no set-id, and no sticky bit.
            if who == 0 or who & ~0o007:
                bits |= _UID | _GID
        elif char == "t":
            if who == 0 or who & ~0o007:
                who |= _STICKY
                bits |= _STICKY
        elif char == "X":
            if operator == "-":
                bits |= 0o111
            else:
                execute = 0o111
        else:
            if bits:
                _set(commands, operator, who, bits)
                bits = 0
            if operator == "=":
                copied = True
            if execute:
                commands.append(("X", "+", _of(who, execute)))
                execute = 0
            commands.append((char, operator, who or _STANDARD))
    if bits or (operator == "=" and not copied):
        if operator == "=":
            copied = True
        _set(commands, operator, who, bits)
    if execute:
        commands.append(("X", "+", _of(who, execute)))
    return who, copied


def _of(who: int, bits: int) -> int:
    return who & bits if who else bits


def _set(commands: list[_Command], operator: str, who: int, bits: int) -> None:
    if operator == "=":
        commands.append(("set", "-", who or _STANDARD))
        operator = "+"
    commands.append(("set", operator, _of(who, bits)))


def _apply(commands: list[_Command], st_mode: int) -> int:
    old = new = stat.S_IMODE(st_mode)
    for what, operator, bits in commands:
        if what == "X":
            if old & 0o111 or stat.S_ISDIR(st_mode):
                new |= bits
        elif what == "set":
            new = new | bits if operator == "+" else new & ~bits
        else:
            value = new >> _SHIFT[what] & 0o007
            for shift, reads in ((6, 0o400), (3, 0o040), (0, 0o004)):
                if not bits & reads:
                    continue
                if operator != "+":
                    new &= ~((0o007 if operator == "=" else value) << shift)
                if operator != "-":
                    new |= value << shift
    return new
