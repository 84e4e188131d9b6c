"""Does a devices cgroup work here? Tried for real: with CAP_MKNOD and without one a step could read the host's disks.

v1: a group whose ``devices.deny`` takes "a" and then allows nothing. v2: a BPF program of type "cgroup device" that the kernel
loads and attaches to a group. A mount table that looks right is not enough: trees are mounted read-only in containers, the
devices hierarchy may be absent or another container's, and BPF may be refused.
"""

from __future__ import annotations

import os
import struct
from functools import cache

from runtime import cgroups
from runtime.linux import syscalls

# Instructions of eBPF: r0 = 0 (deny); exit.
_DENY_ALL = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)


@cache
def refusal(found: cgroups.Cgroups) -> str:
    """Why no devices cgroup can be used, or "". Makes a group below /pybuild, named by our pid, and removes it."""
    if found.kind == "none":
        return "no cgroup can be made"
    group = f"/pybuild/{os.getpid()}-devices"
    folder = found.folders[0] if found.kind == "v2" else next((f for f in found.folders if f.endswith("/devices")), "")
    if not folder:
        return "no devices cgroup is mounted"
    path = folder + group
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        return f"no devices cgroup can be made: {error.strerror}"
    try:
        return _try_v2(path) if found.kind == "v2" else _try_v1(path)
    except OSError as error:
        return f"the devices cgroup can't be set: {error.strerror}"
    finally:
        cgroups.remove([group], [folder])


def _try_v1(path: str) -> str:
    with open(f"{path}/devices.deny", "w", encoding="utf-8") as file:
        file.write("a")
    with open(f"{path}/devices.list", encoding="utf-8") as file:
        return "the devices cgroup can't be set" if file.read().strip() else ""


def _try_v2(path: str) -> str:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        program = syscalls.bpf_load_device_program(_DENY_ALL)
        try:
            syscalls.bpf_attach_device_program(program, folder)  # goes with the group
        finally:
            os.close(program)
    finally:
        os.close(folder)
    return ""
