"""Programs of other machines: which emulators the kernel has been told of (Documentation/admin-guide/binfmt-misc.rst)."""

from __future__ import annotations

import os
import struct

_FOLDER = "/proc/sys/fs/binfmt_misc"
MEND = "sudo apt install qemu-user-static"
REGISTER = "sudo apt install qemu-user-static binfmt-support"
"""Where a step can't have an emulator of its own, the host's kernel has to know one."""
# Names of Go's GOARCH: (bits, byte order, e_machine of elf.h).
MACHINES = {
    "386": (32, "<", 3),
    "amd64": (64, "<", 62),
    "arm": (32, "<", 40),
    "arm64": (64, "<", 183),
    "loong64": (64, "<", 258),
    "mips64le": (64, "<", 8),
    "ppc64le": (64, "<", 21),
    "riscv64": (64, "<", 243),
    "s390x": (64, ">", 22),
}


def emulator(architecture: str, folder: str = _FOLDER) -> str:
    """Path of the interpreter that is registered for programs of ``architecture`` (Go's name), "" if there is none."""
    if architecture not in MACHINES:
        return ""
    start = header(architecture)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ""
    for name in names:
        if name not in ("register", "status") and (found := _interpreter(f"{folder}/{name}", start)):
            return found
    return ""


def emulated() -> list[str]:
    """The architectures whose programs an emulator is registered for."""
    return [architecture for architecture in MACHINES if emulator(architecture)]


def header(architecture: str) -> bytes:
    """The first bytes of a program: e_ident, e_type (an executable), e_machine."""
    bits, order, machine = MACHINES[architecture]
    ident = b"\x7fELF" + bytes((bits // 32, 1 if order == "<" else 2, 1)) + bytes(9)
    return ident + struct.pack(f"{order}HH", 2, machine)


def _interpreter(path: str, header: bytes) -> str:
    """Without the flag F the interpreter would be looked for in the step's own root, where it is not."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(1 << 16).splitlines()
        fields = dict(line.split(" ", 1) for line in lines if " " in line)
        offset, magic = int(fields.get("offset", "0")), bytes.fromhex(fields.get("magic", ""))
        mask = bytes.fromhex(fields.get("mask", "ff" * len(magic)))
    except (OSError, ValueError):
        return ""
    part = header[offset : offset + len(magic)]
    is_it = "enabled" in lines and "F" in fields.get("flags:", "") and magic and len(part) == len(magic) == len(mask)
    if not is_it or any((a ^ b) & m for a, b, m in zip(part, magic, mask, strict=True)):
        return ""
    return fields.get("interpreter", "")


def advice(architecture: str) -> str:
    """What would let programs of ``architecture`` run here, "" where an emulator is registered already."""
    if emulator(architecture):
        return ""
    return f"an emulator is needed: {MEND}"
