"""Definitions of operations: what a vertex does, as data. The engine's ``builder.ops`` gives each its behaviour.

The shapes follow BuildKit's LLB (solver/pb/ops.proto), so that a graph can be read beside one of BuildKit's; sources are typed
where LLB has an identifier string with attributes. Modes are permission bits as in chmod; times are nanoseconds since the epoch.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from builder.oci.digest import Digest
from builder.values import dataclass, field

NO_INPUT = -1
"""Index for "no input" (an empty root) and "no output"."""


# ------------------------------------------------------------------------------------------------ sources
@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image of a registry or of the own image store. ``ref`` is a full reference, with digest once it is resolved."""

    kind: ClassVar[str] = "image"
    ref: str
    resolve_mode: Literal["default", "pull", "local"] = "default"


@dataclass(frozen=True, slots=True)
class OCILayoutSource:
    """An image in an OCI layout on disk. ``store`` names the build context that gave the folder, ``ref`` is tag or digest."""

    kind: ClassVar[str] = "oci-layout"
    store: str
    ref: str


@dataclass(frozen=True, slots=True)
class LocalSource:
    """Files of a local folder, as the context named ``name``; read in place.

    ``exclude`` are .dockerignore patterns; ``include`` and ``follow_paths`` bound what is looked at and have no effect on content.
    """

    kind: ClassVar[str] = "local"
    name: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_paths: tuple[str, ...] = ()
    shared_key_hint: str = ""


@dataclass(frozen=True, slots=True)
class GitSource:
    """A git repository at ``ref`` (branch, tag, commit; empty: HEAD), and a folder of it.

    ``remote`` is the URL as git takes it. ``checksum`` is a commit (or its prefix) that ``ref`` must resolve to.
    """

    kind: ClassVar[str] = "git"
    remote: str
    ref: str = ""
    subdir: str = ""
    keep_git_dir: bool = False
    checksum: str = ""
    skip_submodules: bool = False
    mtime_commit: bool = False
    """File times are those of the commit instead of the checkout (``?mtime=commit``)."""
    fetch_by_commit: bool = False
    auth_token_secret: str = "GIT_AUTH_TOKEN"
    auth_header_secret: str = "GIT_AUTH_HEADER"


@dataclass(frozen=True, slots=True)
class HTTPSource:
    """One file by http(s), stored under ``filename`` (empty: from the URL or the response) in the root of the result."""

    kind: ClassVar[str] = "http"
    url: str
    checksum: Digest | None = None
    filename: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    auth_header_secret: str = ""


Source = ImageSource | OCILayoutSource | LocalSource | GitSource | HTTPSource


# ------------------------------------------------------------------------------------------------ exec
CacheSharing = Literal["shared", "private", "locked"]
"""May several steps use a cache mount at once: the same folder, each one of its own, or one after the other?"""


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A folder that outlives builds, found again by ``id``."""

    id: str
    sharing: CacheSharing = "shared"


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    size: int = 0
    """Bytes; 0 is the kernel's default (half of the memory)."""


@dataclass(frozen=True, slots=True)
class SecretMount:
    id: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = False


@dataclass(frozen=True, slots=True)
class SSHMount:
    id: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """Something mounted at ``dest`` while the command runs.

    ``input`` is an index into the vertex's inputs, or NO_INPUT: an empty folder. ``output`` is the index of the vertex's output
    that the changed mount becomes, or NO_INPUT: changes are dropped. ``special`` is
    None for a bind mount. The mount at ``/`` is the root filesystem.
    """

    dest: str
    input: int = NO_INPUT
    output: int = NO_INPUT
    selector: str = ""
    readonly: bool = False
    special: CacheMount | TmpfsMount | SecretMount | SSHMount | None = None


@dataclass(frozen=True, slots=True)
class SecretEnv:
    """A secret given to the command as environment variable ``name``."""

    id: str
    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class CDIDevice:
    """A device by its CDI name (``vendor.com/class=device``), its kind, or its class; an optional one may be missing."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class LinuxResources:
    """Limits of what a step uses (pb.LinuxResources): bytes, shares, microseconds, lists like "0-2,4"; 0 and "" are none.

    ``memory_swap`` is memory and swap together, -1 for as much swap as there is.
    """

    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""


NO_LIMITS = LinuxResources()


@dataclass(frozen=True, slots=True)
class Exec:
    """Run a command."""

    kind: ClassVar[str] = "exec"
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    """``NAME=value``, in order."""
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    mounts: tuple[Mount, ...] = (Mount("/", 0, 0),)
    network: Literal["default", "host", "none"] = "default"
    security: Literal["sandbox", "insecure"] = "sandbox"
    secret_env: tuple[SecretEnv, ...] = ()
    proxy_env: tuple[str, ...] = field(default=(), metadata={"digest": False})
    """Proxy variables: given to the command, but no part of any key (docker's predefined proxy args)."""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    shm_size: int = 0
    cgroup_parent: str = ""
    resources: LinuxResources = field(default=NO_LIMITS, metadata={"digest": False})
    """No part of any key, as in BuildKit, which has them in a vertex' metadata: a step does the same with less."""
    devices: tuple[CDIDevice, ...] = ()
    valid_exit_codes: tuple[int, ...] = (0,)


# ------------------------------------------------------------------------------------------------ file
@dataclass(frozen=True, slots=True)
class Owner:
    """``user`` and ``group``: a name to look up in the root that is written to, a number, or None to take that of the other rule.

    With ``user`` given and ``group`` None a numeric user has the same group, a named one its primary group.
    """

    user: str | int | None
    group: str | int | None = None


@dataclass(frozen=True, slots=True)
class CopyAction:
    """Copy ``src`` of the secondary input to ``dest`` of the input (pb.FileActionCopy)."""

    kind: ClassVar[str] = "copy"
    input: int
    secondary: int
    output: int
    src: str
    dest: str
    owner: Owner | None = None
    mode: int | None = None
    mode_text: str = ""
    """Symbolic mode (``u=rwX,go=rX``); excludes ``mode``."""
    follow_symlink: bool = False
    dir_copy_contents: bool = False
    attempt_unpack: bool = False
    create_dest_path: bool = False
    allow_wildcard: bool = False
    allow_empty_wildcard: bool = False
    timestamp: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    always_replace: bool = False
    """AlwaysReplaceExistingDestPaths: a file may take the place of a folder and the other way round (``COPY --link``)."""
    required_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MkfileAction:
    kind: ClassVar[str] = "mkfile"
    input: int
    output: int
    path: str
    data: bytes
    mode: int = 0o644
    owner: Owner | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class MkdirAction:
    kind: ClassVar[str] = "mkdir"
    input: int
    output: int
    path: str
    mode: int = 0o755
    make_parents: bool = False
    owner: Owner | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class SymlinkAction:
    kind: ClassVar[str] = "symlink"
    input: int
    output: int
    old_path: str
    new_path: str
    owner: Owner | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class RmAction:
    kind: ClassVar[str] = "rm"
    input: int
    output: int
    path: str
    allow_not_found: bool = False
    allow_wildcard: bool = False


FileAction = CopyAction | MkfileAction | MkdirAction | SymlinkAction | RmAction


@dataclass(frozen=True, slots=True)
class File:
    """Change files without running anything.

    Indexes of an action as in LLB: below the number of the vertex's inputs they mean that input, above it the result of action
    ``index - len(inputs)``, NO_INPUT an empty root. ``output`` is the vertex's output index, or NO_INPUT for an intermediate.
    """

    kind: ClassVar[str] = "file"
    actions: tuple[FileAction, ...]


# ------------------------------------------------------------------------------------------------ merge, diff
@dataclass(frozen=True, slots=True)
class Merge:
    """All inputs laid over one another, the last on top."""

    kind: ClassVar[str] = "merge"


@dataclass(frozen=True, slots=True)
class Diff:
    """What the upper input adds to the lower one. ``lower`` and ``upper`` are input indexes or NO_INPUT."""

    kind: ClassVar[str] = "diff"
    lower: int
    upper: int


Op = ImageSource | OCILayoutSource | LocalSource | GitSource | HTTPSource | Exec | File | Merge | Diff
