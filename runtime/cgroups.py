"""What the cgroup hierarchy of this host allows, and reading a step's peak memory and CPU from it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime.linux.processes import write
from runtime.values import dataclass

if TYPE_CHECKING:
    from runtime import devices

_ROOT = "/sys/fs/cgroup"
_PRECAUTIONS = frozenset({"pids.max"})
"""Limits of ours that nobody asked for: a step runs without them too."""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """``kind``: "v1" (with or without a v2 tree beside it), "v2", or "none" where we may not make groups.

    ``folders``: the mounted hierarchies. ``hybrid``: a v2 tree is mounted among v1 ones. ``reason``: why "none". ``pids``: can the
    processes of a group be limited in number?
    """

    kind: str
    folders: tuple[str, ...] = ()
    hybrid: bool = False
    reason: str = ""
    pids: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Figures of one group; zeros where the hierarchy does not tell."""

    max_rss: int = 0
    cpu_seconds: float = 0.0
    oom: bool = False


def probe(root: str = _ROOT) -> Cgroups:
    """Look at the mounted hierarchies. A read-only or foreign one counts as none: the sandbox then runs without a group."""
    unwritable = f"{root} can't be written"
    if os.path.exists(f"{root}/cgroup.controllers"):
        if not os.access(root, os.W_OK):
            return Cgroups("none", reason=unwritable)
        with open(f"{root}/cgroup.controllers", encoding="ascii") as file:
            return Cgroups("v2", (root,), pids="pids" in file.read().split())
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        return Cgroups("none", reason=f"{root}: {error.strerror}")
    seen: dict[int, str] = {}
    hybrid = False
    for name in names:
        folder = f"{root}/{name}"
        if os.path.exists(f"{folder}/cgroup.controllers"):
            hybrid = True
        elif os.path.exists(f"{folder}/cgroup.procs"):
            # "cpu" and "cpu,cpuacct" can be two names of one mount.
            seen.setdefault(os.stat(folder).st_dev, folder)
    if hybrid:
        seen[-1] = f"{root}/unified"
    if not any(key >= 0 for key in seen):
        return Cgroups("none", (), hybrid, f"no cgroups are mounted on {root}")
    if not all(os.access(folder, os.W_OK) for folder in seen.values()):
        return Cgroups("none", (), hybrid, unwritable)
    return Cgroups("v1", tuple(seen.values()), hybrid, pids=f"{root}/pids" in seen.values())


def usage(parent: str, child: str, kind: str, root: str = _ROOT) -> Usage:
    """Figures of the group ``parent`` (absolute in the hierarchy); the v1 count of kills is kept in ``child`` only."""
    if kind == "v2":
        base = root + parent
        return Usage(
            _number(f"{base}/memory.peak"),
            _field(f"{base}/cpu.stat", "usage_usec") / 1e6,
            _field(f"{base}/memory.events", "oom_kill") > 0,
        )
    return Usage(
        _number(f"{root}/memory{parent}/memory.max_usage_in_bytes"),
        _number(f"{root}/cpuacct{parent}/cpuacct.usage") / 1e9,
        _field(f"{root}/memory{child}/memory.oom_control", "oom_kill") > 0,
    )


def remove(groups: list[str], folders: list[str]) -> bool:
    """Remove ``groups`` (deepest first) from every hierarchy; False if one is still in use or can't be removed."""
    done = True
    for group in groups:
        for folder in folders:
            try:
                os.rmdir(folder + group)
            except FileNotFoundError:
                continue
            except OSError:
                done = False
    return done


def sweep(parent: str, folders: tuple[str, ...]) -> None:
    """Remove groups named ``<pid>-<number>`` under ``parent`` that builders killed by SIGKILL left (they are empty)."""
    for folder in folders:
        try:
            names = os.listdir(folder + parent)
        except OSError:
            continue
        for name in names:
            pid, dash, _ = name.partition("-")
            if dash and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
                remove([f"{parent}/{name}/run", f"{parent}/{name}"], [folder])


def _number(path: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _field(path: str, key: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == key:
                    return int(value)
    except (OSError, ValueError):
        pass
    return 0


def parent_of(cgroup_parent: str) -> str:
    """The group that ours lie in, for a value of --cgroup-parent ("" for none)."""
    return os.path.normpath(f"/{cgroup_parent}/pybuild").replace("//", "/")


def hierarchy(found: Cgroups, controller: str) -> str:
    """The folder of v1 that ``controller`` is mounted on, "" if there is none. Several can share one: ``cpu,cpuacct``."""
    return next((folder for folder in found.folders if controller in os.path.basename(folder).split(",")), "")


def wanted(found: Cgroups, *, all_of_them: bool, controllers: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The hierarchies that a sandbox joins. On v1 each costs a move of the process of about a millisecond: without --cgroup-parent
    only those of devices, without which it may not run, and of memory, which tells its peak and whether the kernel killed for want
    of it, and of the ``controllers`` that are to limit it."""
    if found.kind != "v1" or all_of_them:
        return found.folders
    needed = {"devices", "memory"} | controllers
    return tuple(folder for folder in found.folders if set(os.path.basename(folder).split(",")) & needed)


def enclose(
    group: str,
    kind: str,
    folders: tuple[str, ...],
    *,
    deny: bool,
    limits: tuple[tuple[str, str, str], ...] = (),
    allowed: tuple[devices.Rule, ...] = (),
) -> list[int]:
    """Make ``group`` in each hierarchy; with ``deny`` only the devices of every sandbox and the ``allowed`` can be opened in it,
    and ``limits`` (see ``resources.writes``) are set.

    Gives a descriptor for each, close-on-exec: the process that writes "0" to it is in the group from then on. OSError.
    """
    from runtime import devices

    opened: list[int] = []
    try:
        for folder in folders:
            path = folder + group
            own = [(file, value) for hierarchy, file, value in limits if hierarchy == folder]
            strict = {file.partition(".")[0] for file, _ in own if file not in _PRECAUTIONS}
            make(folder, group, strict if kind == "v2" else set())
            for file, value in own:
                try:
                    if kind == "v2" and file in _PRECAUTIONS:
                        make(folder, group, {file.partition(".")[0]})  # a container's root has processes of its own, maybe
                    write(f"{path}/{file}", value)
                except OSError:
                    if file not in _PRECAUTIONS:
                        raise
            if deny and (kind == "v2" or os.path.basename(folder) == "devices") and not folder.endswith("/unified"):
                devices.limit(path, kind, allowed)
            opened.append(os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    return opened


def make(folder: str, group: str, controllers: set[str]) -> None:
    """Make ``group`` and those above it in one hierarchy, fit to be joined; on v2 with ``controllers`` in it. OSError."""
    os.makedirs(folder + group, exist_ok=True)
    if "cpuset" in os.path.basename(folder).split(","):
        _inherit_cpuset(folder, group)
    # A group of v2 has the controllers that the one above it hands down.
    above = folder
    for part in group.strip("/").split("/"):
        if controllers:
            write(f"{above}/cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(controllers)))
        above = f"{above}/{part}"



def _inherit_cpuset(folder: str, group: str) -> None:
    """A new group of v1's cpuset has no processors and no memory nodes, and nobody can join it."""
    above = folder
    for part in group.strip("/").split("/"):
        path = f"{above}/{part}"
        for name in ("cpuset.cpus", "cpuset.mems"):
            with open(f"{path}/{name}", encoding="utf-8") as file:
                own = file.read().strip()
            if not own:
                with open(f"{above}/{name}", encoding="utf-8") as file:
                    value = file.read().strip()
                with open(f"{path}/{name}", "w", encoding="utf-8") as file:
                    file.write(value)
        above = path
