"""SOURCE_DATE_EPOCH: a number, ``context``, a named context, or a stage that does nothing but ADD one remote source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.graph.ops import CopyAction, File, GitSource, HTTPSource, LocalSource
from builder.graph.vertex import Edge
from builder.values import replace
from frontend.convert.remote import git_ref, http_source, is_http_source
from frontend.errors import ConvertError, FrontendError
from frontend.instructions.types import AddCommand, ArgCommand

if TYPE_CHECKING:
    from builder.graph.ops import Source
    from frontend.convert.contexts import NamedContexts
    from frontend.convert.options import MetaResolver
    from frontend.instructions.types import Stage
    from frontend.shell import Lex

NAME = "SOURCE_DATE_EPOCH"


def resolve_epoch(
    value: str,
    stages: Sequence[Stage],
    given: Mapping[str, str],
    env: Mapping[str, str],
    lex: Lex,
    main_context: Source | Edge,
    contexts: NamedContexts,
    resolver: MetaResolver,
) -> int | None:
    """Seconds since the epoch; None where nothing is known of the source's time. Raises ``ConvertError``, ``ResolveError``."""
    if not value:
        return None
    if value.lstrip("+-").isdecimal() and value.isascii() and len(value) - len(value.lstrip("+-")) < 2:
        return int(value)
    source: Source | Edge | None
    archive = ""
    if value == "context":
        source, archive = _only_source(main_context)
    elif (context := contexts.find(value, None)) is not None:
        source = context.source()
    else:
        source = _stage_source(value, stages, given, env, lex)
    if isinstance(source, GitSource | HTTPSource):
        return resolver.source_time(source)
    return resolver.archive_time(source, archive) if isinstance(source, LocalSource) and archive else None


def _only_source(context: Source | Edge) -> tuple[Source | None, str]:
    """The source below the main context, which may be an unpacked archive, whose path comes with it, or a folder of one."""
    archive = ""
    while isinstance(context, Edge):
        op = context.vertex.op
        if isinstance(op, File):
            archive = next((a.src for a in op.actions if isinstance(a, CopyAction) and a.attempt_unpack), archive)
        if not context.vertex.inputs:
            return (op if isinstance(op, GitSource | HTTPSource | LocalSource) else None), archive
        context = context.vertex.inputs[0]
    return context, archive


def _stage_source(
    name: str, stages: Sequence[Stage], given: Mapping[str, str], env: Mapping[str, str], lex: Lex
) -> GitSource | HTTPSource:
    for stage in stages:
        if stage.name.lower() == name.lower():
            without = {key: value for key, value in env.items() if key != NAME}
            try:
                return _source_of(stage, given, without, lex)
            except FrontendError as e:
                raise e.at(stage.location) from None
    raise ConvertError(f"invalid {NAME}: {name}")


def _source_of(stage: Stage, given: Mapping[str, str], env: Mapping[str, str], lex: Lex) -> GitSource | HTTPSource:
    if lex.process_word(stage.base_name, env) != "scratch":
        raise ConvertError(f"{NAME} stage must use FROM scratch")
    found: GitSource | HTTPSource | None = None
    env = dict(env)
    for command in stage.commands:
        if isinstance(command, ArgCommand):
            for arg in command.args:
                value = given.get(arg.key)
                if value is None and arg.value is not None:
                    value = lex.process_word(arg.value, env)
                if value is not None:
                    env[arg.key] = value
        elif not isinstance(command, AddCommand):
            what = f"unsupported {command.name} instruction"
            raise ConvertError(f"{NAME} stage does not meet source-only requirements: {what}")
        elif found is not None:
            raise ConvertError(f"{NAME} stage must contain exactly one remote ADD")
        else:
            found = _add_source(command, env, lex)
    if found is None:
        raise ConvertError(f"{NAME} stage must contain exactly one remote ADD")
    return found


def _add_source(command: AddCommand, env: Mapping[str, str], lex: Lex) -> GitSource | HTTPSource:
    if command.source_contents or len(command.source_paths) != 1:
        raise ConvertError(f"{NAME} stage must contain exactly one remote ADD source")
    url = lex.process_word(command.source_paths[0], env)
    checksum = lex.process_word(command.checksum, env)
    if is_http_source(url):
        return http_source(url, checksum)
    ref = git_ref(url)
    if ref is None:
        raise ConvertError(f"{NAME} stage source must be a single HTTP(S) or Git ADD")
    source = ref.source(keep_git_dir=bool(command.keep_git_dir))
    return replace(source, checksum=checksum) if checksum else source

