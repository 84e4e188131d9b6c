"""Expansion of the variables in a command: which fields of which instruction expand, and in what order.

The expander is a function of one word; it knows the variables (and may note which were missing). What an instruction
does beyond single words (EXPOSE, heredocs of RUN, values of ARG) is told at the instruction's own conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar, cast

from builder.values import replace
from frontend.errors import FrontendError
from frontend.instructions.mount import parse_mount
from frontend.instructions.types import (
    AddCommand,
    ArgCommand,
    Command,
    CopyCommand,
    EnvCommand,
    KeyValuePair,
    LabelCommand,
    RunCommand,
    SourcesAndDest,
    StopSignalCommand,
    UserCommand,
    VolumeCommand,
    WorkdirCommand,
)

Expander: TypeAlias = Callable[[str], str]
C = TypeVar("C", bound=Command)


def expand(command: C, expander: Expander) -> C:
    """``command`` with its words expanded; commands without variables come back as they are.

    All words of an ENV or LABEL are expanded before any of them takes effect. Raises ``FrontendError``.
    """
    try:
        return cast(C, _expand(command, expander))
    except FrontendError as e:
        raise e.at(command.location) from None


def _expand(command: Command, expander: Expander) -> Command:
    match command:
        case EnvCommand():
            return replace(command, env=_pairs(command.env, expander))
        case LabelCommand():
            return command if command.no_expand else replace(command, labels=_pairs(command.labels, expander))
        case AddCommand():
            chown, chmod = expander(command.chown), expander(command.chmod)
            return _paths(replace(command, chown=chown, chmod=chmod, checksum=expander(command.checksum)), expander)
        case CopyCommand():
            return _paths(replace(command, chown=expander(command.chown), chmod=expander(command.chmod)), expander)
        case RunCommand():
            return replace(command, mounts=tuple(parse_mount(value, expander) for value in command.mount_flags))
        case WorkdirCommand():
            return replace(command, path=expander(command.path))
        case UserCommand():
            return replace(command, user=expander(command.user))
        case VolumeCommand():
            return replace(command, volumes=tuple(map(expander, command.volumes)))
        case StopSignalCommand():
            return replace(command, signal=expander(command.signal))
        case ArgCommand():
            return expand_arg(command, expander)
    return command


def expand_arg(command: ArgCommand, expander: Expander) -> ArgCommand:
    """ARG: names, and the values that are given."""
    args = []
    for arg in command.args:
        key = expander(arg.key)
        args.append(replace(arg, key=key, value=None if arg.value is None else expander(arg.value)))
    return replace(command, args=tuple(args))


def expand_raw(command: C, expander: Expander) -> C:
    """COPY and ADD: the contents of heredocs whose word was not quoted. ``expander`` is to leave quotes alone."""
    if not isinstance(command, SourcesAndDest) or not command.source_contents:
        return command
    try:
        contents = tuple(
            replace(content, data=expander(content.data)) if content.expand else content
            for content in command.source_contents
        )
    except FrontendError as e:
        raise e.at(command.location) from None
    return replace(command, source_contents=contents)


def _paths(command: SourcesAndDest, expander: Expander) -> SourcesAndDest:
    sources = tuple(map(expander, command.source_paths))
    return replace(command, source_paths=sources, dest_path=expander(command.dest_path))


def _pairs(pairs: tuple[KeyValuePair, ...], expander: Expander) -> tuple[KeyValuePair, ...]:
    return tuple(replace(pair, key=expander(pair.key), value=expander(pair.value)) for pair in pairs)
