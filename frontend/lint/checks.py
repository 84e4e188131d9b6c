"""The rules that need the parsed file and no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from frontend.errors import Range
from frontend.lint import rules
from frontend.lint.linter import Linter

if TYPE_CHECKING:
    from frontend.instructions.types import Stage
    from frontend.parser.node import ParseResult

_RESERVED_STAGE_NAMES = frozenset(("context", "scratch"))


def check_empty_continuations(result: ParseResult, lint: Linter) -> None:
    """NoEmptyContinuation, at the last line of the instruction."""
    for found in result.empty_continuations:
        lint.run(rules.NO_EMPTY_CONTINUATION, (Range(found.line, found.line),))


def check_stage_names(stages: Sequence[Stage], lint: Linter) -> None:
    """ReservedStageName and DuplicateStageName."""
    seen: set[str] = set()
    for stage in stages:
        if not stage.name:
            continue
        if stage.name in _RESERVED_STAGE_NAMES:
            lint.run(rules.RESERVED_STAGE_NAME, stage.location, stage.name)
        if stage.name in seen:
            lint.run(rules.DUPLICATE_STAGE_NAME, stage.location, stage.name)
        seen.add(stage.name)


def check_instruction_casing(stages: Sequence[Stage], lint: Linter) -> None:
    """ConsistentInstructionCasing: all keywords in the casing that most of them have (upper case if undecided)."""
    keywords = list(_keywords(stages))
    lower = sum(name == name.lower() for name, _ in keywords)
    upper = sum(name == name.upper() != name.lower() for name, _ in keywords)
    for name, location in keywords:
        wanted, casing = (name.lower(), "lowercase") if lower > upper else (name.upper(), "uppercase")
        if name != wanted:
            lint.run(rules.CONSISTENT_INSTRUCTION_CASING, location, name, casing)


def check_description(
    instruction: str, names: Sequence[str], comments: Sequence[str], location: Sequence[Range], lint: Linter
) -> None:
    """InvalidDefinitionDescription: the comment right above a FROM ... AS or ARG begins with a name it defines."""
    if not names or not comments or comments[-1].split(" ")[0] in names:
        return
    example = names[0] if len(names) == 1 else "<arg_key>"
    lint.run(rules.INVALID_DEFINITION_DESCRIPTION, location, instruction, example)


def _keywords(stages: Sequence[Stage]) -> Iterable[tuple[str, tuple[Range, ...]]]:
    for stage in stages:
        yield stage.orig_cmd, stage.location
        for command in stage.commands:
            yield command.name, command.location
