"""From parsed stages to stage states: base names, platforms, and which stage reads which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci.platform import Platform
from builder.text.quoting import quote
from frontend import suggest
from frontend.convert import lintrules
from frontend.convert.args import ArgInfo
from frontend.convert.outline_capture import OutlineCapture
from frontend.convert.stage import SCRATCH, StageCommand, StageState, check_circular, image_stage
from frontend.errors import ConvertError, ShellError
from frontend.instructions.types import AddCommand, Command, CopyCommand, RunCommand, Stage, WorkdirCommand

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from frontend.convert.context import ConvertContext
    from frontend.convert.stage import Stages
    from frontend.lint import Linter
    from frontend.shell import Lex

_STEPS = (AddCommand, CopyCommand, RunCommand, WorkdirCommand)


def make_stages(parsed: Sequence[Stage], infos: Mapping[str, ArgInfo], context: ConvertContext) -> None:
    """Fill ``context.stages``. Raises ``ConvertError`` and ``ShellError`` with their places."""
    for number, stage in enumerate(parsed):
        state, used = _make_stage(number, stage, infos, context)
        context.stages.add(state)
        if state.named_context is not None:
            state.base = None  # the context takes the place of the whole stage
        else:
            state.outline.used_args |= used  # only now: a stage that continues another one has taken over that one's outline
            state.total = _count_steps(state)


def link_stages(context: ConvertContext) -> None:
    """Find the stages that commands read. Images that --from names are added behind the stages of the file."""
    stages = context.stages
    for stage in list(stages.items):
        for command in stage.stage.commands:
            link_command(stage, command, context)
    check_circular(stages.items)
    if len(stages.items) == 1:
        stages.items[0].name = ""


def link_command(stage: StageState, command: Command, context: ConvertContext, *, from_trigger: bool = False) -> StageCommand:
    """Add ``command`` to the stage (one of a trigger goes where the caller puts it) and what it reads to ``deps``."""
    try:
        sources = _sources(command, context.stages, context.lex)
    except (ConvertError, ShellError) as e:
        raise e.at(command.location) from None
    linked = StageCommand(command, sources, from_trigger)
    if not from_trigger:
        stage.commands.append(linked)
    for source in sources:
        stage.deps[source] = command
        if source.unregistered:
            context.stages.add(source)
    return linked


def find_target(context: ConvertContext) -> StageState:
    """The stage that is asked for, by name, else the last one of the file."""
    name, stages = context.options.target, context.stages
    if not name:
        return stages.items[-1]
    found = stages.find(name)
    if found is None:
        near = suggest.search(name, stages.names())
        hint = f" (did you mean {near}?)" if near else ""
        raise ConvertError(f"target stage {quote(name)} could not be found{hint}", suggestion=near)
    return found


def _make_stage(number: int, stage: Stage, infos: Mapping[str, ArgInfo], context: ConvertContext) -> tuple[StageState, set[str]]:
    """The stage, and the names of the arguments that its FROM is made of."""
    lint = context.lint.for_comments(stage.comments)
    known = {*infos, *context.global_args}
    try:
        name = context.lex.process_word_with_matches(stage.base_name, context.global_args)
    except ShellError as e:
        raise e.at(stage.location) from None
    lintrules.undefined_args_in_from(known, name.unmatched, stage.location, lint)
    if not name.result:
        raise ConvertError(f"base name ({stage.base_name}) should not be blank", stage.location)
    state = StageState(
        stage,
        stage.name or f"stage-{number}",
        name.result,
        OutlineCapture(dict(infos)),
        context.epoch,
        prefix_platform=context.multi_platform,
        ignore_cache=_without_cache(stage.name, context),
    )
    used = set(name.matched)
    if stage.platform:
        state.platform, matched = _platform(stage, known, context, lint)
        used |= matched
    if stage.name:
        try:
            state.named_context = context.contexts.find(stage.name, state.platform or context.asked_platform)
        except ConvertError as e:
            raise e.at(stage.location) from None
    return state, used


def _platform(stage: Stage, known: Iterable[str], context: ConvertContext, lint: Linter) -> tuple[Platform, frozenset[str]]:
    args = context.global_args
    try:
        result = context.lex.process_word_with_matches(stage.platform, args)
    except ShellError as e:
        raise ConvertError(f"failed to process arguments for platform : {e}", stage.location) from None
    lintrules.undefined_args_in_from(known, result.unmatched, stage.location, lint)
    lintrules.redundant_target_platform(stage.platform, result, stage.location, args, lint)
    lintrules.constant_platform(stage.name, result, stage.location, lint)
    near = next(filter(None, (suggest.search(name, args) for name in sorted(result.unmatched))), "")
    hint = f" (did you mean {near}?)" if near else ""
    if not result.result:
        message = f"empty platform value from expression {stage.platform}{hint}"
        raise ConvertError(message, stage.location, suggestion=near)
    try:
        return Platform.parse(result.result), result.matched
    except ValueError as e:
        message = f"failed to parse platform {stage.platform}: {e}{hint}"
        raise ConvertError(message, stage.location, suggestion=near) from None


def _count_steps(state: StageState) -> int:
    """FROM of an image, and the commands that do something to files."""
    pulled = state.base_name != SCRATCH and state.base is None
    return pulled + sum(isinstance(command, _STEPS) for command in state.stage.commands)


def _without_cache(name: str, context: ConvertContext) -> bool:
    chosen = context.options.no_cache
    return chosen == "all" or any(name.lower() == other.lower() for other in chosen)


def _sources(command: Command, stages: Stages, lex: Lex) -> tuple[StageState, ...]:
    if isinstance(command, RunCommand):
        # A mount without ``from`` counts as one of scratch here: its type may still be a variable.
        names = [mount.from_ or SCRATCH for mount in command.mounts]
        return tuple(stages.find(name) or image_stage(name, ()) for name in names)
    if not isinstance(command, CopyCommand) or not command.from_:
        return ()
    if lex.process_word(command.from_, {}) != command.from_:
        workaround = "define a new stage with FROM using ARG from global scope as a workaround"
        raise ConvertError(f"variable expansion is not supported for --from, {workaround}")
    index = _integer(command.from_)
    if index is not None:
        return (stages.at(index),)
    return (stages.find(command.from_) or image_stage(command.from_, command.location),)


def _integer(text: str) -> int | None:
    """Go's strconv.Atoi."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None

