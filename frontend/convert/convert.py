"""The way from a Dockerfile's text to graphs: parse, make stages, resolve, dispatch, finish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.graph.ops import LocalSource
from builder.oci.platform import Platform, normalize
from builder.values import dataclass, replace
from frontend.convert import args, epoch, lintrules
from frontend.convert.context import ConvertContext
from frontend.convert.contexts import NamedContexts, main_edge
from frontend.convert.dispatch import dispatch
from frontend.convert.dispatch.workdir import set_workdir
from frontend.convert.image import DEFAULT_PATH, for_platform
from frontend.convert.imageconfigs import ImageConfigs
from frontend.convert.options import Converted, ResolveError, SourceFile, TargetResult
from frontend.convert.resolve import resolve_stages
from frontend.convert.stage import Stages, StageState, reachable_from
from frontend.convert.stages import find_target, link_stages, make_stages
from frontend.convert.syntax import external_frontend
from frontend.errors import ConvertError
from frontend.instructions.parse import parse_stages
from frontend.instructions.types import ArgCommand
from frontend.lint import Linter, linter_for
from frontend.lint.checks import check_empty_continuations, check_instruction_casing, check_stage_names
from frontend.parser import parse
from frontend.shell import Budget, Lex

if TYPE_CHECKING:
    from builder.oci.image import ImageConfig
    from builder.text.patterns import PatternMatcher
    from frontend.convert.args import ArgInfo
    from frontend.convert.options import ConvertOptions, MetaResolver
    from frontend.instructions.types import Stage
    from frontend.lint import Warning


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A Dockerfile as typed instructions: at least one stage. ``global_commands`` are the ARGs before the first."""

    stages: tuple[Stage, ...]
    global_commands: tuple[ArgCommand, ...]
    lex: Lex


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """One platform's conversion: the target's state, and all that it was made with."""

    target: StageState
    config: ImageConfig
    context: ConvertContext


def convert(text: bytes, options: ConvertOptions, resolver: MetaResolver) -> Converted:
    """Turn a Dockerfile into one graph a platform.

    Raises ``FrontendError`` (places in ``ranges``); findings of the linter go to ``options.warn`` also then.
    """
    results = []
    warnings: tuple[Warning, ...] = ()
    images = ImageConfigs(resolver, options.image_resolve_mode)
    external = external_frontend(decode(text), options.build_args, images, options.build_platform)
    file: ParsedFile | None = None
    for number, platform in enumerate(options.target_platforms or (None,)):
        lint = make_linter(text, options)
        try:
            file = file if number else parse_file(text, lint)
            assert file is not None
            results.append(_result(convert_file(file, platform, options, resolver, images, lint)))
        finally:
            if number == 0:  # the others would say the same again
                warnings = tuple(lint.warnings)
                for warning in warnings if options.warn else ():
                    assert options.warn is not None
                    options.warn(warning)
    assert file is not None
    multi = args.multi_platform(options.build_args, options.multi_platform, len(options.target_platforms))
    source = SourceFile(options.dockerfile_name, text)
    return Converted(tuple(results), multi, warnings, _unused_args(file, options.build_args), source, external)


def make_linter(text: bytes, options: ConvertOptions) -> Linter:
    return linter_for(decode(text), options.build_args.get("BUILDKIT_DOCKERFILE_CHECK"))


def decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def parse_file(text: bytes, lint: Linter) -> ParsedFile:
    """Parse and run the lint rules of the file alone. Raises ``FrontendError``."""
    if not text:
        raise ConvertError("the Dockerfile cannot be empty")
    result = parse(decode(text))
    check_empty_continuations(result, lint)
    stages, commands = parse_stages(result.nodes, lint)
    if not stages:
        raise ConvertError("dockerfile contains no stages to build")
    check_stage_names(stages, lint)
    check_instruction_casing(stages, lint)
    return ParsedFile(stages, commands, Lex(result.escape_token))


def convert_file(
    file: ParsedFile,
    asked: Platform | None,
    options: ConvertOptions,
    resolver: MetaResolver,
    images: ImageConfigs,
    lint: Linter,
    *,
    all_stages: bool = False,
) -> ConvertedFile:
    """Convert for one platform; None: the one that is built on. Raises ``FrontendError``."""
    asked = None if asked is None else normalize(asked)
    context, infos = _context(file, asked, options, resolver, images, lint)
    context = replace(context, all_stages=all_stages)
    make_stages(file.stages, infos, context)
    target = find_target(context)
    link_stages(context)
    reachable = resolve_stages(target, context)
    for stage in list(context.stages.items):
        if all_stages or (stage in reachable and not stage.dispatched):
            _dispatch_stage(stage, context)
    target.draft.labels.update(options.labels)
    error = lint.error()
    if error is not None:
        raise error
    return ConvertedFile(target, for_platform(target.draft.finished(), asked), context)


def _context(
    file: ParsedFile,
    asked: Platform | None,
    options: ConvertOptions,
    resolver: MetaResolver,
    images: ImageConfigs,
    lint: Linter,
) -> tuple[ConvertContext, dict[str, ArgInfo]]:
    given = dict(options.build_args)
    if options.epoch:
        given.setdefault(epoch.NAME, options.epoch)
    platform = asked or normalize(options.build_platform)
    lex = replace(file.lex, budget=Budget())
    predefined = args.default_args(options.build_platform, platform, given, options.target or file.stages[-1].name)
    lintrules.default_args_in_from(file.stages, file.lex, predefined, file.global_commands, lint)
    values, infos = args.global_args(predefined, file.global_commands, given, lex)
    contexts = NamedContexts(options.named_contexts, options.build_platform)
    seconds = _resolve_epoch(file, options, given, values, contexts, resolver)
    ignore = options.ignore if isinstance(options.main_context, LocalSource) else ()
    context = ConvertContext(
        options=options,
        build_args=given,
        global_args=values,
        target_platform=platform,
        implicit=asked is None,
        multi_platform=args.multi_platform(given, options.multi_platform, len(options.target_platforms)),
        lex=lex,
        lint=lint,
        images=images,
        contexts=contexts,
        stages=Stages(),
        main=main_edge(options.main_context, ignore),
        ignore=_matcher(ignore),
        proxy_env=args.proxy_env(given),
        cache_namespace=given.get("BUILDKIT_CACHE_MOUNT_NS", ""),
        hostname=given.get("BUILDKIT_SANDBOX_HOSTNAME") or options.hostname,
        epoch=seconds,
    )
    return context, infos


def _resolve_epoch(
    file: ParsedFile,
    options: ConvertOptions,
    given: dict[str, str],
    values: dict[str, str],
    contexts: NamedContexts,
    resolver: MetaResolver,
) -> int | None:
    """Find SOURCE_DATE_EPOCH, and put what it came to wherever it was given: ARG SOURCE_DATE_EPOCH shows the number."""
    value = given.get(epoch.NAME) or (values.get(epoch.NAME, "") if epoch.NAME not in given else "")
    try:
        seconds = epoch.resolve_epoch(value, file.stages, given, values, file.lex, options.main_context, contexts, resolver)
    except ResolveError as e:
        raise ConvertError(str(e)) from e
    for place in (given, values):
        if epoch.NAME in place:
            if seconds is None:
                del place[epoch.NAME]
            else:
                place[epoch.NAME] = str(seconds)
    return seconds


def _matcher(patterns: tuple[str, ...]) -> PatternMatcher | None:
    if not patterns:
        return None
    from builder.text import patterns as pm

    try:
        return pm.PatternMatcher(patterns, "exclude")
    except pm.BadPatternError as e:
        raise ConvertError(str(e)) from None


def _dispatch_stage(stage: StageState, context: ConvertContext) -> None:
    stage.inherit()
    stage.dispatched = True
    if stage.platform is None:
        stage.platform = context.target_platform
    _start_state(stage)
    for command in stage.commands:
        dispatch(stage, command, context)
    stage.scan_context = _is_scanned(stage, args.SBOM_SCAN_CONTEXT, context.global_args)
    stage.scan_stage = _is_scanned(stage, args.SBOM_SCAN_STAGE, context.global_args)


def _start_state(stage: StageState) -> None:
    """What a stage has from its base: variables, folder, user; PATH is always set."""
    if not stage.draft.has_env("PATH") and stage.platform is not None and stage.platform.os != "windows":
        stage.draft.set_env("PATH", DEFAULT_PATH)
    for name, value in stage.draft.variables():
        stage.set_variable(name, value)
    config = stage.config
    if config.working_dir:
        set_workdir(stage, config.working_dir)
    if config.user:
        stage.state = replace(stage.state, user=config.user)


def _is_scanned(stage: StageState, name: str, global_args: Mapping[str, str]) -> bool:
    values = [global_args[name]] if name in global_args else []
    values += [arg.value for arg in stage.build_args if arg.key == name and arg.value is not None]
    return bool(values) and args.enabled_for_stage(stage.name, values[-1])


def _result(converted: ConvertedFile) -> TargetResult:
    target, context = converted.target, converted.context
    scan = [("context", context.main)] if target.scan_context else []
    needed = reachable_from(target)
    others = [stage for stage in context.stages.items if stage in needed and stage is not target]
    scanned = [stage for stage in others if stage.scan_stage]
    return TargetResult(
        platform=context.target_platform,
        edge=target.state.edge,
        config=converted.config,
        base_config=target.base_image,
        epoch=context.epoch,
        stage=target.stage.name,
        ignore_cache=target.ignore_cache or any(stage.ignore_cache for stage in scanned),
        scan=(*scan, *((stage.name, stage.state.edge) for stage in scanned)),
    )


def _unused_args(file: ParsedFile, given: Mapping[str, str]) -> tuple[str, ...]:
    commands = [command for stage in file.stages for command in stage.commands if isinstance(command, ArgCommand)]
    declared = {arg.key for command in (*file.global_commands, *commands) for arg in command.args}
    return tuple(sorted(name for name in given if name not in declared and not args.is_predefined(name)))
