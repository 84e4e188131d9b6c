"""Base images of the stages that are needed, and the triggers (ONBUILD) they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.graph.ops import ImageSource
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.oci.platform import Platform, normalize
from builder.oci.reference import Reference
from builder.text.quoting import quote
from builder.values import replace
from frontend import suggest
from frontend.convert import contexts
from frontend.convert.image import empty_image
from frontend.convert.imageconfigs import image_key
from frontend.convert.lintrules import base_image_platform
from frontend.convert.names import step_name
from frontend.convert.options import ResolveError
from frontend.convert.stage import SCRATCH, reachable_from
from frontend.convert.stages import link_command
from frontend.convert.state import State, locations
from frontend.errors import ConvertError, FrontendError, Range
from frontend.instructions.types import OnbuildCommand

if TYPE_CHECKING:
    from builder.oci.image import ImageConfig
    from frontend.convert.context import ConvertContext
    from frontend.convert.imageconfigs import BaseImage
    from frontend.convert.stage import StageState

_COMMON_IMAGES = ("alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora")


def resolve_stages(target: StageState, context: ConvertContext) -> set[StageState]:
    """Resolve what ``target`` stands on and gives the stages it needs, in rounds: triggers may need further stages."""
    while True:
        reachable = reachable_from(target)
        _resolve_bases(reachable, context)
        found = [_take_triggers(stage, context) for stage in list(context.stages.items) if stage in reachable]
        if not any(found):
            return reachable


def _resolve_bases(reachable: set[StageState], context: ConvertContext) -> None:
    waiting: list[StageState] = []
    for stage in context.stages.items:
        if stage.base is not None or stage.dispatched or stage.resolved:
            continue
        stage.resolved = context.all_stages or stage in reachable
        if stage.base_name == SCRATCH and stage.named_context is None:
            stage.state = State()
            stage.start_from(empty_image(context.target_platform))
            stage.platform = context.target_platform
            stage.dispatched = stage.unregistered
        else:
            _check_base_name(stage)  # of all stages, needed or not
            waiting += [stage] if stage.resolved else []
    images = [_image_wanted(stage, context) for stage in waiting]
    context.images.prefetch([key for key in images if key is not None])
    for stage in waiting:
        try:
            _resolve_base(stage, context)
        except (FrontendError, ResolveError) as e:
            raise _located(e, stage.stage.location) from e
        stage.dispatched = stage.dispatched or stage.unregistered


def _located(error: FrontendError | ResolveError, location: tuple[Range, ...]) -> FrontendError:
    return error.at(location) if isinstance(error, FrontendError) else ConvertError(str(error), location)


def _check_base_name(stage: StageState) -> None:
    try:
        Reference.parse(stage.base_name)
    except ValueError as e:
        raise ConvertError(f"failed to parse stage name {quote(stage.base_name)}: {e}", stage.stage.location) from None


def _image_wanted(stage: StageState, context: ConvertContext) -> tuple[str, str, Platform] | None:
    """Key of the image config that resolving the stage will ask for."""
    named = stage.named_context or context.contexts.find(stage.base_name, _platform(stage, context))
    if named is None:
        return image_key(_reference(stage), _platform(stage, context))
    if named.kind == "oci-layout":
        return (named.key, named.ref, named.platform)
    return image_key(contexts.image_ref(named), named.platform) if named.kind == "docker-image" else None


def _platform(stage: StageState, context: ConvertContext) -> Platform:
    return stage.platform or context.target_platform


def _reference(stage: StageState) -> str:
    return str(Reference.parse(stage.base_name).with_default_tag())


def _resolve_base(stage: StageState, context: ConvertContext) -> None:
    platform = _platform(stage, context)
    if stage.named_context is not None:
        _take_context(stage, context)
        return
    named = context.contexts.find(stage.base_name, platform)
    if named is None:
        _take_image(stage, context)
        return
    state, image = contexts.load(named, context.images)
    stage.base_image = image
    stage.start_from(image or empty_image(platform))
    stage.state = replace(state, platform=normalize(platform))
    stage.platform = platform


def _take_context(stage: StageState, context: ConvertContext) -> None:
    """A named context with the name of a stage takes its place, its commands are not looked at."""
    assert stage.named_context is not None
    stage.state, image = contexts.load(stage.named_context, context.images)
    stage.dispatched = True
    if image is None:
        # A folder has no config and so no architecture; the stage, or one on it, makes files but no image.
        stage.draft.image = replace(stage.draft.image, platform=Platform(context.target_platform.os, ""))
        return
    stage.start_from(image)
    if image.platform.architecture and image.platform.os:
        stage.platform = image.platform


def _take_image(stage: StageState, context: ConvertContext) -> None:
    written, platform = stage.base_name, _platform(stage, context)
    stage.base_name = _reference(stage)
    base = _base_image(stage, written, platform, context)
    stage.base_image = base.config
    stage.start_from(replace(base.config, created=""))
    stage.base_name = base.ref
    if stage.platform is None and context.implicit:
        platform = _detected(base.config, platform, context)
    stage.platform = platform
    if not base.config.diff_ids and all(entry.empty_layer for entry in base.config.history):
        # Images without layers can't be pulled as a filesystem. (Those of schema 1 tell of layers by their history only.)
        stage.state = State()
        return
    meta = VertexMeta(
        name=step_name(stage, f"FROM {stage.base_name}", platform, {}),
        locations=locations(stage.stage.location),
        stage=stage.stage.name,
        instruction=stage.stage.source_code,
    )
    source = ImageSource(stage.base_name, context.options.image_resolve_mode)
    normal = normalize(platform)  # names say what was written; the solver knows one spelling of a platform
    stage.state = State(Edge(Vertex(source, platform=normal, meta=meta)), platform=normal)
    base_image_platform(written, platform, base.config.platform, stage.stage.location, context.lint)


def _base_image(stage: StageState, written: str, platform: Platform, context: ConvertContext) -> BaseImage:
    try:
        return context.images.image(stage.base_name, platform)
    except ResolveError as e:
        near = suggest.search(written, [*context.stages.names(), *_common_names()])
        hint = f" (did you mean {near}?)" if near else ""
        raise ConvertError(f"{written}: {e}{hint}", suggestion=near) from e


def _common_names() -> list[str]:
    return [form for name in _COMMON_IMAGES for form in (name, f"{name}:latest")]


def _detected(image: ImageConfig, target: Platform, context: ConvertContext) -> Platform:
    """With no platform asked for an image of another one that can be run is taken for what it is."""
    have, build = image.platform, context.options.build_platform
    if (have.os, have.architecture) == (target.os, target.architecture):
        return target
    return build if (have.os, have.architecture) == (build.os, build.architecture) else target


def _take_triggers(stage: StageState, context: ConvertContext) -> bool:
    """Put the triggers of the base in front of the stage's commands. True if they read stages."""
    stage.inherit()
    triggers = list(stage.draft.onbuild)
    if stage.base is not None and not stage.triggers_taken:
        commands = (linked.command for linked in stage.base.commands)
        triggers += [command.expression for command in commands if isinstance(command, OnbuildCommand)]
        stage.triggers_taken = True
    if not triggers:
        return False
    try:
        return _add_triggers(stage, triggers, context)
    except FrontendError as e:
        e.ranges = stage.stage.location
        raise
    finally:
        stage.draft.onbuild = []


def _add_triggers(stage: StageState, triggers: list[str], context: ConvertContext) -> bool:
    from frontend.instructions.parse import parse_command
    from frontend.parser import parse

    linked = []
    for trigger in triggers:
        nodes = parse(trigger).nodes
        if len(nodes) != 1:
            raise ConvertError("onbuild trigger should be a single expression")
        lines = stage.stage.location
        node = replace(nodes[0], start_line=lines[0].start if lines else 0, end_line=lines[-1].end if lines else 0)
        linked.append(link_command(stage, parse_command(node), context, from_trigger=True))
    stage.commands[:0] = linked
    stage.total += len(linked)
    return any(command.sources for command in linked)
