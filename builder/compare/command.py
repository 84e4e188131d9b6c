"""``pybuild compare``: build with pybuild and with another builder, and show what differs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from builder.cli.build_command import BUILD_OPTIONS
from builder.cli.common import state_options
from builder.cli.goflags import FlagCommand
from builder.errors import PybuildError

if TYPE_CHECKING:
    from builder.compare.types import Builder, BuildSpec

# BUILD_OPTIONS that contradict what compare does: it builds without cache first, then with.
_MEANINGLESS = ("no_cache", "no_cache_filter")


class _Command(FlagCommand):
    """Exit code 1 means "different" here: every failure, also of parsing flags, ends with 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        from builder.compare.types import CompareError

        try:
            return super().main(*args, **kwargs)
        except CompareError:
            raise
        except PybuildError as e:
            raise CompareError(str(e), hint=e.hint) from e
        except click.ClickException as e:
            raise CompareError(e.format_message(), hint="see `pybuild compare --help`") from e
        except OSError as e:
            raise CompareError(f"{e.filename}: {e.strerror}" if e.filename else str(e)) from e


def _add_build_options(f: Any) -> Any:
    for option in reversed(BUILD_OPTIONS):
        f = option(f)
    return f


@click.command("compare", cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@_add_build_options
@click.option("--with", "other", required=True, type=click.Choice(["docker", "buildah", "buildkit"]), help="The other builder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@click.option("-v", "--verbose", is_flag=True, help="Also list the differences that a rule allows, with its reason.")
@click.option("--ignore", multiple=True, metavar="FILE", help="More rules for differences that are right (TOML).")
@click.option("--docker-host", default="", metavar="URL", help="Where dockerd listens (default: DOCKER_HOST).")
@click.option("--isolation", default="", metavar="TYPE", help="buildah's isolation: chroot, oci, rootless (default: chroot).")
@click.option("--with-arg", multiple=True, metavar="ARG", help="One more argument for the other builder's build command.")
@state_options
@click.argument("context")
def compare(context: str, other: str, **flags: Any) -> int:
    """Build CONTEXT with pybuild and with another builder and compare the images and the times.

    Each builds twice: cold, then cached. Exit code: 0 equal, 1 different, 2 no comparison could be made. pybuild builds in a state
    folder of its own; with --root it takes that one.
    """
    from builder.compare import CompareError, load_rules, report
    from builder.compare import compare as run

    for name in _MEANINGLESS:
        if flags[name]:
            raise CompareError(f"--{name.replace('_', '-')} has no meaning here: each builder builds cold first, then cached")
    rules = [rule for path in flags["ignore"] for rule in load_rules(path)]
    builders = (_pybuild(flags), _other(other, flags))
    try:
        found = run(_spec(context, flags), *builders, [*rules, *load_rules()])
    finally:
        for builder in builders:
            builder.close()
    sys.stdout.write(report.as_json(found) if flags["as_json"] else report.as_text(found, verbose=flags["verbose"]))
    return 0 if found.equal else 1


def _spec(context: str, flags: dict[str, Any]) -> BuildSpec:
    from builder.compare import BuildSpec

    return BuildSpec(
        context=context,
        file=flags["file"],
        target=flags["target"],
        platform=",".join(flags["platform"]),
        network="" if flags["network"] == "default" else flags["network"],
        build_args=flags["build_arg"],
        build_contexts=flags["build_context"],
        labels=flags["label"],
        add_hosts=flags["add_host"],
        ulimits=flags["ulimit"],
        secrets=flags["secret"],
        ssh=flags["ssh"],
        allow=flags["allow"],
        shm_size=flags["shm_size"],
        cgroup_parent=flags["cgroup_parent"],
        pull=flags["pull"] is not False,
    )


def _pybuild(flags: dict[str, Any]) -> Builder:
    from builder.compare.builders import Pybuild

    options = [f"--{name}={flags[name]}" for name in ("config", "runtime") if flags[name]]
    return Pybuild(options, root=flags["root"])


def _other(name: str, flags: dict[str, Any]) -> Builder:
    from builder.compare import CompareError, builders

    for flag, owner in (("docker_host", "docker"), ("isolation", "buildah")):
        if flags[flag] and name != owner:
            raise CompareError(f"--{flag.replace('_', '-')} has no meaning --with {name}")
    extra = flags["with_arg"]
    match name:
        case "docker":
            return builders.Docker(flags["docker_host"], extra)
        case "buildah":
            return builders.Buildah(flags["isolation"], extra)
        case _:
            return builders.Buildkit(extra)
