"""Which devices a step gets: those of its ``RUN --device`` that are registered and that the build may have (BuildKit:
solver/llbsolver/vertex.go, ValidateEntitlements, and solver/llbsolver/cdidevices)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.graph.ops import CDIDevice
from builder.text.quoting import quote
from builder.text.strconv import parse_bool
from runtime.cdi import AUTO_ALLOW_ANNOTATION, DEFAULT_FOLDERS, Edits, Registry, read

if TYPE_CHECKING:
    from builder.worker import Worker


def registry_of(worker: Worker) -> Registry:
    """What this machine has registered. UsageError where the configuration switches devices off."""
    if worker.config.cdi_disabled:
        raise UsageError("RUN --device can't be had: CDI is disabled by the configuration", hint="cdi.disabled is true")
    return read(worker.config.cdi_folders or DEFAULT_FOLDERS)


def granted(
    asked: Sequence[CDIDevice], allow: frozenset[str], registry: Registry, auto_allowed: Sequence[str]
) -> tuple[CDIDevice, ...]:
    """The devices by their full names; as they were asked for where ``--allow device`` allows all. UsageError names one that is not
    registered though required, or not allowed."""
    if "device" in allow:
        for one in asked:
            _found(one, registry)
        return tuple(asked)
    names, aliases = _allowed(allow)
    out = [CDIDevice(aliases[one.name], one.optional) for one in asked if one.name in aliases]
    for one in out:
        _found(one, registry)
    wanted = dict.fromkeys(name for one in asked if one.name not in aliases for name in _found(one, registry))
    may = {found for name in names for found in registry.find(name)}
    forbidden = [name for name in wanted if name not in may and not _auto(name, registry, auto_allowed)]
    if forbidden:
        which = f"devices {', '.join(forbidden)} are" if forbidden[1:] else f"device {forbidden[0]} is"
        cause = f"{which} requested by the build but not allowed"
        raise UsageError(cause, hint=f"allow it with --allow device={forbidden[0]}")
    return (*out, *(CDIDevice(name) for name in wanted))


def edits_of(devices: Sequence[CDIDevice], worker: Worker) -> Edits:
    """What the devices change in the sandbox. RuntimeFault names what can't be had."""
    if not devices:
        return Edits()
    registry = registry_of(worker)
    return registry.edits(tuple(name for one in devices for name in _found(one, registry)))


def with_env(env: Sequence[str], more: Sequence[str]) -> list[str]:
    """``more`` in the place of what has the same name, else behind the others."""
    values = {entry.partition("=")[0]: entry for entry in env}
    values.update((entry.partition("=")[0], entry) for entry in more)
    return list(values.values())


def _found(device: CDIDevice, registry: Registry) -> tuple[str, ...]:
    found = registry.find(device.name)
    if not found and not device.optional:
        raise UsageError(f"required device {quote(device.name)} is not registered", hint=registry.hint)
    return found


def _allowed(allow: frozenset[str]) -> tuple[list[str], dict[str, str]]:
    """(names, alias to name) of the entitlements ``device=NAME[,alias=ALIAS]``."""
    names: list[str] = []
    aliases: dict[str, str] = {}
    for text in sorted(allow):
        if text.startswith("device="):
            name, _, alias = text.removeprefix("device=").partition(",alias=")
            if alias:
                aliases[alias] = name
            else:
                names.append(name)
    return names, aliases


def _auto(name: str, registry: Registry, auto_allowed: Sequence[str]) -> bool:
    device = registry.devices[name]
    if name in auto_allowed or device.kind in auto_allowed:
        return True
    try:
        return parse_bool(device.annotations.get(AUTO_ALLOW_ANNOTATION, "false"))
    except ValueError:
        return False
