"""A tiny program, made anew for each run, that bubblewrap starts in the sandbox to do the last steps bubblewrap can't.

bubblewrap can neither switch to a user with supplementary groups, nor give exact capability sets, and the rootfs need not
hold any tool for it. So here is a static ELF file of straight machine code: a list of system calls with constant arguments,
ending in execve of the command, and a few comparisons of their results. Linux on amd64 and arm64.
"""

from __future__ import annotations

import errno
import struct

from runtime import capabilities
from runtime.errors import RuntimeFault
from runtime.linux import syscalls
from runtime.values import dataclass

_NUMBERS = {
    "x86_64": {
        "write": 1, "execve": 59, "setgroups": 116, "setresuid": 117, "setresgid": 119, "capset": 126, "prctl": 157,
        "exit_group": 231, "prlimit64": 302, "close_range": 436, "faccessat2": 439,
    },
    "aarch64": {
        "write": 64, "execve": 221, "setgroups": 159, "setresuid": 147, "setresgid": 149, "capset": 91, "prctl": 167,
        "exit_group": 94, "prlimit64": 261, "close_range": 436, "faccessat2": 439,
    },
}  # fmt: skip

_MACHINES = {"x86_64": 62, "aarch64": 183}

_BASE = 0x40_0000
_HEADER = 64 + 56  # ELF header and one program header

_CAPABILITY_VERSION_3 = 0x20080522
_UNLIMITED = (1 << 64) - 1
_AT_FDCWD, _AT_EACCESS, _X_OK = (1 << 64) - 100, 0x200, 1

# What an execve or a look at its file can fail with that is worth words of its own, as Go and so runc has them.
_REASONS = {
    errno.E2BIG: "argument list too long",
    errno.EACCES: "permission denied",
    errno.EISDIR: "is a directory",
    errno.ELOOP: "too many levels of symbolic links",
    errno.ENAMETOOLONG: "file name too long",
    errno.ENOENT: "no such file or directory",
    errno.ENOEXEC: "exec format error",
    errno.ENOMEM: "cannot allocate memory",
    errno.ENOTDIR: "not a directory",
    errno.EPERM: "operation not permitted",
    errno.ETXTBSY: "text file busy",
}


@dataclass(frozen=True, slots=True)
class Command:
    """What the program does: limits, groups, ids, capability sets, then the command.

    ``groups`` None: leave them. ``all_sets``: inheritable and ambient too (an insecure sandbox).
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    uid: int
    gid: int
    groups: tuple[int, ...] | None
    granted: tuple[str, ...]
    held: tuple[str, ...]
    all_sets: bool
    rlimits: tuple[tuple[int, int, int], ...]


class _Data:
    """The bytes after the code, with the addresses they will have."""

    def __init__(self, start: int) -> None:
        self._start = start
        self.content = bytearray()

    def put(self, data: bytes) -> int:
        """Address of ``data``, 8-aligned as kernel structures want it."""
        self.content += bytes(-len(self.content) % 8)
        address = self._start + len(self.content)
        self.content += data
        return address

    def strings(self, values: tuple[str, ...]) -> int:
        """Address of a null-terminated array of C strings."""
        addresses = [self.put(value.encode("utf-8", "surrogateescape") + b"\0") for value in values]
        return self.put(struct.pack(f"<{len(addresses) + 1}Q", *addresses, 0))


def supports(architecture: str) -> bool:
    """Can a program be made for it?"""
    return architecture in _NUMBERS


def idle(architecture: str) -> bytes:
    """The ELF file of a program that ends at once, with exit code 0."""
    call = _amd64_call if architecture == "x86_64" else _arm64_call
    code = call(_NUMBERS[architecture]["exit_group"], (0,))
    return header(architecture, len(code)) + code


def build(architecture: str, command: Command) -> bytes:
    """The ELF file. RuntimeFault for an architecture other than x86_64 and aarch64."""
    if architecture not in _NUMBERS:
        raise RuntimeFault(f"bwrap is not supported on {architecture}", hint="use --runtime runc or crun")
    # Addresses are of fixed width in the code, so its length does not depend on them: two passes settle the layout.
    size = len(_code(architecture, command, _Data(0)))
    start = _BASE + _HEADER + size
    data = _Data(start + -start % 8)
    code = _code(architecture, command, data)
    body = code + bytes(-start % 8) + bytes(data.content)
    return header(architecture, len(body)) + body


def header(architecture: str, size: int) -> bytes:
    """ELF64 executable with one readable, executable segment; entry right after the headers."""
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf = struct.pack("<HHIQQQIHHHHHH", 2, _MACHINES[architecture], 1, _BASE + _HEADER, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    total = _HEADER + size
    return identity + elf + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, total, total, 0x1000)


def _code(architecture: str, command: Command, data: _Data) -> bytes:
    call = _amd64_call if architecture == "x86_64" else _arm64_call
    skip = _amd64_skip_if_good if architecture == "x86_64" else _arm64_skip_if_good
    unless = _amd64_skip_unless if architecture == "x86_64" else _arm64_skip_unless
    numbers = _NUMBERS[architecture]

    def do(name: str, *arguments: int) -> bytes:
        return call(numbers[name], arguments)

    def fail(text: str, code: int) -> bytes:
        message = text.encode("utf-8", "surrogateescape") + b"\n"
        return do("write", 2, data.put(message), len(message)) + do("exit_group", code)

    def must(name: str, *arguments: int) -> bytes:
        failure = fail(f"sandbox: {name} failed", 126)
        return do(name, *arguments) + skip(len(failure)) + failure

    def fail_by_reason(text: str, but: tuple[int, ...] = ()) -> bytes:
        """End if the last call failed, with the reason; go on behind it for the errors ``but``."""
        code = b""
        for number, reason in _REASONS.items():
            if number not in but:
                failure = fail(f"{text}: {reason}", 1)
                code += unless(number, len(failure)) + failure
        return code

    code = do("close_range", 3, 0xFFFF_FFFF, 0)
    for number, soft, hard in command.rlimits:
        code += must("prlimit64", 0, number, data.put(struct.pack("<QQ", soft & _UNLIMITED, hard & _UNLIMITED)), 0)
    if not command.all_sets:
        code += do("prctl", syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        for number, name in enumerate(capabilities.NAMES):
            if name not in command.granted and name in command.held:
                code += must("prctl", syscalls.PR_CAPBSET_DROP, number, 0, 0, 0)
        # As runc: the user has the capabilities up to execve, which looks the command up with them and then takes them away.
        code += must("prctl", syscalls.PR_SET_KEEPCAPS, 1, 0, 0, 0)
    if command.groups is not None:
        code += must("setgroups", len(command.groups), data.put(struct.pack(f"<{len(command.groups)}I", *command.groups)))
    code += must("setresgid", command.gid, command.gid, command.gid)
    code += must("setresuid", command.uid, command.uid, command.uid)
    if not command.all_sets:
        words = _capability_words(capabilities.mask(command.granted))
        code += must("capset", data.put(struct.pack("<II", _CAPABILITY_VERSION_3, 0)), data.put(words))
    argv, envp = data.strings(command.args), data.strings(command.env)
    program = command.args[0]
    # Folders pass the look for an executable file, and execve refuses them like a file without permission.
    refused = fail(f"exec: {_quoted(program)}: permission denied", 1)
    refused = unless(errno.EACCES, len(refused)) + refused if "/" in program else b""
    for path in candidates(program, command.env):
        address = data.put(path.encode("utf-8", "surrogateescape") + b"\0")
        execute = do("execve", address, argv, envp) + refused + fail_by_reason(f"exec {path}", (errno.EACCES,))
        code += do("faccessat2", _AT_FDCWD, address, _X_OK, _AT_EACCESS)
        if "/" in program:
            missing = refused + fail_by_reason(f"exec: {_quoted(program)}: stat {program}", (errno.EACCES,))
            code += skip(len(missing)) + missing + execute
        else:
            code += unless(0, len(execute)) + execute
    return code + fail(f"exec: {_quoted(program)}: executable file not found in $PATH", 1)


def _quoted(text: str) -> str:
    """As Go's %q, near enough for a message."""
    import json

    return json.dumps(text, ensure_ascii=False)


def candidates(program: str, env: tuple[str, ...]) -> list[str]:
    """Paths to try, in order: the program itself if it has a slash, else by the PATH of the command's environment."""
    if "/" in program:
        return [program]
    path = next((entry[5:] for entry in env if entry.startswith("PATH=")), "")
    return [f"{folder}/{program}" for folder in path.split(":") if folder.startswith("/")]


def _capability_words(granted: int) -> bytes:
    """struct __user_cap_data_struct[2]: effective, permitted, inheritable; low words first."""
    low, high = granted & 0xFFFF_FFFF, granted >> 32
    return struct.pack("<6I", low, low, 0, high, high, 0)


def _amd64_call(number: int, arguments: tuple[int, ...]) -> bytes:
    # movabs to rdi, rsi, rdx, r10, r8; then rax; syscall.
    registers = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8")
    code = b"".join(registers[n] + struct.pack("<Q", value) for n, value in enumerate(arguments))
    return code + b"\x48\xb8" + struct.pack("<Q", number) + b"\x0f\x05"


def _amd64_skip_if_good(size: int) -> bytes:
    # test rax, rax; jns +size
    return b"\x48\x85\xc0\x0f\x89" + struct.pack("<i", size)


def _amd64_skip_unless(number: int, size: int) -> bytes:
    # cmp rax, -number; jne +size
    return b"\x48\x3d" + struct.pack("<i", -number) + b"\x0f\x85" + struct.pack("<i", size)


def _arm64_call(number: int, arguments: tuple[int, ...]) -> bytes:
    words: list[int] = []
    for register, value in [*enumerate(arguments), (8, number)]:
        words.append(0xD280_0000 | (value & 0xFFFF) << 5 | register)  # movz
        for shift in (1, 2, 3):
            words.append(0xF280_0000 | shift << 21 | (value >> 16 * shift & 0xFFFF) << 5 | register)  # movk
    words.append(0xD400_0001)  # svc #0
    return struct.pack(f"<{len(words)}I", *words)


def _arm64_skip_if_good(size: int) -> bytes:
    # tbz x0, #63, +size behind this instruction
    return struct.pack("<I", 0xB600_0000 | 31 << 19 | (size // 4 + 1) << 5)


def _arm64_skip_unless(number: int, size: int) -> bytes:
    # cmn x0, #number; b.ne #size behind this instruction
    return struct.pack("<II", 0xB100_001F | number << 10, 0x5400_0001 | (size // 4 + 1) << 5)
