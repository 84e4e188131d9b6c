"""``--call=outline``: the arguments, secrets and ssh agents that a target asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.text.gojson import JSON, JSONObject
from builder.values import dataclass
from frontend.convert.convert import convert_file, make_linter, parse_file
from frontend.convert.imageconfigs import ImageConfigs
from frontend.tables import base64_text, location_json, table

if TYPE_CHECKING:
    from frontend.convert.options import ConvertOptions, MetaResolver
    from frontend.convert.stage import StageState
    from frontend.errors import Range


@dataclass(frozen=True, slots=True)
class Arg:
    """``value`` is the one in force; ``description`` comes from the comment above."""

    name: str
    value: str
    description: str
    location: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """A secret or an ssh agent."""

    name: str
    required: bool
    location: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """Lists are in the order of the file."""

    name: str
    description: str
    args: tuple[Arg, ...]
    secrets: tuple[Need, ...]
    ssh: tuple[Need, ...]
    source: bytes

    def text(self) -> str:
        """The tables that buildx prints."""
        parts = []
        if self.name or self.description:
            rows = [("TARGET:", self.name or "(default)")]
            if self.description:
                rows.append(("DESCRIPTION:", self.description))
            parts.append(table(rows, 1))
        if self.args:
            rows3 = [(arg.name, arg.value, arg.description) for arg in self.args]
            parts.append(table([("BUILD ARG", "VALUE", "DESCRIPTION"), *rows3], 3))
        for title, needs in (("SECRET", self.secrets), ("SSH", self.ssh)):
            if needs:
                rows = [(need.name, "true" if need.required else "") for need in needs]
                parts.append(table([(title, "REQUIRED"), *rows], 3))
        return "".join(part + "\n" for part in parts)

    def json(self) -> JSONObject:
        """The result.json of BuildKit's frontend.outline."""
        args = [
            _filled(name=arg.name, description=arg.description, value=arg.value, location=location_json(arg.location))
            for arg in self.args
        ]
        return _filled(
            name=self.name,
            description=self.description,
            args=args,
            secrets=_needs_json(self.secrets),
            ssh=_needs_json(self.ssh),
            sources=[base64_text(self.source)],
        )


def outline(text: bytes, options: ConvertOptions, resolver: MetaResolver) -> Outline:
    """The outline of the target. Raises ``FrontendError``."""
    lint = make_linter(text, options)
    images = ImageConfigs(resolver, options.image_resolve_mode)
    platform = options.target_platforms[0] if options.target_platforms else None
    target = convert_file(parse_file(text, lint), platform, options, resolver, images, lint).target
    stages = _in_order(target)
    return Outline(
        target.stage.name,
        target.stage.doc_comment,
        tuple(sorted(_args(stages), key=_line)),
        tuple(sorted(_needs(stages, "secrets"), key=_line)),
        tuple(sorted(_needs(stages, "ssh"), key=_line)),
        text,
    )


def _in_order(target: StageState) -> list[StageState]:
    """The target, then depth first what it continues and reads: of two things of one name the nearer is shown."""
    found: list[StageState] = []
    todo = [target]
    while todo:
        stage = todo.pop()
        if stage not in found:
            found.append(stage)
            todo += reversed([*([stage.base] if stage.base else []), *stage.deps])
    return found


def _args(stages: Sequence[StageState]) -> list[Arg]:
    found: dict[str, Arg] = {}
    for stage in stages:
        for name in sorted(stage.outline.with_dependencies()):
            info = stage.outline.all_args.get(name)
            if info is not None and name not in found:
                found[name] = Arg(info.definition.key, info.value, info.definition.doc_comment, info.location)
    return list(found.values())


def _needs(stages: Sequence[StageState], kind: str) -> list[Need]:
    found: dict[str, Need] = {}
    for stage in stages:
        for name, info in getattr(stage.outline, kind).items():
            found.setdefault(name, Need(name, info.required, info.location))
    return list(found.values())


def _line(item: Arg | Need) -> int:
    return item.location[0].start if item.location else 0


def _needs_json(needs: Sequence[Need]) -> list[JSONObject]:
    return [_filled(name=need.name, required=need.required, location=location_json(need.location)) for need in needs]


def _filled(**fields: JSON) -> JSONObject:
    return {name: value for name, value in fields.items() if value}
