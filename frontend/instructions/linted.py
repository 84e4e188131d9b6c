"""Lint findings that need no more than one instruction."""

from __future__ import annotations

from frontend.instructions.types import ArgCommand, Command, Stage
from frontend.lint.linter import Linter
from frontend.parser.node import Node

LINTED = frozenset(("from", "arg", "maintainer"))


def lint_before(name: str, node: Node, lint: Linter) -> None:
    """Of the words as they were written; ``name`` is one of LINTED."""
    from frontend.lint import rules

    if name == "maintainer":
        lint.run(rules.MAINTAINER_DEPRECATED, node.location)
    elif name == "from" and len(node.args) >= 3:
        if len(node.args) == 3 and node.args[2] != node.args[2].lower():
            lint.run(rules.STAGE_NAME_CASING, node.location, node.args[2])
        # A keyword of mixed case is ConsistentInstructionCasing's.
        as_, lower, upper = node.args[1], node.value.lower(), node.value.upper()
        if node.value in (lower, upper) and as_ != (as_.lower() if node.value == lower else as_.upper()):
            lint.run(rules.FROM_AS_CASING, node.location, node.value, as_)


def lint_after(parsed: Command | Stage, node: Node, lint: Linter) -> None:
    """Of what they mean."""
    from frontend.lint.checks import check_description

    if isinstance(parsed, Stage) and parsed.name:
        check_description("FROM", (parsed.name,), node.comments, node.location, lint)
    elif isinstance(parsed, ArgCommand):
        check_description("ARG", tuple(arg.key for arg in parsed.args), node.comments, node.location, lint)
