"""Looking at a state root and at the machine from outside: what is there that should not be."""

from __future__ import annotations

import os

from tests.support.processes import eventually


def leftovers(root: str) -> list[str]:
    """What an empty store still holds: blobs, snapshots, half-done downloads, scratch folders, locks of the dead."""
    out = []
    for name in ("content/sha256", "ingest", "snapshots", "git", "tmp"):
        folder = os.path.join(root, name)
        out += [os.path.join(name, entry) for entry in os.listdir(folder) if not entry.startswith((".overlay", ".canary"))]
    return sorted(out + [f"locks/{entry}" for entry in os.listdir(os.path.join(root, "locks")) if entry.startswith("lease-")])


def du(folder: str) -> int:
    """What du(1) says of a folder, in bytes: every inode once, blocks as they are on disk."""
    seen: set[tuple[int, int]] = set()
    total = 0

    def add(status: os.stat_result) -> None:
        nonlocal total
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512

    add(os.lstat(folder))
    for at, folders, files in os.walk(folder):
        for name in folders + files:
            add(os.lstat(os.path.join(at, name)))
    return total


def nothing_lives(root: str, when: str) -> None:
    """No process names the root, nothing is mounted below it, no cgroup of a dead builder holds a process."""
    eventually(lambda: not _processes(root), f"no process of {root} is left ({when}): {_processes(root)}")
    eventually(lambda: not _mounts(root), f"no mount below {root} is left ({when}): {_mounts(root)}")
    eventually(lambda: not _orphaned_cgroups(), f"no cgroup of a dead builder holds a process ({when}): {_orphaned_cgroups()}")


def _processes(text: str) -> list[int]:
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as f:
                    if f"PYBUILD_ROOT={text}\0".encode() in f.read():
                        found.append(int(pid))
                        break
            except OSError:
                break
    return found


def _mounts(folder: str) -> list[str]:
    found = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as f:
                found |= {line.split()[4] for line in f if folder + "/" in line}
        except OSError:
            continue
    return sorted(found)


def _orphaned_cgroups() -> list[str]:
    """pybuild names a step's group PID-..., after the builder."""
    busy = []
    for folder, _, files in os.walk("/sys/fs/cgroup"):
        builder = os.path.basename(folder).partition("-")[0]
        if "/pybuild/" not in folder + "/" or "cgroup.procs" not in files:
            continue
        if not builder.isdecimal() or os.path.exists(f"/proc/{builder}"):
            continue
        try:
            with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as f:
                if f.read().split():
                    busy.append(folder)
        except OSError:
            continue
    return busy
