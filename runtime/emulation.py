"""Programs of another machine in a step's own user namespace: the kernel's binfmt_misc of that namespace knows the emulator.

Since Linux 6.7 each user namespace may mount a binfmt_misc of its own (fs/binfmt_misc.c, load_binfmt_misc): it counts for
processes of that namespace and of those below it. So the host's is never touched, which builds have no right to change. The
emulator's file is opened when it is registered (flag F of Documentation/admin-guide/binfmt-misc.rst), before the step has its root:
nothing of it is seen in there. BuildKit mounts its emulator into the step instead, and starts the first program by it.

What is registered goes with the mount. The supervisor holds that, and lives as long as the step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import NoReturn

from runtime.errors import RuntimeFault
from runtime.foreign import MACHINES, MEND, header
from runtime.linux import idmaps, syscalls
from runtime.values import dataclass

_QEMU = {
    "386": "i386",
    "amd64": "x86_64",
    "arm": "arm",
    "arm64": "aarch64",
    "loong64": "loongarch64",
    "mips64le": "mips64el",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
_FLAGS = "POCF"
"""Keep argv[0] (busybox is what it is called), run set-id programs as their owners, open the emulator now."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """``user``: a descriptor of a user namespace with all our ids. ``mount``: one that keeps its binfmt_misc."""

    user: int
    mount: int


def find(architecture: str) -> str:
    """Path of a static emulator for Go's ``architecture``. RuntimeFault where there is none."""
    name = _QEMU.get(architecture)
    if name is None:
        raise RuntimeFault(f"no emulator is known for {architecture}")
    for program in (f"buildkit-qemu-{name}", f"qemu-{name}-static", f"qemu-{name}"):
        path = shutil.which(program)
        if path is not None and _is_static(path):
            return os.path.realpath(path)
    raise RuntimeFault(f"qemu-{name}-static not found", hint=MEND)


def found() -> list[str]:
    """The architectures, but this machine's own, that there is a static emulator for."""
    own = {"x86_64": ("amd64", "386"), "aarch64": ("arm64",)}.get(os.uname().machine, (os.uname().machine,))
    there = []
    for architecture in _QEMU:
        try:
            find(architecture)
        except RuntimeFault:
            continue
        if architecture not in own:
            there.append(architecture)
    return there


def rule(architecture: str, emulator: str) -> str:
    """What is written into ``register``: programs of ``architecture`` are run by ``emulator``. RuntimeFault for a path that the
    kernel can't take."""
    if ":" in emulator or len(os.fsencode(emulator)) > 127:
        raise RuntimeFault(f"the path of the emulator {emulator} can't be registered")
    magic = header(architecture)
    order = MACHINES[architecture][1]
    # Any ABI of the operating system (byte 7), and programs that can be moved as well as those that can't (types 2 and 3).
    mask = b"\xff" * 7 + b"\0" + b"\xff" * 8 + (b"\xfe\xff" if order == "<" else b"\xff\xfe") + b"\xff\xff"
    return f":pybuild-{architecture}:M::{_escaped(magic)}:{_escaped(mask)}:{emulator}:{_FLAGS}"


def enter_beside(rule: str, folder: str) -> Namespace:
    """Make a user namespace with the same ids, and a binfmt_misc in it that knows ``rule``. ``folder``: any, to mount on; nobody
    else sees that. OSError with what was refused in words."""
    come_read, come_write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(come_read)
        os.close(go_write)
        _child(rule, folder, come_write, go_read)
    os.close(come_write)
    os.close(go_read)
    try:
        _await(come_read)
        idmaps.write(child, idmaps.same())
        os.write(go_write, b"x")
        _await(come_read)
        user = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Namespace(user, os.open(f"/proc/{child}/root{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except BaseException:
            os.close(user)
            raise
    finally:
        os.close(come_read)
        os.close(go_write)  # the child ends
        os.waitpid(child, 0)


def join(namespace: int) -> None:
    """This process, which has no threads, is in the user namespace from here on, with all rights there and none outside."""
    syscalls.setns(namespace, syscalls.CLONE_NEWUSER)


def _child(rule: str, folder: str, come: int, go: int) -> NoReturn:
    def step(what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            os.write(come, f"{what}: {error.strerror}\n".encode())
            os._exit(1)

    try:
        step("cannot make a user namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))
        os.write(come, b"\n")
        if not os.read(go, 1):
            os._exit(1)
        step("cannot make a mount namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWNS))
        mount = "the kernel has no binfmt_misc of a user namespace's own, which came with Linux 6.7"
        step(mount, lambda: syscalls.mount("binfmt_misc", folder, "binfmt_misc", syscalls.MS_NOSUID | syscalls.MS_NODEV))
        step("cannot register the emulator", lambda: _register(rule, folder))
        os.write(come, b"\n")
        os.read(go, 1)  # until our parent has what it needs, or is gone
    finally:
        os._exit(0)


def _register(rule: str, folder: str) -> None:
    fd = os.open(f"{folder}/register", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, os.fsencode(rule))
    finally:
        os.close(fd)


def _await(come: int) -> None:
    said = b""
    while not said.endswith(b"\n"):
        part = os.read(come, 1000)
        if not part:
            raise OSError(None, said.decode("utf-8", "replace") or "the helper that registers the emulator has died")
        said += part
    if text := said.decode("utf-8", "replace").strip():
        raise OSError(None, text)


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _is_static(path: str) -> bool:
    """Does the program need no interpreter of its own? The step's root has none of this machine's."""
    import struct

    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF" or head[4] != 2:
                return False
            order = "<" if head[5] == 1 else ">"
            (offset,), (size, count) = struct.unpack_from(order + "Q", head, 32), struct.unpack_from(order + "HH", head, 54)
            file.seek(offset)
            table = file.read(size * count)
            return not any(struct.unpack_from(order + "I", table, at)[0] == _PT_INTERP for at in range(0, size * count, size))
    except (OSError, struct.error):
        return False


_PT_INTERP = 3
