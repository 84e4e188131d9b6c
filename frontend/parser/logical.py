"""Physical lines to logical lines: byte order mark, directives, comments, continuations, heredoc bodies."""

from __future__ import annotations

from builder.text.chars import SPACE, byte_length
from builder.values import dataclass
from frontend.errors import ParseError
from frontend.parser.directives import DirectiveParser
from frontend.parser.node import EmptyContinuation, Heredoc, line_ranges

MAX_LINE = 65535  # bytes of a physical line without its line end (bufio.MaxScanTokenSize - 1)


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """``text`` of one instruction, where it started, the comments above."""

    text: str
    start_line: int
    comments: tuple[str, ...]


class LineReader:
    """Walks over a file. ``escape_token`` is the one in force so far, ``line`` the number of the last line read."""

    __slots__ = ("_directives", "_index", "_lines", "empty_continuations", "escape_token", "line", "too_long")

    def __init__(self, text: str) -> None:
        lines = text.split("\n")
        last = lines.pop()
        self._lines = [line + "\n" for line in lines]
        if last:
            self._lines.append(last)
        if self._lines:
            self._lines[0] = self._lines[0].removeprefix("\ufeff")
        self._index = 0
        self._directives = DirectiveParser()
        self.escape_token = "\\"
        self.line = 0
        self.too_long = False
        self.empty_continuations: list[EmptyContinuation] = []

    def next(self) -> LogicalLine | None:
        """The next instruction, or None at the end of the file. Raises ``ParseError`` for a bad directive."""
        comments: list[str] = []
        while (raw := self._read()) is not None:
            text = _trim_newline(raw).lstrip(SPACE)
            is_directive = self._directive(text)
            if text.startswith("#"):
                if not is_directive:
                    self._comment(raw, comments)
                continue
            text, ended = self._trim_continuation(text)
            if ended and not text:
                continue
            start = self.line
            return LogicalLine(text if ended else self._continue(text), start, tuple(comments))
        return None

    def heredoc_body(self, heredoc: Heredoc, start_line: int) -> str:
        """The lines up to the one that is the heredoc's name, that one consumed."""
        body: list[str] = []
        while (raw := self._read()) is not None:
            candidate = _trim_newline(raw)
            if heredoc.chomp:
                candidate = candidate.lstrip("\t")
            if candidate == heredoc.name:
                return "".join(body)
            body.append(raw)
        raise ParseError("unterminated heredoc", line_ranges(start_line, self.line))

    def _read(self) -> str | None:
        if self.too_long or self._index >= len(self._lines):
            return None
        raw = self._lines[self._index]
        # The last character is either the line end or, in the last line of a file without one, part of the line.
        if len(raw) * 4 > MAX_LINE and byte_length(raw.removesuffix("\n")) > MAX_LINE:
            self.too_long = True  # told when the lines before it have been parsed
            return None
        self._index += 1
        self.line += 1
        return raw

    def _directive(self, text: str) -> bool:
        try:
            directive = self._directives.parse_line(text)
        except ParseError as e:
            raise e.at(line_ranges(self.line, self.line)) from None
        if directive is not None and directive.name == "escape":
            if directive.value not in ("\\", "`"):
                message = f"invalid escape token '{directive.value}' does not match ` or \\"
                raise ParseError(message, line_ranges(self.line, self.line))
            self.escape_token = directive.value
        return directive is not None

    @staticmethod
    def _comment(raw: str, comments: list[str]) -> None:
        # As in BuildKit one character is cut before white space is: an indented comment keeps its "#".
        comment = raw[1:].strip(SPACE)
        if comment:
            comments.append(comment)
        else:
            comments.clear()

    def _continue(self, first: str) -> str:
        parts = [first]
        ended, blank = False, False
        while not ended and (raw := self._read()) is not None:
            text = _trim_newline(raw)
            stripped = text.lstrip(SPACE)
            if stripped.startswith("#"):
                continue
            if not stripped:
                blank = True
                continue
            text, ended = self._trim_continuation(text)
            parts.append(text)
        joined = "".join(parts)
        if blank:
            self.empty_continuations.append(EmptyContinuation(self.line, joined))
        return joined

    def _trim_continuation(self, text: str) -> tuple[str, bool]:
        """The line without its continuation character, and whether the instruction ends with it.

        An escape character, itself not behind another one, then spaces and tabs only. (An escaped escape character
        followed by a real one, ``\\\\\\``, is no continuation either: BuildKit looks back one character only.)
        """
        body = text.rstrip(" \t")
        if not body.endswith(self.escape_token) or body.endswith(self.escape_token * 2):
            return text, True
        return body[:-1], False


def _trim_newline(raw: str) -> str:
    return raw.rstrip("\r\n")
