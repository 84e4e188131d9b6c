"""What the user asked for: the flags of ``build`` as typed values. Pure: text in, values or UsageError out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from builder.errors import UsageError
from builder.exporters.types import OutputSpec
from builder.graph.ops import Ulimit
from builder.graph.platform import Platform
from builder.graph.reference import Reference
from builder.graph.values import dataclass, field

if TYPE_CHECKING:
    from builder.remotecache.types import CacheExport, Place

_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()  # noqa: SIM905
)
_NO_KEYS, _USE_AGENT = "key files are not supported", "load the keys into an ssh-agent and name its socket"
ENTITLEMENTS = ("network.host", "security.insecure", "device")


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """Where a secret comes from: a file or an environment variable."""

    id: str
    file: str = ""
    env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One ``pybuild build``. ``context`` and ``file`` as typed; an empty ``file`` is the context's Dockerfile."""

    context: str
    file: str = ""
    target: str = ""
    tags: tuple[Reference, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[Platform, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    no_cache: Literal["all"] | frozenset[str] = frozenset()
    pull: bool = False
    network: Literal["default", "host", "none"] = "default"
    add_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    shm_size: int = 0
    cgroup_parent: str = ""
    build_contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[SecretSpec, ...] = ()
    ssh: Mapping[str, str] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    call: str = "build"
    progress: str = "auto"
    quiet: bool = False
    iidfile: str = ""
    metadata_file: str = ""
    max_parallelism: int = 0
    explain: bool = False
    cache_from: tuple[Place, ...] = ()
    cache_to: tuple[CacheExport, ...] = ()


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
    from builder.graph.platform import host, normalize

    out: list[Platform] = []
    for text in (p.strip() for v in values for p in v.split(",")):
        try:
            out.append(host() if text.lower() == "local" else normalize(Platform.parse(text)))
        except ValueError as e:
            raise UsageError(f"invalid value {text!r} for --platform: {e}") from e
    return tuple(out)


def parse_secret(text: str) -> SecretSpec:
    """``id=X[,src=FILE|,env=VAR][,type=file|env]``; without a source the id names a variable or a file (buildx' rule)."""
    values: dict[str, str] = {}
    for part in _csv(text, "secret"):
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"invalid field {part!r} must be a key=value pair in --secret")
        values[key.lower()] = value
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


def parse_ssh(values: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """``ID[=SOCKET]`` -> id -> socket; ``default`` is SSH_AUTH_SOCK."""
    import os
    import stat

    out: dict[str, str] = {}
    for text in values:
        name, _, path = text.partition("=")
        if "," in path:
            raise UsageError(f"--ssh {text}: {_NO_KEYS}", hint=_USE_AGENT)
        path = path or environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise UsageError(f"invalid empty ssh agent socket for --ssh {text}", hint="SSH_AUTH_SOCK is not set")
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError as e:
            raise UsageError(f"--ssh {text}: {path}: {e.strerror}") from e
        if not is_socket:
            raise UsageError(f"--ssh {text}: {_NO_KEYS}", hint=_USE_AGENT)
        out[name or "default"] = path
    return out


def parse_add_host(text: str) -> tuple[str, str]:
    """``HOST=IP`` or ``HOST:IP``; brackets around an IPv6 address are dropped."""
    import ipaddress

    host, sep, ip = text.partition("=")
    if not sep:
        host, sep, ip = text.partition(":")
    if not host or not ip:
        raise UsageError(f"invalid add-host value: {text!r}, expected HOST=IP")
    if ip == "host-gateway":
        raise UsageError("--add-host HOST=host-gateway is not supported", hint="name the address")
    ip = ip.removeprefix("[").removesuffix("]")
    try:
        return host, str(ipaddress.ip_address(ip))
    except ValueError as e:
        raise UsageError(f"invalid IP address in add-host: {ip!r}") from e


def parse_ulimit(text: str) -> Ulimit:
    """``NAME=SOFT[:HARD]``; -1 is no limit."""
    name, equals, value = text.partition("=")
    soft_text, _, hard_text = value.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if hard_text else soft
    except ValueError as e:
        raise UsageError(f"invalid ulimit argument: {text}") from e
    if not equals or name not in _ULIMITS:
        raise UsageError(f"invalid ulimit type: {name}", hint="types are " + ", ".join(sorted(_ULIMITS)))
    if hard != -1 and (soft > hard or soft == -1):
        raise UsageError(f"ulimit soft limit must be less than or equal to hard limit: {text}")
    return Ulimit(name, soft, hard)


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
        if text not in ENTITLEMENTS:
            raise UsageError(f"unknown entitlement {text!r} for --allow", hint="entitlements are " + ", ".join(ENTITLEMENTS))
    return frozenset(values)


def _csv(text: str, flag: str) -> list[str]:
    import csv

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as e:
        raise UsageError(f"invalid --{flag} {text!r}: {e}") from e
