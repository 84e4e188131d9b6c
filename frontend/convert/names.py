"""The texts that progress shows: ``[linux/amd64 build 2/5] RUN make``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.oci.platform import Platform, normalize
from builder.text.chars import SPACE
from frontend.errors import ShellError

if TYPE_CHECKING:
    from frontend.convert.stage import StageState
    from frontend.shell import Lex


def step_name(stage: StageState, text: str, platform: Platform | None, env: Mapping[str, str]) -> str:
    """``text`` with the place of the step before it. Takes the next number of the stage."""
    if stage.total == 0:
        return text
    stage.index += 1
    return numbered(stage, text, platform, env)


def numbered(stage: StageState, text: str, platform: Platform | None, env: Mapping[str, str]) -> str:
    """As ``step_name``, with the number of the step before."""
    if stage.total == 0:
        return text
    prefix = ""
    if stage.prefix_platform and platform is not None:
        prefix = f"{platform}{_cross_target(platform, target_of(env))} "
    if stage.name:
        prefix += stage.name + " "
    trigger = "ONBUILD " if stage.in_trigger else ""
    return f"[{prefix}{stage.index:{len(str(stage.total))}d}/{stage.total}] {trigger}{text}"


def uppercase_keyword(text: str) -> str:
    keyword, space, rest = text.partition(" ")
    return keyword.upper() + space + rest


def expanded(text: str, lex: Lex, env: Mapping[str, str]) -> str:
    """``text`` with variables replaced, or as it is if that fails: a name is no reason to stop."""
    try:
        return lex.process_word(text, env)
    except ShellError:
        return text


def heredoc_summary(text: str) -> str:
    """First line, and ``...`` if there are more."""
    first, newline, _ = text.strip(SPACE).replace("\r\n", "\n").partition("\n")
    return first + "..." if newline else first


def target_of(env: Mapping[str, str]) -> Platform | None:
    """The platform that TARGET* variables of a stage tell of."""
    values = {"TARGETOS": "", "TARGETARCH": "", "TARGETVARIANT": ""}
    for name in env:
        if name == "TARGETPLATFORM":
            try:
                return Platform.parse(env[name])
            except ValueError:
                continue
        if name in values:
            values[name] = env[name]
    if not any(name in env for name in values):
        return None
    return Platform(values["TARGETOS"], values["TARGETARCH"], values["TARGETVARIANT"])


def _cross_target(base: Platform, target: Platform | None) -> str:
    """``->arm64`` where a stage runs on one platform and builds for another."""
    if target is None:
        return ""
    full = Platform(target.os or base.os, target.architecture or base.architecture, target.variant, target.os_version)
    wanted = normalize(full)
    if wanted.os != base.os:
        return f"->{wanted}"
    if wanted.architecture == base.architecture:
        return ""
    return "->" + "/".join(filter(None, (wanted.architecture, wanted.variant)))
