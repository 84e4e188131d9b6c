"""Typed instructions: what a parsed Dockerfile is made of.

Names are BuildKit's (``frontend/dockerfile/instructions``) in snake_case. All values are frozen; expansion of
variables gives a new value (see ``expand.py``). Fields that every command has:

``name``      the keyword as it was written, in its own casing (``RUN``, ``run``, ``Run``)
``code``      the logical line (continuations joined), trimmed: what history and progress show
``location``  one ``Range`` a line, from the keyword to the last line of its heredocs
``comments``  the comment lines directly above, without ``#`` and trimmed
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from builder.values import dataclass
from frontend.errors import Range

Location: TypeAlias = tuple[Range, ...]
MountType: TypeAlias = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
ShareMode: TypeAlias = Literal["", "shared", "private", "locked"]
NetworkMode: TypeAlias = Literal["default", "none", "host"]
SecurityMode: TypeAlias = Literal["sandbox", "insecure"]


@dataclass(frozen=True, slots=True)
class KeyValuePair:
    """``key=value`` of ENV and LABEL, quotes still in place. ``no_delim``: written in the old form ``KEY value``."""

    key: str
    value: str
    no_delim: bool = False

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


@dataclass(frozen=True, slots=True)
class KeyValuePairOptional:
    """``key`` or ``key=value`` of ARG. ``doc_comment`` is the description from a ``# key description`` comment above."""

    key: str
    value: str | None = None
    doc_comment: str = ""

    @property
    def value_string(self) -> str:
        """The value, or the empty string where none was given."""
        return self.value or ""

    def __str__(self) -> str:
        return f"{self.key}={self.value_string}"


@dataclass(frozen=True, slots=True)
class Command:
    """Base of all commands of a stage."""

    keyword: ClassVar[str] = ""

    name: str
    code: str
    location: Location
    comments: tuple[str, ...]

    def __str__(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True)
class ArgCommand(Command):
    """``ARG name[=value]...``: build arguments."""

    keyword: ClassVar[str] = "ARG"

    args: tuple[KeyValuePairOptional, ...]


@dataclass(frozen=True, slots=True)
class EnvCommand(Command):
    """``ENV key=value...``: variables of the container and of the instructions that follow."""

    keyword: ClassVar[str] = "ENV"

    env: tuple[KeyValuePair, ...]


@dataclass(frozen=True, slots=True)
class LabelCommand(Command):
    """``LABEL key=value...``. ``no_expand``: made by the builder, not to be expanded."""

    keyword: ClassVar[str] = "LABEL"

    labels: tuple[KeyValuePair, ...]
    no_expand: bool = False


@dataclass(frozen=True, slots=True)
class MaintainerCommand(Command):
    """``MAINTAINER text`` (deprecated)."""

    keyword: ClassVar[str] = "MAINTAINER"

    maintainer: str


@dataclass(frozen=True, slots=True)
class SourceContent:
    """A heredoc as a source of COPY or ADD: file name, text (tabs already cut for ``<<-``), whether variables expand."""

    path: str
    data: str
    expand: bool


@dataclass(frozen=True, slots=True)
class SourcesAndDest(Command):
    """What COPY and ADD share."""

    dest_path: str
    source_paths: tuple[str, ...]
    source_contents: tuple[SourceContent, ...]
    chown: str
    chmod: str
    link: bool
    exclude_patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddCommand(SourcesAndDest):
    """``ADD [flags] source... dest``. ``keep_git_dir`` and ``unpack`` are None where the flag was not given."""

    keyword: ClassVar[str] = "ADD"

    keep_git_dir: bool | None
    checksum: str
    unpack: bool | None


@dataclass(frozen=True, slots=True)
class CopyCommand(SourcesAndDest):
    """``COPY [flags] source... dest``. ``from_`` is empty for the build context."""

    keyword: ClassVar[str] = "COPY"

    from_: str
    parents: bool


@dataclass(frozen=True, slots=True)
class ShellInlineFile:
    """A heredoc of RUN: its word, its text as written, whether leading tabs are to be cut (``<<-``)."""

    name: str
    data: str
    chomp: bool


@dataclass(frozen=True, slots=True)
class ShellDependantCommand(Command):
    """What RUN, CMD and ENTRYPOINT share.

    ``cmdline`` is the exec form's words, or one string that the stage's shell is put in front of
    (``prepend_shell``). None (ENTRYPOINT only): nothing was given, the image's value is cleared.
    """

    cmdline: tuple[str, ...] | None
    files: tuple[ShellInlineFile, ...]
    prepend_shell: bool


@dataclass(frozen=True, slots=True)
class Mount:
    """One ``RUN --mount``. ``size_limit`` in bytes (0: none); ``mode``, ``uid``, ``gid`` None where not given.

    ``env`` of a secret: None no variable, empty string the default name.
    """

    type: MountType = "bind"
    from_: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    size_limit: int = 0
    cache_id: str = ""
    cache_sharing: ShareMode = ""
    required: bool = False
    env: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One ``RUN --device`` (CDI name)."""

    name: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class RunCommand(ShellDependantCommand):
    """``RUN``. ``mount_flags`` are the raw values; ``mounts`` is what they say.

    As in BuildKit the values are read twice: while parsing only ``from`` is taken and checked (it may hold no
    variable), everything else is checked and filled in by ``expand``. Read ``mounts`` of an expanded command only
    (before that: ``from_`` alone, for the stage dependencies).
    """

    keyword: ClassVar[str] = "RUN"

    flags_used: tuple[str, ...]
    mount_flags: tuple[str, ...]
    mounts: tuple[Mount, ...]
    network: NetworkMode
    security: SecurityMode
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class CmdCommand(ShellDependantCommand):
    """``CMD``."""

    keyword: ClassVar[str] = "CMD"


@dataclass(frozen=True, slots=True)
class EntrypointCommand(ShellDependantCommand):
    """``ENTRYPOINT``."""

    keyword: ClassVar[str] = "ENTRYPOINT"


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """The image config's Healthcheck. ``test`` starts with NONE, CMD or CMD-SHELL; durations in nanoseconds, 0: unset."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class HealthCheckCommand(Command):
    """``HEALTHCHECK``."""

    keyword: ClassVar[str] = "HEALTHCHECK"

    health: HealthConfig


@dataclass(frozen=True, slots=True)
class ExposeCommand(Command):
    """``EXPOSE port...``: the words as written, sorted; each may expand to several."""

    keyword: ClassVar[str] = "EXPOSE"

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserCommand(Command):
    """``USER user[:group]``."""

    keyword: ClassVar[str] = "USER"

    user: str


@dataclass(frozen=True, slots=True)
class VolumeCommand(Command):
    """``VOLUME path...``."""

    keyword: ClassVar[str] = "VOLUME"

    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkdirCommand(Command):
    """``WORKDIR path``."""

    keyword: ClassVar[str] = "WORKDIR"

    path: str


@dataclass(frozen=True, slots=True)
class StopSignalCommand(Command):
    """``STOPSIGNAL signal``."""

    keyword: ClassVar[str] = "STOPSIGNAL"

    signal: str


@dataclass(frozen=True, slots=True)
class ShellCommand(Command):
    """``SHELL ["executable", "parameter"...]``."""

    keyword: ClassVar[str] = "SHELL"

    shell: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnbuildCommand(Command):
    """``ONBUILD instruction``: ``expression`` is the trigger's text with its heredocs."""

    keyword: ClassVar[str] = "ONBUILD"

    expression: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and the commands up to the next one.

    ``name`` is lower case, empty where none was given; ``orig_cmd`` the keyword FROM as written;
    ``source_code`` the FROM line; ``location`` and ``comments`` those of the FROM;
    ``doc_comment`` the description from a ``# name description`` comment above it.
    """

    name: str
    orig_cmd: str
    base_name: str
    platform: str
    doc_comment: str
    source_code: str
    location: Location
    comments: tuple[str, ...]
    commands: tuple[Command, ...] = ()
