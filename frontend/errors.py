"""Errors of the frontend: each is one line of cause and the lines of the Dockerfile it is about."""

from __future__ import annotations

from builder.values import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """Lines ``start`` to ``end`` of a Dockerfile, both counted from 1 and included."""

    start: int
    end: int


class FrontendError(Exception):
    """Base of what the frontend raises. ``ranges`` is empty where no line is to blame.

    ``suggestion`` is BuildKit's "did you mean ...?" without the words, or empty.
    """

    def __init__(self, message: str, ranges: tuple[Range, ...] = (), *, suggestion: str = "") -> None:
        super().__init__(message)
        self.ranges = ranges
        self.suggestion = suggestion

    def at(self, ranges: tuple[Range, ...]) -> FrontendError:
        """Give the error a place, unless it has one from deeper down."""
        if not self.ranges:
            self.ranges = ranges
        return self


class ParseError(FrontendError):
    """The text is not a Dockerfile: parser and instruction syntax."""


class ShellError(FrontendError):
    """A word can't be expanded (shell lexer)."""


class ConvertError(FrontendError):
    """The Dockerfile parses but can't be turned into a graph: stages, contexts, arguments."""
