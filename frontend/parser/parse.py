"""Dockerfile text to nodes."""

from __future__ import annotations

from builder.values import replace
from frontend.errors import ParseError
from frontend.parser.heredoc import heredocs_of_line
from frontend.parser.keyword import keyword
from frontend.parser.logical import MAX_LINE, LineReader, LogicalLine
from frontend.parser.node import Node, ParseResult, line_ranges
from frontend.parser.words import CUTTERS, Words, split_command

_NO_UTF8 = ("\udcff\udcfe", "\udcfe\udcff")
"""The byte order marks of UTF-16 and UTF-32, decoded as above."""
_HEREDOC_INSTRUCTIONS = frozenset(("add", "copy", "run"))


def parse(text: str) -> ParseResult:
    """Parse a Dockerfile. ``text`` is decoded as UTF-8 with ``surrogateescape``.

    Raises ``ParseError``. Instruction names are not checked here, nor are arguments beyond what cutting them needs:
    see ``frontend.instructions``.
    """
    if text.startswith(_NO_UTF8) or "\0" in text[:4]:
        cause = "the file is UTF-16 or UTF-32 text, it has to be UTF-8"
        raise ParseError(f"dockerfile parse error on line 1: {cause}", line_ranges(1, 1))
    reader = LineReader(text)
    nodes: list[Node] = []
    while (logical := reader.next()) is not None:
        try:
            nodes.append(_node(logical, reader))
        except ParseError as e:
            raise e.at(line_ranges(logical.start_line, reader.line)) from None
    here = line_ranges(max(reader.line, 1), reader.line)
    if not nodes:
        raise ParseError("file with no instructions", here)
    if reader.too_long:
        raise ParseError(f"dockerfile line greater than max allowed size of {MAX_LINE}", here)
    return ParseResult(tuple(nodes), reader.escape_token, tuple(reader.empty_continuations))


def _node(logical: LogicalLine, reader: LineReader) -> Node:
    node = _parse_line(logical.text, reader.escape_token)
    heredocs = []
    if "<<" in logical.text and _takes_heredocs(node):
        for heredoc in heredocs_of_line(logical.text):
            heredocs.append(replace(heredoc, content=reader.heredoc_body(heredoc, logical.start_line)))
    return replace(
        node,
        heredocs=tuple(heredocs),
        comments=logical.comments,
        start_line=logical.start_line,
        end_line=reader.line,
    )


def _parse_line(line: str, escape: str) -> Node:
    """The node of a logical line. ONBUILD ONBUILD ... may be nested thousands deep, so no recursion."""
    outer: list[Node] = []
    while True:
        word, flags, rest = split_command(line, escape)
        name = keyword(line, word)
        if name != "onbuild" or not rest:
            break
        outer.append(Node(word, line, flags))
        line = rest
    cut = CUTTERS.get(name)
    # An unknown instruction has one empty argument, as in BuildKit's tree.
    words = cut(rest, escape) if cut else Words(() if name == "onbuild" else ("",))
    node = Node(word, line, flags, words.args, words.json)
    for wrapper in reversed(outer):
        node = replace(wrapper, child=node)
    return node


def _takes_heredocs(node: Node) -> bool:
    if node.child is not None:
        node = node.child
    return node.value.lower() in _HEREDOC_INSTRUCTIONS and not node.json
