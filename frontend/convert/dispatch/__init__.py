"""What each instruction does to a stage: expand its words, then change state, config and history. One module a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frontend.convert import lintrules
from frontend.convert.dispatch import config
from frontend.convert.dispatch.arg import dispatch_arg
from frontend.convert.dispatch.copy import dispatch_add, dispatch_copy
from frontend.convert.dispatch.run import dispatch_run
from frontend.convert.dispatch.workdir import dispatch_workdir
from frontend.errors import FrontendError
from frontend.instructions import types as t
from frontend.instructions.expand import expand, expand_raw
from frontend.shell import Lex

if TYPE_CHECKING:
    from collections.abc import Callable

    from frontend.convert.context import ConvertContext
    from frontend.convert.stage import StageCommand, StageState

def dispatch(stage: StageState, linked: StageCommand, context: ConvertContext) -> None:
    """Apply one command to its stage. Raises ``FrontendError`` with the command's place."""
    stage.in_trigger = linked.from_trigger
    context = context.with_lint(context.lint.for_comments(linked.command.comments))
    try:
        _apply(stage, linked, _expanded(stage, linked.command, context), context)
    except FrontendError as e:
        raise e.at(linked.command.location) from None


def _expanded(stage: StageState, command: t.Command, context: ConvertContext) -> t.Command:
    if isinstance(command, t.ArgCommand):  # its values may never be needed, see dispatch_arg
        return command
    # Contents of heredocs: quotes are text, and the escape directive does not reach them.
    heredoc = Lex(skip_process_quotes=True, budget=context.lex.budget)
    return expand_raw(expand(command, expander(stage, command, context, context.lex)), expander(stage, command, context, heredoc))


def expander(stage: StageState, command: t.Command, context: ConvertContext, lex: Lex) -> Callable[[str], str]:
    """Expansion with the stage's variables; those that are missing are reported."""

    def expand_word(word: str) -> str:
        env = stage.state.env  # of now: each value of one ARG sees those before it
        result = lex.process_word_with_matches(word, env)
        if result.unmatched:
            lintrules.undefined_variables(result.unmatched, stage.build_args, env, command.location, context.lint)
        return result.result

    return expand_word


def _apply(stage: StageState, linked: StageCommand, command: t.Command, context: ConvertContext) -> None:
    match command:
        case t.RunCommand():
            dispatch_run(stage, command, linked.sources, context)
        case t.CopyCommand():
            dispatch_copy(stage, command, linked.sources, context)
        case t.AddCommand():
            dispatch_add(stage, command, context)
        case t.WorkdirCommand():
            dispatch_workdir(stage, command, context)
        case t.ArgCommand():
            dispatch_arg(stage, command, context, expander(stage, command, context, context.lex))
        case t.EnvCommand():
            config.dispatch_env(stage, command, context.lint)
        case t.LabelCommand():
            config.dispatch_label(stage, command, context.lint)
        case t.CmdCommand():
            config.dispatch_cmd(stage, command, context.lint)
        case t.EntrypointCommand():
            config.dispatch_entrypoint(stage, command, context.lint)
        case t.HealthCheckCommand():
            config.dispatch_healthcheck(stage, command, context.lint)
        case t.ExposeCommand():
            config.dispatch_expose(stage, command, context)
        case t.UserCommand():
            config.dispatch_user(stage, command)
        case t.VolumeCommand():
            config.dispatch_volume(stage, command)
        case t.StopSignalCommand():
            config.dispatch_stop_signal(stage, command)
        case t.ShellCommand():
            config.dispatch_shell(stage, command)
        case t.OnbuildCommand():
            config.dispatch_onbuild(stage, command)
        case t.MaintainerCommand():
            config.dispatch_maintainer(stage, command)
        case _:
            raise AssertionError(f"no dispatch of {command.keyword}")
