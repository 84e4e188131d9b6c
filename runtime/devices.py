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

_ANY = -1
# What every sandbox may do, as runc has it (libcontainer/specconv, AllowedDevices): (kind, major, minor, may it be opened?). Nodes
# of any device may be made, since making one alone harms nobody and package managers do.
_ALLOWED = (
    ("c", _ANY, _ANY, False),
    ("b", _ANY, _ANY, False),
    ("c", 1, 3, True),  # null
    ("c", 1, 5, True),  # zero
    ("c", 1, 7, True),  # full
    ("c", 1, 8, True),  # random
    ("c", 1, 9, True),  # urandom
    ("c", 5, 0, True),  # tty
    ("c", 5, 2, True),  # ptmx
    ("c", 136, _ANY, True),  # pts/*
)

# eBPF, linux/bpf.h: operations as they are used here.
_LOAD, _MOVE, _SET, _AND, _SHIFT_RIGHT, _UNLESS, _EXIT = 0x61, 0xBF, 0xB7, 0x57, 0x77, 0x55, 0x95
# Its struct bpf_cgroup_dev_ctx: kinds in the low half of the first word, accesses in the high half.
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


Rule = tuple[str, int, int, str]
"""(kind "c" or "b", major, minor, what of "rwm" is allowed)."""


def limit(path: str, kind: str, more: tuple[Rule, ...] = ()) -> None:
    """Let the processes of the group ``path`` open the devices of every sandbox, those of ``more``, and no others.

    ``kind``: "v1" or "v2". OSError."""
    if kind == "v2":
        _attach(path, program(more))
        return
    _write(f"{path}/devices.deny", "a")
    for name, major, minor, access in _rules(more):
        numbers = ":".join("*" if number == _ANY else str(number) for number in (major, minor))
        _write(f"{path}/devices.allow", f"{name} {numbers} {access}")


def _rules(more: tuple[Rule, ...]) -> list[Rule]:
    return [(name, major, minor, "rwm" if open_too else "m") for name, major, minor, open_too in _ALLOWED] + list(more)


def program(more: tuple[Rule, ...] = ()) -> bytes:
    """The same as eBPF. Registers: r2 kind, r3 access, r4 major, r5 minor."""
    code = _one(_LOAD, 2, 1) + _one(_MOVE, 3, 2) + _one(_AND, 2, value=0xFFFF) + _one(_SHIFT_RIGHT, 3, value=16)
    code += _one(_LOAD, 4, 1, offset=4) + _one(_LOAD, 5, 1, offset=8)
    for name, major, minor, access in _rules(more):
        conditions = [(2, _KINDS[name])]
        conditions += [(4, major)] if major != _ANY else []
        conditions += [(5, minor)] if minor != _ANY else []
        rule = b""
        if access != "rwm":
            rule += _one(_MOVE, 6, 3) + _one(_AND, 6, value=~sum(_ACCESS[one] for one in set(access)))
            conditions.append((6, 0))
        allow = _one(_SET, 0, value=1) + _one(_EXIT, 0)
        left = len(conditions)
        for register, value in conditions:
            left -= 1
            rule += _one(_UNLESS, register, value=value, offset=left + len(allow) // 8)
        code += rule + allow
    return code + _DENY_ALL


def _one(code: int, target: int, source: int = 0, *, offset: int = 0, value: int = 0) -> bytes:
    """struct bpf_insn."""
    return struct.pack("<BBhi", code, source << 4 | target, offset, value)


_DENY_ALL = _one(_SET, 0) + _one(_EXIT, 0)


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
    _write(f"{path}/devices.deny", "a")
    with open(f"{path}/devices.list", encoding="utf-8") as file:
        return "the devices cgroup can't be set" if file.read().strip() else ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _try_v2(path: str) -> str:
    _attach(path, _DENY_ALL)
    return ""


def _attach(path: str, code: bytes) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loaded = syscalls.bpf_load_device_program(code)
        try:
            syscalls.bpf_attach_device_program(loaded, folder)  # goes with the group
        finally:
            os.close(loaded)
    finally:
        os.close(folder)
