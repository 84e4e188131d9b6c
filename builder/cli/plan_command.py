"""``pybuild plan`` and ``pybuild why``: what a build would run, and why it would, or did."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from builder.cli.build_command import ALL_OPTIONS, add_options, build_request
from builder.cli.common import open_root, state_options
from builder.cli.docker_flags import docker_options
from builder.cli.goflags import FlagCommand

if TYPE_CHECKING:
    from builder import BuildRequest, Miss, PlannedVertex

WOULD_RUN = 10
"""Exit code of ``plan``. No error has it: those end with 1, click's with 2, signals with more than 128."""


@click.command("plan", cls=FlagCommand, context_settings={"help_option_names": ["-h", "--help"]})
@add_options(ALL_OPTIONS)
@docker_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@state_options
@click.argument("context")
def plan(context: str, as_json: bool, **flags: Any) -> int:
    """Say what a build with the same flags would run, without running it. Exit code 0: all is cached; 10: something would run."""
    from builder.cli.why import plan_json, plan_text

    steps, _ = _plan(build_request(context, flags), flags)
    cached = all(s.verdict == "cached" for s in steps)
    sys.stdout.write(json.dumps({"cached": cached, "steps": plan_json(steps)}, indent=2) + "\n" if as_json else plan_text(steps))
    return 0 if cached else WOULD_RUN


@click.command("why", cls=FlagCommand, context_settings={"help_option_names": ["-h", "--help"]})
@add_options(ALL_OPTIONS)
@docker_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@state_options
@click.argument("context", required=False)
def why(context: str | None, as_json: bool, **flags: Any) -> int:
    """Say why steps are not cached. Without CONTEXT: those that the last build ran; with CONTEXT and a build's flags: those that it
    would run now. Nothing is run."""
    from builder.cli.why import misses_json, misses_text, past_misses, planned_misses, printable

    title = ""
    if context is None:
        from builder import UsageError

        if given := _given():
            raise UsageError(f"{given} says what to build: a CONTEXT is missing", hint="see `pybuild why --help`")
        with open_root(flags) as root:
            last = root.last_build()
        found = [] if last is None else past_misses(last[1])
        if last is not None:
            title = f"The last build that ran anything: {printable(last[0].scope)}\n"
        nothing = "No build here has run anything yet.\n"
    else:
        steps, misses = _plan(build_request(context, flags), flags)
        found = planned_misses(steps, misses)
        nothing = "Nothing would run: everything is cached.\n"
    if as_json:
        sys.stdout.write(json.dumps({"steps": misses_json(found)}, indent=2) + "\n")
    else:
        sys.stdout.write(title + misses_text(found) if found else nothing)
    return 0


def _given() -> str:
    """A flag of a build that was given on the command line."""
    context = click.get_current_context()
    own = {"as_json", "context", "root", "config", "runtime"}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in own and source is click.core.ParameterSource.COMMANDLINE:
            return parameter.opts[0]
    return ""


def _plan(request: BuildRequest, flags: dict[str, Any]) -> tuple[list[PlannedVertex], dict[str, Miss]]:
    """The steps that people know of, in order, and by vertex digest what explains them."""
    from builder.cli.displays import open_display
    from builder.cli.terminals import check_terminals
    from builder.values import replace

    # What a build exports is not asked about, and nothing is exported.
    request = replace(request, cache_to=(), outputs=(), tags=())
    check_terminals(request)
    display = open_display(flags["progress"], quiet=flags["quiet"])
    with open_root(flags) as root:
        try:
            planned, misses = root.build(request).plan(display)
        finally:
            display.close()
    return [p for p in planned.vertices if p.verdict != "unused" and not p.vertex.meta.internal], misses
