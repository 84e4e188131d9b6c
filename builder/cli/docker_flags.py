"""What scripts for ``docker build`` bring along: flags that mean nothing here or are not supported, and docker's own defaults.

A flag that changes nothing about the image is taken without a word, as buildx takes it; one that was meant to change something is
warned about where buildx warns (commands/build.go), and refused by name where buildx obeys.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from builder import UnsupportedError, read_user_file
from builder import flags as words
from builder.cli.goflags import switch

_SILENT = ("compress", "rm", "force-rm")
_WARNED = {
    "isolation": "there is one kind of isolation; --runtime chooses the sandbox",
    "security-opt": "RUN --security=insecure is how a step gets more rights",
    "squash": "a last stage of FROM scratch and COPY --from makes one layer",
}
_RESOURCES = (
    ("-m", "--memory"), ("--memory-swap",), ("-c", "--cpu-shares"), ("--cpu-period",), ("--cpu-quota",),
    ("--cpuset-cpus",), ("--cpuset-mems",),
)  # fmt: skip
_MAX_CONFIG = 16 << 20
_SOCKET = "unix:///var/run/docker.sock"
_PROXIES = {"httpProxy": "HTTP_PROXY", "httpsProxy": "HTTPS_PROXY", "noProxy": "NO_PROXY", "ftpProxy": "FTP_PROXY"}


def docker_options(f: Any) -> Any:
    """The flags, hidden: see ``check_docker_flags``."""
    for name in (*_SILENT, "squash"):
        f = switch(f"--{name}", hidden=True)(f)
    for names in (("--isolation",), ("--security-opt",), ("--builder",), ("--policy",), ("--attest",), *_RESOURCES):
        f = click.option(*names, multiple=True, hidden=True)(f)
    f = click.option("--provenance", default="", hidden=True)(f)
    return click.option("--sbom", default="", hidden=True)(f)


def check_docker_flags(flags: Mapping[str, Any]) -> None:
    """UnsupportedError for what can't be done; a warning on standard error for what has no effect."""
    if flags.get("policy"):
        raise UnsupportedError("--policy is not supported: source policies")
    if others := [name for name in flags.get("builder", ()) if name not in ("", "default")]:
        raise UnsupportedError(f"--builder={others[0]} is not supported: there is one builder, this process, called default")
    attests = [words.parse_attest(text) for text in flags.get("attest", ())]
    attests += [words.shorthand_attest(kind, flags[kind]) for kind in ("provenance", "sbom") if flags.get(kind)]
    for kind, wanted in reversed(dict(reversed(attests)).items()):  # of two for one kind the first counts
        if wanted:
            hint = f"--{kind}=false is accepted" if kind in ("provenance", "sbom") else ""
            raise UnsupportedError(f"--attest type={kind} is not supported: attestations", hint=hint)
    for name, instead in _WARNED.items():
        if flags.get(_key(name)):
            sys.stderr.write(f"[Warning] --{name} has no effect: {instead}\n")


def resource_entries(flags: Mapping[str, Any]) -> list[str]:
    """The entries of --resource, behind those that docker's older flags stand for (buildx' order)."""
    names = [names[-1].removeprefix("--") for names in _RESOURCES]
    return [*(f"{name}={value}" for name in names for value in flags.get(_key(name), ())), *flags.get("resource", ())]


def _key(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def default_platforms(environ: Mapping[str, str]) -> tuple[str, ...]:
    """--platform where it is not given."""
    value = environ.get("DOCKER_DEFAULT_PLATFORM", "")
    return (value,) if value else ()


def proxy_args(build_args: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """``build_args``, and the proxies of docker's client configuration where no argument of that name is given, in any case.

    The entry is that of the daemon that docker would talk to, else ``default`` (buildx' storeutil.GetProxyConfig). A file that
    can't be read or understood has none, as for docker.
    """
    folder = environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        data = read_user_file(os.path.join(folder, "config.json"), _MAX_CONFIG)
    except OSError:
        return dict(build_args)
    if b'"proxies"' not in data:
        return dict(build_args)
    import json

    try:
        document = json.loads(data)
        proxies = document.get("proxies", {}) if isinstance(document, dict) else {}
    except (ValueError, RecursionError):
        proxies = None
    if not isinstance(proxies, dict):
        sys.stderr.write(f"[Warning] the proxies in {folder}/config.json are not used: they can't be understood\n")
        return dict(build_args)
    entry = proxies.get(environ.get("DOCKER_HOST") or _SOCKET) or proxies.get("default")
    found = entry.items() if isinstance(entry, dict) else ()
    given = {name.lower() for name in build_args}
    named = {_PROXIES[key]: value for key, value in found if key in _PROXIES and value and isinstance(value, str)}
    return {**build_args, **{name: value for name, value in named.items() if name.lower() not in given}}
