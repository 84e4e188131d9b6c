"""WORKDIR: a setting, and a folder that is made if it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.graph.ops import NO_INPUT, MkdirAction
from builder.graph.vertex import VertexMeta
from builder.text.paths import clean
from builder.text.times import NS
from builder.values import replace
from frontend.convert import names
from frontend.convert.owner import parse_owner
from frontend.convert.paths import normalize, os_form, unix_form
from frontend.convert.state import locations, mkdir_edge
from frontend.errors import ConvertError
from frontend.lint import rules

if TYPE_CHECKING:
    from frontend.convert.context import ConvertContext
    from frontend.convert.stage import StageState
    from frontend.instructions.types import WorkdirCommand


def dispatch_workdir(stage: StageState, command: WorkdirCommand, context: ConvertContext) -> None:
    if not stage.workdir_set and not _unix(stage, command.path).startswith("/"):
        # What the base image has may change. Told once: an absolute one mends all that follow.
        context.lint.run(rules.WORKDIR_RELATIVE_PATH, command.location, command.path)
    stage.workdir_set = True
    set_workdir(stage, command.path)
    folder = stage.state.dir
    if folder != "/":
        _make_folder(stage, command, context, folder)
    stage.commit(f"WORKDIR {folder}", layer=folder != "/")


def set_workdir(stage: StageState, path: str) -> None:
    """The setting alone, as a base image brings it. The path is kept as it is written if it is absolute."""
    folder = normalize(_unix(stage, stage.config.working_dir), _unix(stage, path), keep_slash=False)
    stage.configure(working_dir=os_form(folder, _os(stage)))
    stage.state = replace(stage.state, dir=folder)


def _os(stage: StageState) -> str:
    return stage.platform.os if stage.platform is not None else ""


def _unix(stage: StageState, path: str) -> str:
    try:
        return unix_form(path, _os(stage))
    except ValueError as e:
        raise ConvertError(f"normalizing workdir: {e}") from None


def _make_folder(stage: StageState, command: WorkdirCommand, context: ConvertContext, folder: str) -> None:
    env = stage.state.env
    text = names.uppercase_keyword(names.expanded(str(command), context.lex, env))
    user = stage.config.user
    action = MkdirAction(
        NO_INPUT,
        0,
        clean(folder),
        0o755,
        make_parents=True,
        owner=parse_owner(user) if user else None,
        timestamp=None if stage.epoch is None else stage.epoch * NS,
    )
    meta = VertexMeta(
        name=names.step_name(stage, text, stage.platform, env),
        locations=locations(command.location),
        stage=stage.stage.name,
        instruction=f"WORKDIR {folder}",
    )
    stage.state = stage.state.on(mkdir_edge(stage.state.edge, action, meta))
