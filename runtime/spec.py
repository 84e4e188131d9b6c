"""What is run, and in what sandbox: plain values, the vocabulary of all executors."""

from __future__ import annotations

from typing import Protocol

from runtime.values import dataclass

# The names of setrlimit(2) without the prefix, as `docker build --ulimit` takes them.
ULIMIT_NAMES = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack",
)  # fmt: skip

DEFAULT_HOSTNAME = "buildkitsandbox"


class Cancelled(Protocol):
    """Whether the caller still wants what runs. The descriptor is readable from the moment on that it does not."""

    def is_set(self) -> bool: ...

    def fileno(self) -> int: ...


class _Never:
    """Nobody calls it off; there is no descriptor to wait for."""

    def is_set(self) -> bool:
        return False

    def fileno(self) -> int:
        return -1


NEVER = _Never()


@dataclass(frozen=True, slots=True)
class Process:
    """One command. ``env`` holds "K=V" strings in order; ``user`` is as in the Dockerfile: "", name, uid, user:group.

    ``stdin`` is all the command can read; with none it reads /dev/null.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    stdin: bytes = b""


@dataclass(frozen=True, slots=True)
class BindMount:
    """The folder or file ``source`` (a path of the builder's mount namespace) appears at ``dest`` in the sandbox.

    ``source`` must be a path the builder made or mounted itself: no part of it may be under control of a build.
    """

    dest: str
    source: str
    readonly: bool = False
    is_file: bool = False
    nosuid: bool = False
    nodev: bool = False
    noexec: bool = False


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """An empty tmpfs at ``dest``, of at most ``size`` bytes (0: the kernel's default).

    ``mode`` None: that of the folder it covers, or 0o1777 where there is none.
    """

    dest: str
    size: int = 0
    readonly: bool = False
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device that a sandbox has besides those of all: a node at ``path`` below /dev, of ``kind`` "c" or "b".

    ``mode`` are permission bits; ``uid`` and ``gid`` None: the command's user. ``access``: of "rwm", what may be done with it.
    """

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int | None = None
    gid: int | None = None
    access: str = "rwm"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a sandbox may use, by docker's HostConfig; 0 and "" are no limit of ours.

    memory: bytes. memory_swap: bytes of memory and swap together, -1 for no limit. cpu_shares: 2..262144, 1024 is the kernel's own.
    cpu_period, cpu_quota: microseconds. cpuset_cpus, cpuset_mems: lists like "0-2,4".
    """

    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The surroundings of a process. Two mounts with one ``dest``: the later one counts, in the place of the first.

    network: "sandbox" (BuildKit's default; without CNI that is the host's), "host", "none".
    security: "sandbox" (BuildKit's default restrictions) or "insecure" (all capabilities, devices, no seccomp).
    ulimits: (name, soft, hard), -1 is unlimited. shm_size: bytes of /dev/shm, None is 64 MiB.
    cgroup_parent: folder in the cgroup hierarchy, "" is the runtime's own.
    resources: limits of CPUs and memory.
    devices: nodes besides those of every sandbox, which the command may open; additional_gids: groups that it is in for them.
    remove_stubs_recursive: take away created parent folders of mount points too, not the mount points only.
    owners: where the kernel knows one id only: the file for owners that no attribute can keep (runtime.linux.overrides). The step
    is as under root then, by answers to its system calls. "": ids and owners are real.
    emulator: how programs of another machine are run (runtime.emulation.rule), "" for no such programs.
    """

    rootfs: str
    readonly_root: bool = False
    mounts: tuple[BindMount | TmpfsMount, ...] = ()
    hostname: str = ""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    network: str = "sandbox"
    security: str = "sandbox"
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int | None = None
    cgroup_parent: str = ""
    resources: Resources = Resources()
    devices: tuple[DeviceNode, ...] = ()
    additional_gids: tuple[int, ...] = ()
    remove_stubs_recursive: bool = False
    owners: str = ""
    emulator: str = ""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How the process ended. ``code`` is 0..255 as a shell tells it (128 + signal for a killed one), ``signal`` 0 or its number.

    max_rss: bytes, of the whole sandbox where a cgroup tells it, else of the largest process. cpu_seconds: user and system.
    oom: the kernel killed something of the sandbox for want of memory.
    """

    code: int
    signal: int = 0
    max_rss: int = 0
    cpu_seconds: float = 0.0
    oom: bool = False
