"""``RUN --mount``: what is mounted, from where, and which files may change."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Literal

from builder.graph.ops import (
    NO_INPUT,
    CacheMount,
    MkdirAction,
    Mount,
    Owner,
    SecretEnv,
    SecretMount,
    SSHMount,
    TmpfsMount,
)
from builder.graph.vertex import VertexMeta
from builder.text.paths import base, clean, join
from builder.text.quoting import quote
from builder.values import dataclass, field
from frontend.convert.outline_capture import MountInfo
from frontend.convert.paths import checked
from frontend.convert.state import Inputs, mkdir_edge
from frontend.errors import ConvertError

if TYPE_CHECKING:
    from builder.graph.vertex import Edge
    from frontend.convert.context import ConvertContext
    from frontend.convert.stage import StageState
    from frontend.instructions.types import Mount as MountFlag
    from frontend.instructions.types import RunCommand

_SHARING: dict[str, Literal["shared", "private", "locked"]] = {"private": "private", "locked": "locked"}


@dataclass(slots=True)
class RunMounts:
    """Mounts of one step while they are collected. ``files`` come from a filesystem each, ``secrets`` and ``ssh`` from none."""

    files: list[tuple[Mount, Edge | None]] = field(default_factory=list)
    secrets: list[Mount] = field(default_factory=list)
    ssh: list[Mount] = field(default_factory=list)
    secret_env: list[SecretEnv] = field(default_factory=list)

    def finish(self, root: Edge | None) -> tuple[tuple[Mount, ...], Inputs]:
        """All mounts in the order BuildKit has them (by target, then secrets, then agents), and the inputs they use."""
        inputs = Inputs()
        mounts = []
        # Only the root is an output: a writable bind mount loses its changes.
        for mount, edge in sorted([(Mount("/", output=0), root), *self.files], key=_target):
            mounts.append(Mount(mount.dest, inputs.index(edge), mount.output, mount.selector, mount.readonly, mount.special))
        return (*mounts, *self.secrets, *self.ssh), inputs


def _target(item: tuple[Mount, Edge | None]) -> bytes:
    return item[0].dest.encode("utf-8", "surrogateescape")


def run_mounts(stage: StageState, command: RunCommand, sources: tuple[StageState, ...], context: ConvertContext) -> RunMounts:
    """The mounts of an expanded RUN; ``sources`` are the stages its ``from=`` name, one a mount. Raises ``ConvertError``."""
    found = RunMounts()
    for flag, source in zip(command.mounts, sources, strict=True):
        edge = context.main if not flag.from_ and flag.type != "cache" else source.state.edge
        checked(flag.target)
        checked(flag.source)
        if (flag.from_ or flag.type == "cache") and not source.dispatched:
            where = f"from stage {quote(flag.from_)} to {quote(flag.target)}"
            raise ConvertError(f"cannot mount {where}, stage needs to be defined before current command")
        if flag.type == "secret":
            _add_secret(found, stage, flag, command)
        elif flag.type == "ssh":
            _add_agent(found, stage, flag, command)
        else:
            found.files.append(_file_mount(stage, flag, edge, context))
    for number, mount in enumerate(found.ssh):
        if not mount.dest:
            found.ssh[number] = Mount(f"/run/buildkit/ssh_agent.{number}", special=mount.special)
    return found


def _file_mount(
    stage: StageState, flag: MountFlag, edge: Edge | None, context: ConvertContext
) -> tuple[Mount, Edge | None]:
    special: CacheMount | TmpfsMount | None = None
    if flag.type == "tmpfs":
        edge, special = None, TmpfsMount(flag.size_limit)
    elif flag.type == "cache":
        name = flag.cache_id or clean(flag.target)
        special = CacheMount(f"{context.cache_namespace}/{name}", _SHARING.get(flag.cache_sharing, "shared"))
    target = flag.target if clean(flag.target).startswith("/") else join("/", stage.state.dir, flag.target)
    if target == "/":
        raise ConvertError(f"invalid mount target {quote(target)}")
    selector = join("/", flag.source)
    if selector == "/":
        selector = ""
        if (flag.uid, flag.gid, flag.mode) != (None, None, None):
            edge, selector = _owned_folder(flag, edge), "/cache"
    return Mount(target, NO_INPUT, NO_INPUT, selector, flag.read_only, special), edge


def _owned_folder(flag: MountFlag, base: Edge | None) -> Edge:
    """What a cache starts as when its owner or mode is given."""
    mode = 0o755 if flag.mode is None else flag.mode & 0o777
    action = MkdirAction(NO_INPUT, 0, "/cache", mode, owner=Owner(flag.uid or 0, flag.gid or 0))
    return mkdir_edge(base, action, VertexMeta(name="[internal] setting cache mount permissions", internal=True))


def _add_secret(found: RunMounts, stage: StageState, flag: MountFlag, command: RunCommand) -> None:
    name = flag.source or flag.cache_id
    if not name:
        if not flag.target:
            raise ConvertError("one of source, target required")
        name = base(flag.target)
    stage.outline.secrets.setdefault(name, MountInfo(flag.required, command.location))
    optional = not flag.required
    if flag.env is not None:
        found.secret_env.append(SecretEnv(name, flag.env, optional))
    target = flag.target
    if not target and flag.env is None:
        target = "/run/secrets/" + posixpath.basename(name.rstrip("/"))
    if target:
        mode = 0o400 if flag.mode is None else flag.mode
        special = SecretMount(name, flag.uid or 0, flag.gid or 0, mode, optional)
        found.secrets.append(Mount(target, special=special))


def _add_agent(found: RunMounts, stage: StageState, flag: MountFlag, command: RunCommand) -> None:
    if flag.source:
        raise ConvertError("ssh does not support source")
    name = flag.cache_id or "default"
    stage.outline.ssh.setdefault(name, MountInfo(flag.required, command.location))
    mode = 0o600 if flag.mode is None else flag.mode
    special = SSHMount(name, flag.uid or 0, flag.gid or 0, mode, not flag.required)
    found.ssh.append(Mount(flag.target, special=special))

