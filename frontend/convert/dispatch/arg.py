"""ARG in a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.values import replace
from frontend.convert import lintrules
from frontend.convert.args import NOT_IN_ENVIRONMENT, ArgInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from frontend.convert.context import ConvertContext
    from frontend.convert.stage import StageState
    from frontend.instructions.types import ArgCommand


def dispatch_arg(stage: StageState, command: ArgCommand, context: ConvertContext, expand: Callable[[str], str]) -> None:
    """A value is, in this order: the build argument; the default given here; that of the global ARG of the same name.

    A default that is not used is not expanded, so it may be wrong.
    """
    texts = []
    for arg in command.args:
        lintrules.secret_name("ARG", arg.key, command.location, context.lint)
        inherited = False
        if arg.key in context.build_args:
            arg = replace(arg, value=context.build_args[arg.key])
        elif arg.value is not None:
            arg = replace(arg, value=expand(arg.value))
        elif arg.key in context.global_args:
            arg = replace(arg, value=context.global_args[arg.key])
            inherited = True
        if arg.value is not None and arg.key not in NOT_IN_ENVIRONMENT:
            stage.set_variable(arg.key, arg.value)
        if not inherited:
            stage.outline.all_args[arg.key] = ArgInfo(arg, command.location, arg.value_string)
        stage.outline.used_args.add(arg.key)
        stage.build_args.append(arg)
        texts.append(arg.key if arg.value is None else str(arg))
    stage.commit("ARG " + " ".join(texts))
