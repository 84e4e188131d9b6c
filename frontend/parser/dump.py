"""Nodes to text: the tree as BuildKit dumps it, and a Dockerfile that parses to the same nodes."""

from __future__ import annotations

from builder.text.chars import SPACE, byte_length
from builder.text.quoting import quote
from frontend.parser.node import Node, ParseResult

_CHUNK = 60000  # bytes; below the limit of a physical line


def dump(result: ParseResult) -> list[str]:
    """One s-expression a node: ``(keyword ["--flag"...] "word"...)``."""
    return [f"({dump_node(node)})" for node in result.nodes]


def dump_node(node: Node) -> str:
    """The s-expression of one node without its outer parentheses."""
    parts: list[str] = []
    depth = 0
    while True:
        head = node.value.lower()
        if node.flags:
            head += f" [{' '.join(map(quote, node.flags))}]"
        parts.append(" ".join((head, *map(quote, node.args))).strip(SPACE))
        if node.child is None:
            break
        node = node.child
        depth += 1
    return " (".join(parts) + ")" * depth


def print_dockerfile(result: ParseResult) -> str:
    """A Dockerfile with one line for each instruction, its comments above and its heredocs below.

    Parsing it again gives the same keywords, flags, words, heredocs and comments (not the same line numbers).
    """
    lines: list[str] = []
    if result.escape_token != "\\":
        lines.append(f"# escape={result.escape_token}")
    if result.nodes and result.nodes[0].comments:
        lines.append("#")  # so that the comment below can't be taken for a directive
    for node in result.nodes:
        lines += (f"# {comment}" for comment in node.comments)
        lines += _instruction(node.original, result.escape_token)
        lines += (f"{heredoc.content}{heredoc.name}" for heredoc in node.heredocs)
    text = "\n".join(lines) + "\n"
    return "\ufeff" + text if text.startswith("\ufeff") else text


def _instruction(line: str, escape: str) -> list[str]:
    body = line.rstrip(" \t")
    if not line.strip(SPACE) or (body.endswith(escape) and not body.endswith(escape * 2)):
        line += escape  # only the end of the file kept this line from being continued; so it will again
    if byte_length(line) <= _CHUNK:
        return [line]
    return _fold(line, escape)


def _fold(line: str, escape: str) -> list[str]:
    """Cut a line that is longer than a physical line may be; no piece may be blank, a comment, or end in an escape."""
    pieces: list[str] = []
    while byte_length(line) > _CHUNK:
        cut = next((i for i in range(_CHUNK // 4, 0, -1) if _may_cut(line, i, escape)), 0)
        if not cut:  # tens of thousands of blanks in a row
            break
        pieces.append(line[:cut] + escape)
        line = line[cut:]
    return [*pieces, line]


def _may_cut(line: str, index: int, escape: str) -> bool:
    return line[index - 1] != escape and line[index] != "#" and line[index] not in SPACE
