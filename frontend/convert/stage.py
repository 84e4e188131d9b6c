"""A stage while it is converted, and the stages of a build."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from builder.oci.image import ContainerConfig, History, ImageConfig
from builder.oci.platform import Platform
from builder.text.redact import redact_history
from builder.text.times import NS, format_rfc3339
from builder.values import dataclass, field, replace
from frontend.convert.draft import ImageDraft
from frontend.convert.history import COMMENT
from frontend.convert.outline_capture import OutlineCapture
from frontend.convert.state import State
from frontend.errors import ConvertError, Range
from frontend.instructions.types import Stage

if TYPE_CHECKING:
    from frontend.convert.contexts import NamedContext
    from frontend.instructions.types import Command, KeyValuePairOptional

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class StageCommand:
    """A command with the stages it reads: one a mount of RUN, one for COPY --from, else none."""

    command: Command
    sources: tuple[StageState, ...] = ()
    from_trigger: bool = False


@dataclass(slots=True, eq=False)
class StageState:
    """One stage (BuildKit's dispatchState): made from its FROM, resolved if it stands on an image, then dispatched.

    ``name``           as progress shows it; ``stage.name`` is the one that was given
    ``base_name``      the image, with digest once resolved
    ``base``           the stage it continues, if it does
    ``deps``           stages that its commands read, with one command that does
    ``unregistered``   an image that --from names: no stage of the file, nothing to dispatch
    ``dispatched``     ``state`` and ``draft`` are final
    ``draft``          the image config as far as it has come
    ``total, index``   steps of the stage that progress counts, and the number of the last one
    """

    stage: Stage
    name: str
    base_name: str
    outline: OutlineCapture
    epoch: int | None = None
    platform: Platform | None = None
    named_context: NamedContext | None = None
    unregistered: bool = False
    prefix_platform: bool = False
    ignore_cache: bool = False
    total: int = 0

    index: int = 0
    in_trigger: bool = False
    state: State = field(default_factory=State)
    draft: ImageDraft = field(default_factory=lambda: ImageDraft(ImageConfig(Platform("", ""))))
    base_image: ImageConfig | None = None
    base: StageState | None = None
    deps: dict[StageState, Command] = field(default_factory=dict)
    commands: list[StageCommand] = field(default_factory=list)
    build_args: list[KeyValuePairOptional] = field(default_factory=list)
    resolved: bool = False
    dispatched: bool = False
    triggers_taken: bool = False
    workdir_set: bool = False
    """WORKDIR was given by this Dockerfile (not by the base image)."""
    last_of: dict[str, tuple[Range, ...]] = field(default_factory=dict)
    """Where CMD, ENTRYPOINT and HEALTHCHECK were given last in this very stage."""
    scan_stage: bool = False
    scan_context: bool = False

    def inherit(self) -> None:
        """Take over what the base stage has; triggers are not handed on."""
        base = self.base
        if base is None:
            return
        self.state = replace(base.state, env=dict(base.state.env))
        self.platform = base.platform
        self.draft = base.draft.copy()
        self.draft.onbuild = []
        self.base_image = base.base_image
        self.workdir_set = base.workdir_set
        self.build_args += base.build_args

    @property
    def config(self) -> ContainerConfig:
        """Fields of the container config that do not grow; env, labels, ports, volumes and triggers are in ``draft``."""
        return self.draft.image.config

    @property
    def image_os(self) -> str:
        """Of the image, which says how its paths and shells are."""
        return self.draft.image.platform.os

    def start_from(self, image: ImageConfig) -> None:
        """Take ``image`` for the config to change."""
        self.draft = ImageDraft(image)

    def set_variable(self, name: str, value: str) -> None:
        """For the commands that follow; the last one of a name counts, and stands last."""
        self.state.env.pop(name, None)
        self.state.env[name] = value

    def configure(self, **fields: Any) -> None:
        """Change fields of the container config that do not grow."""
        self.draft.configure(**fields)

    def commit(self, created_by: str, *, layer: bool = False) -> None:
        """Add a line to the history, without credentials of URLs; ``layer``: the step may give a layer."""
        created = "" if self.epoch is None else format_rfc3339(self.epoch * NS)
        entry = History(created, redact_history(created_by), "", COMMENT, not layer)
        self.draft.history.append(entry)


class Stages:
    """All stages of a build, in order, and those that have a name."""

    __slots__ = ("by_name", "items")

    def __init__(self) -> None:
        self.items: list[StageState] = []
        self.by_name: dict[str, StageState] = {}

    def add(self, stage: StageState) -> None:
        """Add a stage; it continues the one before that its FROM names, if there is one."""
        self.items.append(stage)
        base = self.by_name.get(stage.base_name)
        if base is not None:
            stage.base = base
            stage.outline = base.outline.clone()
        if stage.stage.name:
            self.by_name[stage.stage.name.lower()] = stage

    def names(self) -> list[str]:
        return [stage.name for stage in self.items if stage.name]

    def find(self, name: str) -> StageState | None:
        """The stage of that name, in any casing."""
        return self.by_name.get(name.lower())

    def at(self, index: int) -> StageState:
        if not 0 <= index < len(self.items):
            raise ConvertError(f"invalid stage index {index}")
        return self.items[index]


def image_stage(ref: str, location: tuple[Range, ...]) -> StageState:
    """The image that a --from names where no stage has that name."""
    stage = Stage("", "", ref, "", "", "", location, ())
    return StageState(stage, "", ref, OutlineCapture(), unregistered=True)


def reachable_from(target: StageState) -> set[StageState]:
    """The stages that ``target`` needs, itself among them."""
    found: set[StageState] = set()
    todo = [target]
    while todo:
        stage = todo.pop()
        if stage not in found:
            found.add(stage)
            todo += stage.deps
            if stage.base is not None:
                todo.append(stage.base)
    return found


def check_circular(stages: Iterable[StageState]) -> None:
    """Raise ``ConvertError`` at the commands that make stages need each other."""
    visited: set[StageState] = set()
    for start in stages:
        if start in visited:
            continue
        visited.add(start)
        path = {start}
        # The way down: where the command stands that led to each stage, and what the stage still has to show. No recursion: files
        # have as many stages as somebody generates.
        way: list[tuple[tuple[Range, ...], StageState, Iterator[tuple[StageState, Command]]]]
        way = [((), start, iter(start.deps.items()))]
        while way:
            _, stage, rest = way[-1]
            dep, command = next(rest, (None, None))
            if dep is None or command is None:
                way.pop()
                path.remove(stage)
            elif dep in path:
                ranges = tuple(item for location, _, _ in way for item in location) + command.location
                raise ConvertError(f"circular dependency detected on stage: {start.name}", ranges)
            elif dep not in visited:
                visited.add(dep)
                path.add(dep)
                way.append((command.location, dep, iter(dep.deps.items())))
