"""The words of ``docker buildx build`` and ``prune`` as values: what a BuildRequest or a PrunePolicy is made of.

Pure: text in, values or UsageError out. What is rarely asked for is imported when it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from builder.build.request import SecretSpec
from builder.errors import UsageError
from builder.graph.ops import LinuxResources, Ulimit
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.text.fields import flag_fields, key_values
from builder.text.strconv import parse_bool

if TYPE_CHECKING:
    from builder.remotecache.types import CacheExport, Place
    from builder.sources.pull import PullPolicy

_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()  # noqa: SIM905
)
ENTITLEMENTS = ("network.host", "security.insecure", "device")


def parse_pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """``K=V`` flags that may come many times; the last wins."""
    out: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"invalid value {text!r} for --{flag}: expected key=value")
        out[key] = value
    return out


def parse_build_args(values: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """``K=V``, or ``K`` alone: the value of the environment, if it has one."""
    out: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not key:
            raise UsageError(f"invalid value {text!r} for --build-arg: expected key=value")
        if equals:
            out[key] = value
        elif key in environ:
            out[key] = environ[key]
    return out


def parse_labels(values: Sequence[str]) -> dict[str, str]:
    """``K=V``; a key alone has the empty value, as in docker."""
    return {key: value for key, _, value in (text.partition("=") for text in values)}


def parse_tag(text: str) -> Reference:
    try:
        ref = Reference.parse(text)
    except ValueError as e:
        raise UsageError(f"invalid tag {text!r}: {e}") from e
    if ref.digest:
        raise UsageError(f"invalid tag {text!r}: refusing to create a tag with a digest reference")
    return ref.with_default_tag()


def parse_platforms(values: Sequence[str]) -> tuple[Platform, ...]:
    """Comma lists of platforms, in order and normal form; one that is given twice is twice in the index, as in BuildKit."""
    from builder.oci.platform import host, normalize

    out: list[Platform] = []
    for text in (p.strip() for v in values for p in v.split(",")):
        try:
            out.append(host() if text.lower() == "local" else normalize(Platform.parse(text)))
        except ValueError as e:
            raise UsageError(f"invalid value {text!r} for --platform: {e}") from e
    return tuple(out)


def parse_secret(text: str) -> SecretSpec:
    """``id=X[,src=FILE|,env=VAR][,type=file|env]``; without a source the id names a variable or a file (buildx' rule)."""
    values = key_values(flag_fields(text, "secret"), "secret")
    kind = values.pop("type", "")
    if kind not in ("", "file", "env"):
        raise UsageError(f"unsupported secret type {kind!r}")
    source = values.pop("src", values.pop("source", ""))
    spec = SecretSpec(values.pop("id", ""), source, values.pop("env", ""))
    if values:
        raise UsageError(f"unexpected key {next(iter(values))!r} in --secret")
    if kind == "env" and not spec.env:
        spec = SecretSpec(spec.id, "", spec.file)
    if not spec.id:
        if not spec.file and not spec.env:
            raise UsageError("secret missing 'id'")
        spec = SecretSpec(spec.file or spec.env, spec.file, spec.env)
    return spec


def parse_ssh(values: Sequence[str], environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """``ID[=SOCKET|=KEY[,KEY]]``: sockets of agents by id, and key files by id. ``default`` alone is SSH_AUTH_SOCK."""
    import os
    import stat

    sockets: dict[str, str] = {}
    keys: dict[str, tuple[str, ...]] = {}
    for text in values:
        name, _, value = text.partition("=")
        name = name or "default"
        paths = tuple((value or environ.get("SSH_AUTH_SOCK", "")).split(","))
        if name in sockets or name in keys:
            raise UsageError(f"duplicate agent ID {name!r} in --ssh")
        if "" in paths:
            hint = "" if value else "SSH_AUTH_SOCK is not set"
            raise UsageError(f"invalid empty ssh agent socket for --ssh {text}", hint=hint)
        try:
            are_sockets = [stat.S_ISSOCK(os.stat(path).st_mode) for path in paths]
        except OSError as e:
            raise UsageError(f"--ssh {text}: {e.filename}: {(e.strerror or '').lower()}") from e
        if not any(are_sockets):
            keys[name] = paths
        elif len(paths) == 1:
            sockets[name] = paths[0]
        else:
            raise UsageError(f"--ssh {text}: only single socket allowed")
    return sockets, keys


def parse_add_hosts(values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Comma lists (CSV) of ``HOST=IP`` or ``HOST:IP``; quoted, one may have several addresses: ``"HOST=IP,IP"``.

    Brackets around an IPv6 address are dropped. ``host-gateway`` is the host's loopback address: steps have the host's network.
    """
    out: list[tuple[str, str]] = []
    for text in (entry for value in values for entry in flag_fields(value, "add-host")):
        host, sep, ips = text.partition("=")
        if not sep:
            host, sep, ips = text.partition(":")
        if not host or not ips:
            raise UsageError(f"invalid host {text}", hint="--add-host takes HOST=IP")
        out += [(host.lower(), _ip(ip, text)) for ip in (ips.split(",") if ips != "host-gateway" else ["127.0.0.1"])]
    return tuple(out)


def _ip(ip: str, shown: str) -> str:
    """As Go prints it: an IPv4 address in an IPv6 one is itself."""
    import ipaddress

    if len(ip) > 2 and ip.startswith("[") and ip.endswith("]"):
        ip = ip[1:-1]
    try:
        if "%" in ip:
            raise ValueError("a scope belongs to no address")
        address = ipaddress.ip_address(ip)
    except ValueError as e:
        raise UsageError(f"invalid host {shown}", hint=f"{ip!r} is no IP address") from e
    return str(getattr(address, "ipv4_mapped", None) or address)


def parse_ulimits(values: Sequence[str]) -> tuple[Ulimit, ...]:
    """``NAME=SOFT[:HARD]`` each, -1 is no limit; sorted by name, of two for one name the last counts."""
    found = {limit.name: limit for limit in map(_ulimit, values)}
    return tuple(found[name] for name in sorted(found))


def _ulimit(text: str) -> Ulimit:
    name, equals, value = text.partition("=")
    numbers = value.split(":")
    if not equals or len(numbers) > 2 or not all(re.fullmatch(r"[+-]?[0-9]{1,18}", n) for n in numbers):
        raise UsageError(f"invalid ulimit argument: {text}", hint="--ulimit takes NAME=SOFT[:HARD], -1 is no limit")
    soft, hard = int(numbers[0]), int(numbers[-1])
    if name not in _ULIMITS:
        raise UsageError(f"invalid ulimit type: {name}", hint="types are " + ", ".join(sorted(_ULIMITS)))
    if soft < -1 or hard < -1:
        raise UsageError(f"invalid ulimit argument: {text}", hint="no limit is -1")
    if hard != -1 and (soft > hard or soft == -1):
        raise UsageError(f"ulimit soft limit must be less than or equal to hard limit: {text}")
    return Ulimit(name, soft, hard)


def parse_resources(entries: Sequence[str]) -> LinuxResources:
    """``NAME=VALUE`` each, as --resource takes them. UsageError for what docker refuses."""
    from builder.build.resource_flags import parse_resources as parse
    from builder.graph.ops import NO_LIMITS

    return parse(entries) if entries else NO_LIMITS


def parse_attest(text: str) -> tuple[str, bool]:
    """``type=TYPE[,disabled=BOOL][,...]``: the type, and whether it is wanted."""
    values = key_values(flag_fields(text, "attest"), "attest")
    kind, disabled = values.get("type", ""), values.get("disabled", "false")
    if not kind:
        raise UsageError("attestation type not specified", hint="--attest takes type=TYPE[,disabled=true]")
    try:
        return kind, not parse_bool(disabled)
    except ValueError as e:
        raise UsageError(f"invalid value disabled={disabled} for --attest") from e


def shorthand_attest(kind: str, value: str) -> tuple[str, bool]:
    """--provenance and --sbom: a boolean, or the parameters of --attest."""
    try:
        return kind, parse_bool(value)
    except ValueError:
        return parse_attest(f"type={kind},{value}")


def parse_size(text: str, flag: str) -> int:
    """Bytes of ``64m``, ``1.5g``, ``134217728`` (powers of 1024)."""
    lower = text.lower().removesuffix("ib") if text.lower().endswith("ib") else text.lower()
    unit = lower.removesuffix("b")[-1:] if not lower.removesuffix("b")[-1:].isdigit() else ""
    number = lower.removesuffix("b").removesuffix(unit) if unit else lower.removesuffix("b")
    try:
        return int(float(number) * _SIZES[unit])
    except (ValueError, KeyError, OverflowError) as e:
        raise UsageError(f"invalid size {text!r} for --{flag}") from e


def parse_network(text: str) -> Literal["default", "host", "none"]:
    match text:
        case "" | "default":
            return "default"
        case "host":
            return "host"
        case "none":
            return "none"
    raise UsageError(f"network mode {text!r} not supported by buildkit", hint="modes are default, host, none")


def parse_allow(values: Sequence[str]) -> frozenset[str]:
    for text in values:
        if text.startswith("device="):
            _check_device(text)
        elif text not in ENTITLEMENTS:
            raise UsageError(f"unknown entitlement {text!r} for --allow", hint="entitlements are " + ", ".join(ENTITLEMENTS))
    return frozenset(values)


def _check_device(text: str) -> None:
    """``device=NAME[,alias=ALIAS]``."""
    name, *fields = text.removeprefix("device=").split(",")
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals or key != "alias":
            raise UsageError(f"invalid device config {field!r} for --allow", hint="--allow takes device=NAME[,alias=ALIAS]")
        if len(fields) > 1 or not value:
            raise UsageError(f"--allow {text}: there is one alias")
    if not name:
        raise UsageError(f"--allow {text}: the name of the device is missing", hint="--allow device allows all")


def parse_pull(text: str) -> bool | PullPolicy:
    """``--pull``: true and false as buildx has them, and missing, always, newer, or an age (``12h``, ``7d``). UsageError."""
    if text in ("always", "missing"):
        return text == "always"
    try:
        return parse_bool(text)
    except ValueError:
        pass
    from builder.sources import pull

    try:
        return pull.parse_pull(text)
    except ValueError as e:
        raise UsageError(str(e)) from None


def parse_cache_from(values: Sequence[str]) -> tuple[Place, ...]:
    """``type=registry,ref=R``, ``type=local,src=FOLDER[,tag=T|digest=D]``, or references alone."""
    from builder.build import cache_flags

    return cache_flags.parse_cache_from(values)


def parse_cache_to(values: Sequence[str], build_args: Mapping[str, str]) -> tuple[CacheExport, ...]:
    """``type=registry,ref=R``, ``type=local,dest=FOLDER``, ``type=inline``; the build arg BUILDKIT_INLINE_CACHE=1 is the last."""
    from builder.build import cache_flags

    return cache_flags.parse_cache_to(values, build_args)


def parse_annotations(values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """``--annotation [TYPE[[PLATFORM]][,TYPE...]:]KEY=VALUE`` as attributes of the outputs that are images."""
    from builder.exporters.annotations import parse_flags

    return parse_flags(values)


def parse_filters(values: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """``--filter``: (filters of ``Root.usage`` and of a PrunePolicy, nanoseconds that ``until`` or ``unused-for`` says, else 0)."""
    from builder.cache.filters import from_flags

    return from_flags(values)


def parse_duration_ns(text: str, flag: str) -> int:
    """Nanoseconds of ``48h30m``."""
    from builder.config import parse_duration_ns as parse

    try:
        return parse(text)
    except ValueError as e:
        raise UsageError(f"invalid --{flag}: {e}") from e
