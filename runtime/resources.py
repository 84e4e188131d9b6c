"""Limits of the CPUs and memory that a sandbox uses: as the OCI specification names them, and as the files of a cgroup take them.

Pure but for ``refusal``, which tries them on a group of its own.
"""

from __future__ import annotations

import os
from functools import cache

from runtime import cgroups
from runtime.linux.processes import write
from runtime.spec import Resources

_Writes = tuple[tuple[str, str, str], ...]
# The kernel's default of cpu.cfs_period_us and of the second number in cpu.max.
_PERIOD = 100_000

# Names as --resource takes them; the controller; the file of v1.
_V1 = {
    "memory": ("memory", "memory.limit_in_bytes"),
    "memory-swap": ("memory", "memory.memsw.limit_in_bytes"),
    "cpu-shares": ("cpu", "cpu.shares"),
    "cpu-period": ("cpu", "cpu.cfs_period_us"),
    "cpu-quota": ("cpu", "cpu.cfs_quota_us"),
    "cpuset-cpus": ("cpuset", "cpuset.cpus"),
    "cpuset-mems": ("cpuset", "cpuset.mems"),
}


PIDS = "pids.max"
_MOST_PIDS = 32_768


@cache
def most_pids() -> int:
    """How many processes and threads a sandbox may have: half of what the machine can number, and no more than 32768.

    BuildKit has no limit: a step that forks without end takes the machine's last number there, and nobody can start anything to
    stop it. The largest builds have some thousand threads.
    """
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        return min(int(file.read()) // 2, _MOST_PIDS)


def asked(resources: Resources) -> dict[str, int | str]:
    """What is limited, by the names of ``--resource``, in the order in which a group has to be told (the period goes before the
    quota, which is checked against it)."""
    found = {name: getattr(resources, name.replace("-", "_")) for name in _V1}
    return {name: value for name, value in found.items() if value}


def as_oci(resources: Resources) -> dict[str, object]:
    """The members ``memory`` and ``cpu`` of ``linux.resources``, without what is not limited."""
    limits = asked(resources)
    memory = {"limit": "memory", "swap": "memory-swap"}
    cpu = {"shares": "cpu-shares", "quota": "cpu-quota", "period": "cpu-period", "cpus": "cpuset-cpus", "mems": "cpuset-mems"}
    out: dict[str, object] = {}
    for member, names in (("memory", memory), ("cpu", cpu)):
        if part := {key: limits[name] for key, name in names.items() if name in limits}:
            out[member] = part
    return out


def controllers(resources: Resources) -> frozenset[str]:
    """The cgroup controllers that keep the limits."""
    return frozenset(_V1[name][0] for name in asked(resources))


def writes(found: cgroups.Cgroups, resources: Resources) -> _Writes:
    """(hierarchy, file, what is written to it) in order; a hierarchy that is not mounted is "" (see ``refusal``)."""
    if found.kind == "v2":
        root = found.folders[0]
        return tuple((root, name, value) for name, value in _unified(resources))
    return tuple(
        (cgroups.hierarchy(found, _V1[name][0]), _V1[name][1], str(value)) for name, value in asked(resources).items()
    )


def pids(found: cgroups.Cgroups) -> _Writes:
    """As ``writes``; nothing where no hierarchy counts processes. Whoever sets it goes on if that is refused: it is our
    precaution."""
    if not found.pids:
        return ()
    return ((found.folders[0] if found.kind == "v2" else cgroups.hierarchy(found, "pids"), PIDS, str(most_pids())),)


def _unified(resources: Resources) -> list[tuple[str, str]]:
    """As runc converts them (opencontainers/cgroups, utils.go)."""
    out: list[tuple[str, str]] = []
    if resources.memory:
        out.append(("memory.max", str(resources.memory)))
    if resources.memory_swap:
        # v1 counts memory and swap together, v2 the swap alone.
        swap = "max" if resources.memory_swap < 0 else str(resources.memory_swap - resources.memory)
        out.append(("memory.swap.max", swap))
    if resources.cpu_shares:
        # 2..262144 to 1..10000, in a line.
        shares = min(max(resources.cpu_shares, 2), 262_144)
        out.append(("cpu.weight", str(1 + (shares - 2) * 9999 // 262_142)))
    if resources.cpu_quota or resources.cpu_period:
        out.append(("cpu.max", f"{resources.cpu_quota or 'max'} {resources.cpu_period or _PERIOD}"))
    if resources.cpuset_cpus:
        out.append(("cpuset.cpus", resources.cpuset_cpus))
    if resources.cpuset_mems:
        out.append(("cpuset.mems", resources.cpuset_mems))
    return out


_V2_NAMES = {
    "memory.max": "memory",
    "memory.swap.max": "memory-swap",
    "cpu.weight": "cpu-shares",
    "cpu.max": "cpu-quota",
    "cpuset.cpus": "cpuset-cpus",
    "cpuset.mems": "cpuset-mems",
}
_V1_NAMES = {file: name for name, (_, file) in _V1.items()}


@cache
def refusal(found: cgroups.Cgroups, resources: Resources, parent: str) -> str:
    """Why a sandbox can't be limited so, with the name of the limit at fault, or "".

    Tried on a group below ``parent`` that is named by our pid and removed again: which controllers are mounted, are delegated to
    us, and have such CPUs and nodes is seen in no table.
    """
    limits = asked(resources)
    if not limits:
        return ""
    if found.kind == "none":
        return f"--resource {next(iter(limits))} has no effect here: no cgroup can be made: {found.reason}"
    group = f"{parent}/{os.getpid()}-resources"
    done: list[str] = []
    names = _V2_NAMES if found.kind == "v2" else _V1_NAMES
    try:
        for folder, file, value in writes(found, resources):
            name = names[file]
            if not folder:
                return f"--resource {name} has no effect here: no {_V1[name][0]} cgroup is mounted"
            done.append(folder)
            try:
                cgroups.make(folder, group, {file.partition(".")[0]} if found.kind == "v2" else set())
                write(f"{folder}{group}/{file}", value)
            except FileNotFoundError:
                return f"--resource {name} has no effect here: the kernel keeps no {file}"
            except OSError as error:
                if name == "cpu-quota" and not resources.cpu_quota:
                    name = "cpu-period"
                return f"--resource {name}={limits[name]} can't be had: writing {value!r} to {file}: {error.strerror}"
    finally:
        cgroups.remove([group], done)
    return ""
