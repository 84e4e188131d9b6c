"""Dockerfile text to an AST of nodes, and back. ``parse`` is the door; see ``frontend.instructions`` for typed values."""

from __future__ import annotations

from frontend.parser.dump import dump, print_dockerfile
from frontend.parser.node import EmptyContinuation, Heredoc, Node, ParseResult
from frontend.parser.parse import parse

__all__ = ["EmptyContinuation", "Heredoc", "Node", "ParseResult", "dump", "parse", "print_dockerfile"]
