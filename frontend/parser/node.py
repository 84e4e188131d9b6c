"""The values a Dockerfile is parsed into."""

from __future__ import annotations

from builder.values import dataclass
from frontend.errors import Range


@dataclass(frozen=True, slots=True)
class Heredoc:
    """``<<NAME``. ``content`` is as written, line ends included; ``chomp`` (``<<-``) says that leading tabs are to go.

    ``expand`` is False where a part of the word was quoted. ``file_descriptor`` is the number before ``<<`` or 0.
    """

    name: str
    expand: bool = True
    chomp: bool = False
    file_descriptor: int = 0
    content: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One instruction.

    ``value``     the keyword as written
    ``original``  the logical line: continuations joined, comments within them dropped
    ``flags``     the ``--flag[=value]`` words after the keyword, quotes and escapes removed
    ``args``      the words after the flags, cut as the instruction wants it (see ``words.py``)
    ``json``      the words were given as a JSON array
    ``child``     the instruction that ONBUILD wraps, then ``args`` is empty
    ``comments``  comment lines directly above, without ``#``
    """

    value: str
    original: str
    flags: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    json: bool = False
    child: Node | None = None
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    start_line: int = 0
    end_line: int = 0

    @property
    def location(self) -> tuple[Range, ...]:
        """One range a line."""
        return line_ranges(self.start_line, self.end_line)


@dataclass(frozen=True, slots=True)
class EmptyContinuation:
    """A blank line inside a continued instruction. ``line`` is the last physical line of it, ``text`` the logical line."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class ParseResult:
    """A parsed file: at least one node, the escape character in force, what the linter is to hear of."""

    nodes: tuple[Node, ...]
    escape_token: str = "\\"
    empty_continuations: tuple[EmptyContinuation, ...] = ()


def line_ranges(start: int, end: int) -> tuple[Range, ...]:
    """Lines ``start`` to ``end``, one range each (at least one)."""
    return tuple(Range(line, line) for line in range(start, max(start, end) + 1))
