"""The flags of ``pybuild build`` and ``pybuild graph``, spelled as in ``docker buildx build``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from builder import IMAGE_TYPES, BuildRequest, OutputSpec, UsageError
from builder import flags as words
from builder.cli.common import state_options
from builder.cli.docker_flags import check_docker_flags, default_platforms, docker_options, proxy_args, resource_entries
from builder.cli.goflags import FlagCommand, switch
from builder.cli.pull_flag import pull_option

BUILD_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("-f", "--file", default="", metavar="PATH", help="The Dockerfile (default: CONTEXT/Dockerfile; - is stdin)."),
    click.option("--target", default="", metavar="STAGE", help="Build stage to build."),
    click.option("--build-arg", multiple=True, metavar="K[=V]", help="Set a build-time variable."),
    click.option(
        "--build-context", multiple=True, metavar="NAME=VALUE", help="More contexts: folder, docker-image://, oci-layout://, URL."
    ),
    click.option("--platform", multiple=True, metavar="P[,P]", help="Target platform."),
    click.option("--label", multiple=True, metavar="K=V", help="Set metadata for the image."),
    click.option("--add-host", multiple=True, metavar="HOST=IP", help="Add to /etc/hosts of RUN steps; IP may be host-gateway."),
    click.option("--network", default="default", metavar="MODE", help="Network of RUN steps: default, host, none."),
    switch("--no-cache", help="Run every step anew."),
    click.option("--no-cache-filter", multiple=True, metavar="STAGE[,STAGE]", help="Run the steps of these stages anew."),
    pull_option,
    click.option(
        "--resource", multiple=True, metavar="NAME=VALUE", help='Limit of what RUN steps use ("memory=2g", "cpu-quota=50000").'
    ),
    click.option("--ulimit", multiple=True, metavar="NAME=SOFT[:HARD]", help="Resource limit of RUN steps."),
    click.option("--shm-size", default="", metavar="BYTES", help="Size of /dev/shm of RUN steps."),
    click.option("--cgroup-parent", default="", metavar="PATH", help="Parent cgroup of RUN steps."),
    click.option("--secret", multiple=True, metavar="id=ID[,src=FILE|,env=VAR]", help="Secret for RUN --mount=type=secret."),
    click.option("--ssh", multiple=True, metavar="ID[=SOCKET|=KEY,...]", help="SSH agent or keys for RUN --mount=type=ssh."),
    click.option("--allow", multiple=True, metavar="ENTITLEMENT", help="Grant network.host, security.insecure or device."),
]

OUTPUT_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("-t", "--tag", multiple=True, metavar="NAME[:TAG]", help="Name of the image."),
    click.option("-o", "--output", multiple=True, metavar="SPEC", help="type=image|oci|docker|local|tar|cacheonly[,dest=PATH]."),
    switch("--load", help="Same as --output=type=image (the default with a -t)."),
    switch("--push", help="Same as --output=type=image,push=true."),
    click.option("--annotation", multiple=True, metavar="[TYPE:]K=V", help="Annotation. TYPE: manifest, index, *-descriptor."),
    click.option("--iidfile", default="", metavar="FILE", help="Write the image's config digest to a file."),
    click.option("--cache-from", multiple=True, metavar="SPEC", help="type=registry,ref=R | type=local,src=FOLDER | REF."),
    click.option("--cache-to", multiple=True, metavar="SPEC", help="type=registry,ref=R | local,dest=FOLDER | inline[,mode=max]."),
    click.option("--metadata-file", default="", metavar="FILE", help="Write build result metadata to a file."),
    click.option("--progress", default="auto", metavar="TYPE", help="auto, plain, tty, rawjson, quiet."),
    switch("-q", "--quiet", help="Print only the image's digest."),
    click.option("--call", default="build", metavar="METHOD", help="build, check, outline or targets; [,format=json]."),
    switch("--check", help="Same as --call=check."),
    click.option("--max-parallelism", default=0, type=click.IntRange(min=0), metavar="N", help="Steps that run at one time."),
]

ALL_OPTIONS = [*BUILD_OPTIONS, *OUTPUT_OPTIONS]
"""For commands that ask about a build."""


def add_options(options: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Several options as one decorator."""

    def decorate(f: Any) -> Any:
        for option in reversed(options):
            f = option(f)
        return f

    return decorate


@click.command("build", cls=FlagCommand, context_settings={"help_option_names": ["-h", "--help"]})
@add_options(ALL_OPTIONS)
@click.option("--explain", is_flag=True, help="Say why each step that ran was not cached.")
@docker_options
@state_options
@click.argument("context")
def build(context: str, **flags: Any) -> int:
    """Build an image from a Dockerfile. CONTEXT is a folder, an archive, - (stdin), or a git or http URL."""
    from builder.cli import run

    request = build_request(context, flags)
    method, _, form = ("check" if flags["check"] else flags["call"]).partition(",")
    if method == "build":
        return run.build(request, flags)
    return run.call(request, method, form, flags)


@click.command("graph", cls=FlagCommand, context_settings={"help_option_names": ["-h", "--help"]})
@add_options(BUILD_OPTIONS)
@click.option("--format", "form", type=click.Choice(["json", "dot"]), default="json", help="How the graph is printed.")
@docker_options
@state_options
@click.argument("context")
def graph(context: str, form: str, **flags: Any) -> int:
    """Print the graph that a build would solve, without building it."""
    from builder.cli import run

    return run.graph(build_request(context, flags), form, flags)


def build_request(context: str, flags: dict[str, Any]) -> BuildRequest:
    """The values of a build's flags. UsageError, UnsupportedError."""
    check_docker_flags(flags)
    sockets, keys = words.parse_ssh(flags["ssh"], os.environ)
    return BuildRequest(
        context=context,
        file=flags["file"],
        target=flags["target"],
        tags=tuple(dict.fromkeys(words.parse_tag(t) for t in flags.get("tag", ()))),
        build_args=proxy_args(words.parse_build_args(flags["build_arg"], os.environ), os.environ),
        labels=words.parse_labels(flags["label"]),
        platforms=words.parse_platforms(flags["platform"] or default_platforms(os.environ)),
        outputs=_outputs(flags),
        no_cache=_no_cache(flags),
        pull=flags["pull"],
        network=words.parse_network(flags["network"]),
        add_hosts=words.parse_add_hosts(flags["add_host"]),
        ulimits=words.parse_ulimits(flags["ulimit"]),
        shm_size=words.parse_size(flags["shm_size"], "shm-size") if flags["shm_size"] else 0,
        cgroup_parent=flags["cgroup_parent"],
        resources=words.parse_resources(resource_entries(flags)),
        build_contexts=words.parse_pairs(flags["build_context"], "build-context"),
        secrets=tuple(words.parse_secret(t) for t in flags["secret"] if t),
        ssh=sockets,
        ssh_keys=keys,
        allow=words.parse_allow(flags["allow"]) | ({"network.host"} if flags["network"] == "host" else set()),  # as buildx does
        source_date_epoch=os.environ.get("SOURCE_DATE_EPOCH", ""),
        max_parallelism=flags.get("max_parallelism", 0),
        **_caches(flags),
    )


def _caches(flags: dict[str, Any]) -> dict[str, Any]:
    """Remote caches; nothing of them is imported where none is asked for."""
    asked = flags.get("cache_from") or flags.get("cache_to")
    if not asked and not any(t.startswith("BUILDKIT_INLINE_CACHE") for t in flags["build_arg"]):
        return {}
    build_args = words.parse_build_args(flags["build_arg"], os.environ)
    return {
        "cache_from": words.parse_cache_from(flags.get("cache_from", ())),
        "cache_to": words.parse_cache_to(flags.get("cache_to", ()), build_args),
    }


def _outputs(flags: dict[str, Any]) -> tuple[OutputSpec, ...]:
    """Without a name or an output nobody could use the image: it is not made, unless its digest is asked for."""
    specs = [OutputSpec.parse(t) for t in flags.get("output", ()) if t]
    if flags.get("push"):
        if any(s.type != "image" for s in specs):
            raise UsageError("push and output may not be set together", hint="use --output type=image,push=true")
        specs = [OutputSpec("image", s.dest, (*s.attrs, ("push", "true"))) for s in specs] or [
            OutputSpec("image", attrs=(("push", "true"),))
        ]
    if flags.get("load") and not any(s.type == "image" for s in specs):
        specs.append(OutputSpec("image"))
    asks_for_digest = flags.get("quiet") or flags.get("iidfile") or flags.get("metadata_file")
    if not specs and (flags.get("tag") or asks_for_digest):
        specs = [OutputSpec("image")]
    if flags.get("annotation"):
        pairs = words.parse_annotations(flags["annotation"])
        specs = [OutputSpec(s.type, s.dest, s.attrs + pairs) if s.type in IMAGE_TYPES else s for s in specs]
    return tuple(specs)


def _no_cache(flags: dict[str, Any]) -> Any:
    if flags["no_cache"]:
        if flags["no_cache_filter"]:
            raise UsageError("--no-cache and --no-cache-filter cannot currently be used together")
        return "all"
    return frozenset(name for text in flags["no_cache_filter"] for name in text.split(",") if name)
