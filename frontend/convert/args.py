"""Build arguments outside of stages: predefined ones, global ARGs, proxies, and the BUILDKIT_* switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.text.strconv import truth_of
from builder.values import dataclass, replace
from frontend.errors import ConvertError, ShellError

if TYPE_CHECKING:
    from builder.oci.platform import Platform
    from frontend.errors import Range
    from frontend.instructions.types import ArgCommand, KeyValuePairOptional
    from frontend.shell import Lex

SBOM_SCAN_CONTEXT = "BUILDKIT_SBOM_SCAN_CONTEXT"
SBOM_SCAN_STAGE = "BUILDKIT_SBOM_SCAN_STAGE"
NOT_IN_ENVIRONMENT = frozenset((SBOM_SCAN_CONTEXT, SBOM_SCAN_STAGE))
"""Arguments that are for the builder: an ARG of such a name is no variable of the stage."""

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_PLATFORM = (
    "BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT",
    "TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArgInfo:
    """An argument as the outline shows it: its value, who it depends on, where it was declared."""

    definition: KeyValuePairOptional
    location: tuple[Range, ...]
    value: str = ""
    deps: frozenset[str] = frozenset()


def default_args(build: Platform, target: Platform, given: Mapping[str, str], target_stage: str) -> dict[str, str]:
    """The platform arguments of global scope; a build argument of the same name wins."""
    values = (
        str(replace(build, os_version="")), build.os, build.os_version, build.architecture, build.variant,
        str(target), target.os, target.os_version, target.architecture, target.variant, target_stage or "default",
    )  # fmt: skip
    return {name: given.get(name, value) for name, value in zip(_PLATFORM, values, strict=True)}


def global_args(
    env: Mapping[str, str], commands: Sequence[ArgCommand], given: Mapping[str, str], lex: Lex
) -> tuple[dict[str, str], dict[str, ArgInfo]]:
    """Values of the ARGs before the first FROM, on top of ``env``, and what the outline says of them.

    Raises ``ShellError`` with its place.
    """
    values = dict(env)
    infos: dict[str, ArgInfo] = {}
    for command in commands:
        for definition in command.args:
            info = ArgInfo(definition, command.location)
            value = given.get(definition.key, definition.value)
            if definition.key not in given and definition.value is not None:
                try:
                    result = lex.process_word_with_matches(definition.value, values)
                except ShellError as e:
                    raise e.at(command.location) from None
                value = result.result
                deps = set(result.matched)
                if definition.key in deps:  # ARG A=$A-more depends on what the A before depends on
                    deps.remove(definition.key)
                    deps |= infos[definition.key].deps if definition.key in infos else set()
                info = replace(info, deps=frozenset(deps))
            if value is not None:
                values.pop(definition.key, None)  # the last one of a name stands last
                values[definition.key] = value
                info = replace(info, value=value)
            infos[definition.key] = info
    return values, infos


def proxy_env(given: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that proxy arguments become, in both casings, as BuildKit's ExecOp sets them.

    Commands have them without any ARG; they are no part of a cache key and not in history.
    """
    found: dict[str, str] = {}
    for name in sorted(given):
        if name.lower() in _PROXIES:
            found[name.lower()] = given[name]
    both = ((name.upper(), name) for name in _PROXIES)
    return tuple(f"{name}={found[pair[1]]}" for pair in both if found.get(pair[1]) for name in pair)


def is_predefined(name: str) -> bool:
    """Whether a build argument has a meaning without an ARG that declares it."""
    return name.lower() in _PROXIES or name in _PLATFORM or name.startswith("BUILDKIT_") or name == "SOURCE_DATE_EPOCH"


def multi_platform(given: Mapping[str, str], asked: bool | None, platforms: int) -> bool:
    """Whether an index is wanted: BUILDKIT_MULTI_PLATFORM, else ``asked``, else if there are several platforms."""
    text = given.get("BUILDKIT_MULTI_PLATFORM", "")
    wanted = truth_of(text) if text else asked
    if text and wanted is None:
        raise ConvertError(f"invalid boolean value for multi-platform: {text}")
    if wanted is False and platforms > 1:
        raise ConvertError("conflicting config: returning multiple target platforms is not allowed")
    return platforms > 1 if wanted is None else wanted


def enabled_for_stage(stage: str, value: str) -> bool:
    """A switch that is a boolean or a list of stage names."""
    flag = truth_of(value)
    return stage in value.split(",") if flag is None else flag
