"""Which system calls the supervisor is asked about: a filter of its own beside docker's policy, whose refusals come before it.

A filter sees numbers, no memory: opening a file is only of interest to ``owners`` where it may make one.
"""

from __future__ import annotations

import struct

from runtime import syscall_numbers
from runtime.seccomp import Instruction

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _NOTIFY = 0x7FFF_0000, 0x7FC0_0000
_LOAD, _EQ, _SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16

_CREATES = 0x40 | 0x40_0000  # O_CREAT, __O_TMPFILE: the same on every architecture that we have

# By name: the argument that has the flags, where only those of _CREATES are of interest.
_OPENING = {"open": 1, "openat": 2}

_OWNERS = """
    chown fchown lchown fchownat chmod fchmod fchmodat fchmodat2 stat fstat lstat newfstatat statx
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
    getuid geteuid getgid getegid getresuid getresgid getgroups
    open openat openat2 creat mkdir mkdirat mknod mknodat symlink symlinkat execve execveat chroot
    getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    listxattr llistxattr flistxattr setxattrat getxattrat listxattrat removexattrat
"""
_VIEWS = """
    open openat openat2 creat stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat
    statfs execve getxattr lgetxattr listxattr llistxattr chown lchown fchownat chmod fchmodat
"""
OWNERS = tuple(_OWNERS.split())
# Besides, where a table names files of lower layers.
MOVES = ("rename", "renameat", "renameat2", "link", "linkat")
# proot does not know these in the version that distributions have: what it does not translate must not reach the kernel.
UNKNOWN_TO_PROOT = ("statx", "openat2", "faccessat2", "fchmodat2", "clone3")
BELOW_PROOT = (*OWNERS, "faccessat2", "clone3", "capget", "capset")
VIEWS = tuple(_VIEWS.split())


def program(architecture: str, names: tuple[str, ...], *, only_creating: bool) -> bytes:
    """The filter as an array of struct sock_filter. Calls of a 32-bit mode are not asked about."""
    table = syscall_numbers.numbers(architecture)
    code = [Instruction(_LOAD, _ARCH), Instruction(_EQ, _AUDIT[architecture], 1, 0), Instruction(_RETURN, _ALLOW)]
    code.append(Instruction(_LOAD, _NR))
    for name in names:
        if name not in table:
            continue
        body = [Instruction(_RETURN, _NOTIFY)]
        if only_creating and name in _OPENING:
            flags = Instruction(_LOAD, _ARGS + 8 * _OPENING[name])
            body = [flags, Instruction(_SET, _CREATES, 1, 0), Instruction(_RETURN, _ALLOW), *body]
        code += [Instruction(_EQ, table[name], 0, len(body)), *body]
    code.append(Instruction(_RETURN, _ALLOW))
    return b"".join(struct.pack("<HBBI", one.code, one.yes, one.no, one.k) for one in code)


def names_of(architecture: str, names: tuple[str, ...]) -> dict[int, str]:
    """Number to name."""
    table = syscall_numbers.numbers(architecture)
    return {table[name]: name for name in names if name in table}
