"""Instructions that change the image config and nothing else: each leaves a line in the history without a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci.image import Healthcheck
from builder.values import replace
from frontend.convert import history, lintrules
from frontend.convert.expose import exposed_ports
from frontend.convert.image import with_shell
from frontend.errors import ConvertError
from frontend.lint import rules

if TYPE_CHECKING:
    from frontend.convert.context import ConvertContext
    from frontend.convert.stage import StageState
    from frontend.instructions import types as t
    from frontend.lint import Linter


def dispatch_env(stage: StageState, command: t.EnvCommand, lint: Linter) -> None:
    for pair in command.env:
        if pair.no_delim:
            lint.run(rules.LEGACY_KEY_VALUE_FORMAT, command.location, command.name)
        lintrules.secret_name("ENV", pair.key, command.location, lint)
        stage.set_variable(pair.key, pair.value)
        stage.draft.set_env(pair.key, pair.value)
    stage.commit(" ".join(["ENV", *map(str, command.env)]))


def dispatch_label(stage: StageState, command: t.LabelCommand, lint: Linter) -> None:
    for pair in command.labels:
        if pair.no_delim:
            lint.run(rules.LEGACY_KEY_VALUE_FORMAT, command.location, command.name)
    stage.draft.labels.update((pair.key, pair.value) for pair in command.labels)
    stage.commit(" ".join(["LABEL", *map(str, command.labels)]))


def dispatch_cmd(stage: StageState, command: t.CmdCommand, lint: Linter) -> None:
    _only_last_counts(stage, command, lint)
    args = _command_line(stage, command, lint)
    stage.configure(cmd=args, args_escaped=True)
    stage.commit(f"CMD {history.quoted_words(args or ())}")


def dispatch_entrypoint(stage: StageState, command: t.EntrypointCommand, lint: Linter) -> None:
    """A CMD of the base image is of no use to another ENTRYPOINT; one of this stage stays."""
    _only_last_counts(stage, command, lint)
    args = _command_line(stage, command, lint)
    stage.configure(entrypoint=args)
    if "CMD" not in stage.last_of:
        stage.configure(cmd=None)
    stage.commit(f"ENTRYPOINT {history.quoted_words(args or ())}")


def dispatch_healthcheck(stage: StageState, command: t.HealthCheckCommand, lint: Linter) -> None:
    _only_last_counts(stage, command, lint)
    given = command.health
    check = Healthcheck(
        given.test, given.interval, given.timeout, given.start_period, given.start_interval, given.retries
    )
    stage.configure(healthcheck=check)
    stage.commit(f"HEALTHCHECK {history.healthcheck_text(check)}")


def dispatch_expose(stage: StageState, command: t.ExposeCommand, context: ConvertContext) -> None:
    words = [word for port in command.ports for word in context.lex.process_words(port, stage.state.env)]
    ports = exposed_ports(words, command.location, context.lint)
    stage.draft.ports.update(dict.fromkeys(ports))
    stage.commit(f"EXPOSE {history.words(ports)}")


def dispatch_user(stage: StageState, command: t.UserCommand) -> None:
    stage.state = replace(stage.state, user=command.user)
    stage.configure(user=command.user)
    stage.commit(f"USER {command.user}")


def dispatch_volume(stage: StageState, command: t.VolumeCommand) -> None:
    if "" in command.volumes:
        raise ConvertError("VOLUME specified can not be an empty string")
    stage.draft.volumes.update(dict.fromkeys(command.volumes))
    stage.commit(f"VOLUME {history.words(command.volumes)}")


def dispatch_stop_signal(stage: StageState, command: t.StopSignalCommand) -> None:
    if not _is_signal(command.signal):
        raise ConvertError(f"invalid signal: {command.signal}")
    stage.configure(stop_signal=command.signal)
    stage.commit(f"STOPSIGNAL {command.signal}")


def dispatch_shell(stage: StageState, command: t.ShellCommand) -> None:
    stage.configure(shell=command.shell)
    stage.commit(f"SHELL {history.words(command.shell)}")


def dispatch_onbuild(stage: StageState, command: t.OnbuildCommand) -> None:
    """Triggers leave no line in the history."""
    stage.draft.onbuild.append(command.expression)


def dispatch_maintainer(stage: StageState, command: t.MaintainerCommand) -> None:
    stage.draft.image = replace(stage.draft.image, author=command.maintainer)
    stage.commit(f"MAINTAINER {command.maintainer}")


def _command_line(
    stage: StageState, command: t.CmdCommand | t.EntrypointCommand, lint: Linter
) -> tuple[str, ...] | None:
    if not command.prepend_shell or command.cmdline is None:
        return command.cmdline
    if not stage.config.shell:  # one who sets SHELL knows what runs
        lint.run(rules.JSON_ARGS_RECOMMENDED, command.location, command.name)
    return with_shell(stage.config, stage.image_os, command.cmdline)


def _only_last_counts(stage: StageState, command: t.Command, lint: Linter) -> None:
    """MultipleInstructionsDisallowed, told at the earlier one: it is without effect."""
    before = stage.last_of.get(command.keyword)
    if before is not None:
        lint.run(rules.MULTIPLE_INSTRUCTIONS_DISALLOWED, before, command.name)
    stage.last_of[command.keyword] = command.location


def _is_signal(text: str) -> bool:
    """A number that is not 0, or a name with or without SIG (moby/sys/signal)."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits.isascii() and digits.isdigit():
        return int(text) != 0
    return text.upper().removeprefix("SIG") in _SIGNALS


_SIGNALS = frozenset(
    (
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
        *(f"RTMIN+{n}" for n in range(1, 16)), *(f"RTMAX-{n}" for n in range(1, 15)),
    )
)  # fmt: skip
