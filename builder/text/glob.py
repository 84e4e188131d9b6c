"""Go's ``path.Match``: the wildcards of COPY and ADD sources, and the syntax check of every pattern.

``*`` and ``?`` stop at a slash, ``[a-z]`` and ``[^a-z]`` are classes, a backslash takes the next character as it is. There is no
``**`` here: two stars are one. A pattern is a row of chunks with stars between them, and what a chunk is found at first is kept:
nothing is tried twice, so a name of n bytes costs a pattern of m bytes n*m steps at most. That is Go's algorithm with its accidents
(bytes are skipped, not characters; a class may match a slash, after which an earlier choice is not taken back), so it is not a
regular expression: those of .dockerignore are in ``builder.text.automaton``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from builder.errors import UsageError
from builder.text.paths import clean
from builder.text.quoting import quote

_STAR, _ANY, _OPEN, _ESCAPE, _DASH, _SLASH = b"*?[\\-/"
_RUNE_ERROR = 0xFFFD


class BadPatternError(UsageError, ValueError):
    """A pattern that is malformed; the message names it, and says what it was for (``where``, as BuildKit puts it)."""

    def __init__(self, pattern: str, where: str = "", text: str = "") -> None:
        """``text`` in place of the usual words."""
        super().__init__(where + (text or f"pattern {quote(pattern)}: syntax error in pattern"))
        self.pattern = pattern


Class: TypeAlias = tuple[bool, tuple[tuple[int, int], ...]]
"""Is it negated, and the ranges of code points, ends included."""
Token: TypeAlias = bytes | Class | None
"""A row of literal bytes, a class, or None for ``?``."""


class _MalformedError(Exception):
    """Go's ErrBadPattern."""


class Chunk:
    """What stands between two stars. ``star``: is there one before it? ``last``: nothing comes behind it, not even a star."""

    __slots__ = ("last", "literal", "star", "tokens")

    def __init__(self, star: bool, tokens: tuple[Token, ...], *, last: bool) -> None:
        self.star = star
        self.tokens = tokens
        self.last = last
        first = tokens[0] if len(tokens) == 1 else None
        self.literal = first if isinstance(first, bytes) else b"" if not tokens else None

    def match(self, name: bytes, pos: int) -> int:
        """The end of the chunk where it begins at ``pos``; -1 where it does not."""
        for token in self.tokens:
            if isinstance(token, bytes):
                if not name.startswith(token, pos):
                    return -1
                pos += len(token)
                continue
            if pos >= len(name) or (token is None and name[pos] == _SLASH):
                return -1
            rune, width = _decode(name, pos)
            if token is not None and _in_class(token, rune) is token[0]:
                return -1
            pos += width
        return pos

    def find(self, name: bytes, pos: int, limit: int) -> int:
        """The end of the first place from ``pos`` to ``limit`` where it begins (and ends the name, if it is the last), or -1."""
        if self.literal is not None:
            if self.last:
                start = len(name) - len(self.literal)
                return len(name) if pos <= start <= limit and name.endswith(self.literal) else -1
            start = name.find(self.literal, pos, limit + len(self.literal))
            return start if start < 0 else start + len(self.literal)
        for start in range(pos, limit + 1):
            end = self.match(name, start)
            if end >= 0 and (not self.last or end == len(name)):
                return end
        return -1


class Glob:
    """A pattern of ``path.Match``, read once. BadPatternError for what Go's ErrBadPattern is given for, whatever the name is."""

    __slots__ = ("_chunks",)

    def __init__(self, pattern: str) -> None:
        try:
            self._chunks = tuple(_chunks(to_bytes(pattern)))
        except _MalformedError:
            raise BadPatternError(pattern) from None

    def match(self, name: str) -> bool:
        """Does the pattern match all of ``name``?"""
        return _match(self._chunks, to_bytes(name))

    def components(self) -> list[Glob] | None:
        """A pattern for each folder on the way and for the last name, which together match what this one does.

        None where that can't be: in Go a class may match a slash.
        """
        out: list[list[tuple[bool, list[Token]]]] = [[]]
        for chunk in self._chunks:
            out[-1].append((chunk.star, []))
            for token in chunk.tokens:
                if isinstance(token, tuple) and _in_class(token, _SLASH) is not token[0]:
                    return None
                if not isinstance(token, bytes):
                    out[-1][-1][1].append(token)
                    continue
                for i, piece in enumerate(token.split(b"/")):
                    if i:
                        out.append([(False, [])])
                    if piece:
                        out[-1][-1][1].append(piece)
        return [_of_chunks([c for c in component if c[0] or c[1]]) for component in out]


def _of_chunks(chunks: list[tuple[bool, list[Token]]]) -> Glob:
    glob = Glob.__new__(Glob)
    final = len(chunks) - 1
    glob._chunks = tuple(Chunk(star, tuple(tokens), last=i == final) for i, (star, tokens) in enumerate(chunks))
    return glob


def check(pattern: str, where: str = "") -> None:
    """BadPatternError where Go's ``filepath.Match(pattern, ".")`` gives ErrBadPattern, which is how moby/patternmatcher looks for
    malformed patterns. Unlike ``path.Match`` it reads no further than it matches: ``a*[`` passes."""
    if "[" in pattern or "\\" in pattern:
        try:
            _match(_chunks(to_bytes(pattern)), b".")
        except _MalformedError:
            raise BadPatternError(pattern, where) from None


def contains_wildcards(text: str) -> bool:
    """Is there a ``*``, ``?`` or ``[`` that no backslash takes as it is?"""
    if "\\" not in text:
        return "*" in text or "?" in text or "[" in text
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in "*?[":
            return True
    return False


def split_wildcards(path: str) -> tuple[str, str]:
    """A cleaned path as (folder before the first wildcard, rest); the rest is empty without wildcards."""
    parts = clean(path).split("/")
    for i, part in enumerate(parts):
        if contains_wildcards(part):
            return "/".join(parts[:i]) or ("/" if i else ""), "/".join(parts[i:])
    return "/".join(parts) or "/", ""


def to_bytes(text: str) -> bytes:
    """Text as the bytes that Go sees. A surrogate is an undecodable byte, or nothing that Go could hold: U+FFFD then."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _match(chunks: Iterable[Chunk], name: bytes) -> bool:
    """Go's loop; it reads no further chunk than it needs."""
    pos, end = 0, len(name)
    for chunk in chunks:
        if chunk.star and not chunk.tokens:
            return name.find(b"/", pos) < 0
        at = chunk.match(name, pos)
        if at < 0 or (at < end and chunk.last):
            slash = name.find(b"/", pos)
            at = chunk.find(name, pos + 1, end if slash < 0 else slash) if chunk.star else -1
            if at < 0:
                return False
        pos = at
    return pos == end


# ------------------------------------------------------------------------------------------------ reading
def _chunks(pattern: bytes) -> Iterator[Chunk]:
    pos, end = 0, len(pattern)
    while pos < end:
        star = pattern[pos] == _STAR
        while pos < end and pattern[pos] == _STAR:
            pos += 1
        tokens: list[Token] = []
        literal = bytearray()
        while pos < end and pattern[pos] != _STAR:
            byte = pattern[pos]
            pos += 1
            if byte not in (_ANY, _OPEN):
                if byte == _ESCAPE:
                    if pos == end:
                        raise _MalformedError
                    byte = pattern[pos]
                    pos += 1
                literal.append(byte)
                continue
            if literal:
                tokens.append(bytes(literal))
                literal.clear()
            if byte == _ANY:
                tokens.append(None)
            else:
                token, pos = _class(pattern, pos)
                tokens.append(token)
        if literal:
            tokens.append(bytes(literal))
        yield Chunk(star, tuple(tokens), last=pos == end)


def _class(pattern: bytes, pos: int) -> tuple[Class, int]:
    """The class that begins behind ``[`` at ``pos``, and the position behind its ``]``."""
    negated = pattern.startswith(b"^", pos)
    pos += negated
    ranges: list[tuple[int, int]] = []
    while not (ranges and pattern.startswith(b"]", pos)):
        low, pos = _class_rune(pattern, pos)
        high = low
        if pattern[pos] == _DASH:
            high, pos = _class_rune(pattern, pos + 1)
        ranges.append((low, high))  # from high to low it holds nothing
    return (negated, tuple(ranges)), pos + 1


def _class_rune(pattern: bytes, pos: int) -> tuple[int, int]:
    if pattern[pos : pos + 1] in (b"", b"-", b"]"):
        raise _MalformedError
    pos += pattern[pos] == _ESCAPE
    if pos >= len(pattern):
        raise _MalformedError
    rune, width = _decode(pattern, pos)
    pos += width
    if pos >= len(pattern) or (rune == _RUNE_ERROR and width == 1):
        raise _MalformedError
    return rune, pos


def _decode(text: bytes, pos: int) -> tuple[int, int]:
    """Go's ``utf8.DecodeRune``: the code point at ``pos`` and its width; for what is no UTF-8 U+FFFD and one byte."""
    first = text[pos]
    if first < 0x80:
        return first, 1
    width = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    try:
        return ord(text[pos : pos + width].decode()), width
    except UnicodeDecodeError:
        return _RUNE_ERROR, 1


def _in_class(token: Class, rune: int) -> bool:
    """Is it in one of the ranges? (Whether the class is negated is left to the caller.)"""
    return any(low <= rune <= high for low, high in token[1])
