"""SOURCE_DATE_EPOCH: a number, ``context``, a named context, or a stage that does nothing but ADD one remote source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.graph.ops import GitSource, HTTPSource
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
    if value == "context":
        source = _only_source(main_context)
    elif (context := contexts.find(value, None)) is not None:
        source = context.source()
    else:
        source = _stage_source(value, stages, given, env, lex)
    return resolver.source_time(source) if isinstance(source, GitSource | HTTPSource) else None


def _only_source(context: Source | Edge) -> Source | None:
    """The remote source below the main context, which may be an unpacked archive or a folder of it."""
    while isinstance(context, Edge):
        vertex = context.vertex
        if not vertex.inputs:
            return vertex.op if isinstance(vertex.op, GitSource | HTTPSource) else None
        context = vertex.inputs[0]
    return context


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

