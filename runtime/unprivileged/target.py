"""The file that a call names, as a path that leads the supervisor to it; and what the kernel says of it.

The supervisor's root is the step's, and its working folder a /proc in which it sees the step: ``7/cwd/x`` is the relative name x of
process 7. Names below /proc and /dev mean something else to each process: nobody but the kernel can answer for them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import Any

from runtime.linux import overrides, syscalls
from runtime.linux.notify import Call, Memory
from runtime.values import dataclass

AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = -100, 0x100, 0x1000
_STATX_ALL = 0xFFF
_STAT = 144


@dataclass(frozen=True, slots=True)
class Target:
    """``path`` is relative to a /proc, or absolute. ``follow``: a link in the last place."""

    path: bytes
    follow: bool


def own_kernels(path: bytes) -> bool:
    """Is it below /proc or /dev, by its words?"""
    if path[:2] in (b"/p", b"/d") and b"/." not in path and b"//" not in path:
        return path[1:].partition(b"/")[0] in (b"proc", b"dev")
    if b"." not in path and b"//" not in path:
        return False
    return os.path.normpath(path).lstrip(b"/").partition(b"/")[0] in (b"proc", b"dev")


def signed(number: int) -> int:
    """An int argument."""
    number &= 0xFFFF_FFFF
    return number - (1 << 32) if number & (1 << 31) else number


class Names:
    """Names that callers have in their memory. ``chrooted``: one of them has made a folder its root, and may have children."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.chrooted = False

    def find(self, call: Call, dir_fd: int, address: int, *, follow: bool = True, may_be_empty: bool = False) -> Target | None:
        """What the name at ``address`` means; None where only the kernel knows. OSError as the call would have it."""
        path = self.memory.text(call.pid, address)
        dir_fd = signed(dir_fd)
        if not path:
            if not may_be_empty:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            return Target(b"%d/cwd" % call.shown if dir_fd == AT_FDCWD else b"%d/fd/%d" % (call.shown, dir_fd), follow=True)
        if path.startswith(b"/"):
            if own_kernels(path):
                return None
            # An absolute link on the way would lead from our root still; there is none in the way of most names.
            return Target(b"%d/root%s" % (call.shown, path) if self.chrooted else path, follow)
        if dir_fd == AT_FDCWD:
            return Target(b"%d/cwd/%s" % (call.shown, path), follow)
        if dir_fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return Target(b"%d/fd/%d/%s" % (call.shown, dir_fd, path), follow)


def of_fd(call: Call, number: int) -> Target:
    """An open file of the caller's."""
    return Target(b"%d/fd/%d" % (call.shown, signed(number)), follow=True)


def parent(path: bytes) -> bytes:
    """The folder that the last name of ``path`` is looked up in."""
    folder, _, _ = path.rstrip(b"/").rpartition(b"/")
    return folder or b"/"


class Stats:
    """stat(2) and statx(2), whose answers are changed in a few places before they go to the caller. x86_64 and aarch64."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(None, use_errno=True)
        self._buffer = ctypes.create_string_buffer(_STAT)
        self._x86 = os.uname().machine == "x86_64"
        self._number = 262 if self._x86 else 79  # newfstatat
        self._size = 144 if self._x86 else 128
        call = self._library["syscall"]
        call.restype = ctypes.c_long
        call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
        self._fstatat = call

    def stat(self, target: Target) -> bytearray:
        """The kernel's struct stat. OSError."""
        self._check(self._fstatat(self._number, AT_FDCWD, target.path, self._buffer, 0 if target.follow else AT_SYMLINK_NOFOLLOW))
        return bytearray(self._buffer.raw[: self._size])

    def statx(self, target: Target, mask: int = _STATX_ALL, flags: int = 0) -> bytearray:
        """struct statx. OSError."""
        flags = (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) | (0 if target.follow else AT_SYMLINK_NOFOLLOW)
        return bytearray(syscalls.statx(target.path, flags, mask))

    def inode(self, target: Target) -> tuple[int, int]:
        """See ``overrides.inode``."""
        return overrides.inode(target.path, follow=target.follow)

    def owner(self, answer: bytearray) -> tuple[int, int]:
        """(uid, gid) of a struct stat."""
        uid, gid = struct.unpack_from("=II", answer, 28 if self._x86 else 24)
        return uid, gid

    def patch(self, answer: bytearray, uid: int, gid: int, mode: int | None, kind: int = 0, device: int = 0) -> None:
        """Other owners, permission bits (None: as they are) and kind (0: as it is) into a struct stat."""
        at_mode, at_ids, at_device = (24, 28, 40) if self._x86 else (16, 24, 32)
        (old,) = struct.unpack_from("=I", answer, at_mode)
        struct.pack_into("=I", answer, at_mode, (kind or stat.S_IFMT(old)) | (stat.S_IMODE(old) if mode is None else mode))
        struct.pack_into("=II", answer, at_ids, uid, gid)
        if kind:
            # The kernel's own form (new_encode_dev), which is that of makedev for numbers below 2^32.
            struct.pack_into("=Q", answer, at_device, device)

    def patch_statx(self, answer: bytearray, uid: int, gid: int, mode: int | None, kind: int = 0, device: int = 0) -> None:
        """``patch`` for a struct statx."""
        (old,) = struct.unpack_from("=H", answer, 28)
        struct.pack_into("=H", answer, 28, (kind or stat.S_IFMT(old)) | (stat.S_IMODE(old) if mode is None else mode))
        struct.pack_into("=II", answer, 20, uid, gid)
        if kind:
            struct.pack_into("=II", answer, 128, os.major(device), os.minor(device))

    def _check(self, result: int) -> None:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
