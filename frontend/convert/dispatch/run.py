"""RUN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.graph.ops import CDIDevice, Exec, Mount
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.oci.platform import normalize
from builder.values import replace
from frontend.convert import names
from frontend.convert.history import run_text
from frontend.convert.image import with_shell
from frontend.convert.mounts import RunMounts, run_mounts
from frontend.convert.state import inline_file_edge, locations
from frontend.errors import ConvertError
from frontend.parser.heredoc import chomp, maybe_heredoc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frontend.convert.context import ConvertContext
    from frontend.convert.stage import StageState
    from frontend.instructions.types import RunCommand

_PIPES = "/dev/pipes/"


def dispatch_run(stage: StageState, command: RunCommand, sources: tuple[StageState, ...], context: ConvertContext) -> None:
    args, summary, script = _command(stage, command)
    if command.prepend_shell:
        args = with_shell(stage.config, stage.image_os, args)
    mounts = run_mounts(stage, command, sources, context)
    if script is not None:
        mounts.files.insert(0, (Mount(_PIPES, selector="/", readonly=True), script))
    env = stage.state.env
    text = "RUN " + run_text(args, stage.build_args, env)
    if context.lex.budget is not None:  # each RUN has its own copy of all variables, in its definition and the history
        context.lex.budget.spend(len(text) + sum(map(len, env.values())))
    meta = VertexMeta(
        name=_name(stage, command, summary, context, env),
        locations=locations(command.location),
        ignore_cache=stage.ignore_cache,
        stage=stage.stage.name,
        instruction="RUN " + " ".join(args),
        args=_arg_names(stage),
    )
    edge = _exec(stage, command, args, mounts, context, meta)
    stage.state = stage.state.on(edge)
    stage.commit(f"{text} # buildkit", layer=True)


def _arg_names(stage: StageState) -> tuple[str, ...]:
    """Of the ARGs in scope those that no ENV stands before."""
    return tuple(sorted({arg.key for arg in stage.build_args if not stage.draft.has_env(arg.key)}))


def _command(stage: StageState, command: RunCommand) -> tuple[tuple[str, ...], str, Edge | None]:
    """Words to run (before any shell), what the name is to say of heredocs, and the root that holds a script."""
    args = command.cmdline or ()
    if not command.files:
        return args, "", None
    if len(args) != 1 or not command.prepend_shell:
        raise ConvertError(f"parsing produced an invalid run command: [{' '.join(args)}]")
    first = command.files[0]
    if maybe_heredoc(args[0]) is None:
        # Heredocs among other words are for the shell: they are handed to it as they were written.
        documents = "".join(f"\n{file.data}{file.name}" for file in command.files)
        return (args[0] + documents,), "", None
    data = chomp(first.data) if first.chomp else first.data
    summary = f" ({names.heredoc_summary(first.data)})"
    if stage.image_os != "windows" and data.startswith("#!"):
        return (_PIPES + first.name,), summary, inline_file_edge("/" + first.name, data, 0o755)
    # Nothing but a heredoc: its text is what the shell runs, which works with shells that know no heredocs, too.
    return (data,), summary, None


def _name(
    stage: StageState, command: RunCommand, summary: str, context: ConvertContext, env: Mapping[str, str]
) -> str:
    """Variables show their values, those from secrets stars, unknown ones stay."""
    lex = replace(context.lex, raw_quotes=True, skip_unset_env=True)
    secrets = {mount.env: "****" for mount in command.mounts if mount.type == "secret" and mount.env is not None}
    shown = names.expanded(str(command) + summary, lex, {**env, **secrets})
    return names.step_name(stage, names.uppercase_keyword(shown), stage.state.platform, env)


def _exec(
    stage: StageState,
    command: RunCommand,
    args: tuple[str, ...],
    run: RunMounts,
    context: ConvertContext,
    meta: VertexMeta,
) -> Edge:
    options, state = context.options, stage.state
    mounts, inputs = run.finish(state.edge)
    env = dict(state.env)
    if run.ssh:
        env.setdefault("SSH_AUTH_SOCK", run.ssh[0].dest)
    op = Exec(
        args=args,
        env=tuple(f"{name}={value}" for name, value in env.items()),
        cwd=state.dir,
        user=state.user,
        hostname=context.hostname,
        mounts=mounts,
        network=options.network if command.network == "default" else command.network,
        security=command.security,
        secret_env=tuple(run.secret_env),
        proxy_env=context.proxy_env,
        extra_hosts=options.extra_hosts,
        ulimits=options.ulimits,
        shm_size=options.shm_size,
        cgroup_parent=options.cgroup_parent,
        resources=options.resources,
        devices=tuple(CDIDevice(device.name, not device.required) for device in command.devices),
    )
    platform = normalize(stage.platform or context.target_platform)
    return Edge(Vertex(op, tuple(inputs.edges), platform, meta))
