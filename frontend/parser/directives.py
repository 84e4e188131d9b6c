"""Parser directives: ``# syntax=``, ``# escape=``, ``# check=`` at the top of a file."""

from __future__ import annotations

from builder.text.chars import SPACE
from builder.values import dataclass
from frontend.errors import ParseError, Range

_NAMES = frozenset(("syntax", "escape", "check"))
_RE_SPACE = "\t\n\f\r "  # \s of Go's regexp
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KEY_CHARS = frozenset(_LETTERS + "0123456789")
_MAX_LINE = 65535


@dataclass(frozen=True, slots=True)
class Directive:
    """``name`` is lower case, ``value`` the rest of the line, trimmed."""

    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class DetectedDirective:
    """``value`` up to the first space, the whole ``cmdline``, and where it stands (empty for the JSON form)."""

    value: str
    cmdline: str
    ranges: tuple[Range, ...]


class DirectiveParser:
    """Takes the lines of a file one by one; ``done`` at the first that is no directive.

    ``prefix`` is ``#``, ``//`` (accepted for ``syntax`` detection only) or empty (a comment's text).
    """

    __slots__ = ("done", "line", "prefix", "seen")

    def __init__(self, prefix: str = "#", line: int = 0) -> None:
        self.prefix = prefix
        self.line = line
        self.done = False
        self.seen: set[str] = set()

    def parse_line(self, line: str) -> Directive | None:
        """The directive of the next line, or None. Raises ``ParseError`` for one that was there before."""
        self.line += 1
        if self.done:
            return None
        found = _split(line, self.prefix)
        if found is None:
            self.done = True
            return None
        name, value = found
        if name in self.seen:
            raise ParseError(f"only one {name} parser directive can be used", (Range(self.line, self.line),))
        self.seen.add(name)
        return Directive(name, value, self.line)


def _split(line: str, prefix: str) -> tuple[str, str] | None:
    if not line.startswith(prefix):
        return None
    key, equals, value = line[len(prefix) :].lstrip(SPACE).partition("=")
    key = key.rstrip(_RE_SPACE)
    value = value.strip(_RE_SPACE)
    if not equals or not value or not key or key[0] not in _LETTERS or not _KEY_CHARS.issuperset(key):
        return None
    name = key.lower()
    return (name, value) if name in _NAMES else None


def parse_directive(name: str, text: str) -> DetectedDirective | None:
    """The directive ``name`` of a Dockerfile (``#`` form only)."""
    body, skipped = _skip_head(text)
    return _detect(name, body, "#", skipped)


def detect_syntax(text: str) -> DetectedDirective | None:
    """The ``syntax`` of any input file: ``# syntax=``, ``// syntax=`` or JSON ``{"syntax": ...}``, after a ``#!`` line."""
    body, skipped = _skip_head(text)
    return _detect("syntax", body, "#", skipped) or _detect("syntax", body, "//", skipped) or _json_syntax(body)


def _skip_head(text: str) -> tuple[str, int]:
    text = text.removeprefix("\ufeff")
    if not text.startswith("#!"):
        return text, 0
    return text.partition("\n")[2], 1


def _detect(name: str, text: str, prefix: str, skipped: int) -> DetectedDirective | None:
    parser = DirectiveParser(prefix, skipped)
    for line in text.split("\n"):
        if len(line) > _MAX_LINE:  # here, too, BuildKit's scanner stops
            return None
        try:
            directive = parser.parse_line(line.removesuffix("\r"))
        except ParseError:  # a duplicate: told by the parser proper
            return None
        if directive is not None and directive.name == name:
            value = directive.value.partition(" ")[0]
            return DetectedDirective(value, directive.value, (Range(directive.line, directive.line),))
        if parser.done:
            return None
    return None


def _json_syntax(text: str) -> DetectedDirective | None:
    if not text.lstrip(" \t\r\n").startswith("{"):
        return None
    import json

    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    value = document.get("syntax")
    return DetectedDirective(value, value, ()) if isinstance(value, str) else None
