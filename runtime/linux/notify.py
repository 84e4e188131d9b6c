"""Seccomp user notification: the kernel's interface, seccomp_unotify(2) and linux/seccomp.h.

A filter's SECCOMP_RET_USER_NOTIF stops the caller until somebody who holds the filter's listener has answered for the kernel.
Memory of the caller is read while it waits; a caller with threads can change it meanwhile, so whatever is decided by it protects
nobody but the caller from himself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Any

from runtime.linux import syscalls
from runtime.linux.pids import same

if TYPE_CHECKING:
    from collections.abc import Callable

_SECCOMP_NUMBER = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
_NEW_LISTENER, _WAIT_KILLABLE = 8, 32
_RECEIVE, _SEND, _VALID, _ADD_FD, _SET_FLAGS = 0xC050_2100, 0xC018_2101, 0x4008_2102, 0x4018_2103, 0x4008_2104
_SYNC_WAKE_UP = 1
_CONTINUE = 1
_ADD_AND_SEND = 2
_PAGE = 4096

_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_ADDED = struct.Struct("=QIIII")


def supports(machine: str) -> bool:
    """Do we know the numbers of ``machine`` (of ``os.uname()``)?"""
    return machine in _SECCOMP_NUMBER


def install(program: bytes) -> int:
    """Put this thread under a filter (an array of struct sock_filter) and return its listener, close-on-exec.

    OSError: EACCES without no_new_privs or CAP_SYS_ADMIN, EBUSY where a filter with a listener is in force already (a container
    whose runtime has one), ENOSYS or EINVAL on a kernel before 5.0.
    """
    import ctypes

    number = _SECCOMP_NUMBER.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "seccomp")
    code = ctypes.create_string_buffer(program)
    filter_program = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    # Where signals can interrupt the caller while we work for it (Linux before 5.19), it makes its call twice.
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        try:
            return syscalls.numbered(number, "iUp", _SET_MODE_FILTER, flags, filter_program)
        except OSError as error:
            if error.errno != errno.EINVAL or not flags & _WAIT_KILLABLE:
                raise
    raise AssertionError


class UnreadableError(PermissionError):
    """The caller's memory is closed to us: it changed its ids and has not executed a program since, or is another user's."""


class Call:
    """One call that waits. ``pid``: the calling thread, as our pid namespace numbers it; ``shown``: as /proc does."""

    __slots__ = ("args", "id", "number", "pid", "shown")

    def __init__(self, number: int, pid: int, shown: int, identity: int, args: tuple[int, ...]) -> None:
        self.number = number
        self.pid = pid
        self.shown = shown
        self.id = identity
        self.args = args


class Listener:
    """The end of a filter at which its calls are answered. One thread. ``in_proc``: see ``pids.in_proc``."""

    def __init__(self, fd: int, in_proc: Callable[[int], int] = same) -> None:
        self.fd = fd
        self._in_proc = in_proc
        self._library: Any = None
        try:
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)  # both sides on one processor: a wake-up less (Linux 6.6)
        except OSError:
            pass

    def receive(self) -> Call | None:
        """The next call; None if the caller died before it was taken, or everybody is dead."""
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        identity, pid, _, number, _, _, *args = _NOTIFICATION.unpack(buffer)
        return Call(number, pid, self._in_proc(pid), identity, tuple(args))

    def waits(self, call: Call) -> bool:
        """Is the caller still there? Without asking, what was read by its pid may be another's."""
        try:
            fcntl.ioctl(self.fd, _VALID, struct.pack("=Q", call.id))
        except OSError:
            return False
        return True

    def hand(self, call: Call, memory: Memory, address: int, data: bytes) -> int:
        """Write an answer into the caller's memory, if he is still there; 0, which the call returns then. OSError."""
        if self.waits(call):
            memory.write(call.pid, address, data)
        return 0

    def proceed(self, call: Call) -> None:
        """The kernel does what was asked of it."""
        self._send(_RESPONSE.pack(call.id, 0, 0, _CONTINUE))

    def answer(self, call: Call, value: int) -> None:
        """The call returns ``value``."""
        self._send(_RESPONSE.pack(call.id, value, 0, 0))

    def fail(self, call: Call, code: int) -> None:
        """The call fails with errno ``code``."""
        self._send(_RESPONSE.pack(call.id, 0, -code, 0))

    def give(self, call: Call, fd: int, *, close_on_exec: bool) -> None:
        """The call returns a new descriptor of the caller's, for our open file ``fd``. OSError, EMFILE if it may have no more."""
        flags = os.O_CLOEXEC if close_on_exec else 0
        try:
            fcntl.ioctl(self.fd, _ADD_FD, _ADDED.pack(call.id, _ADD_AND_SEND, fd, 0, flags))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _send(self, response: bytes) -> None:
        try:
            fcntl.ioctl(self.fd, _SEND, response)
        except OSError as error:
            if error.errno != errno.ENOENT:  # it was killed meanwhile
                raise


class Memory:
    """Memory of callers, by process_vm_readv(2) or, where that is refused, /proc/PID/mem. Our working folder must be a /proc.
    ``in_proc``: see ``pids.in_proc``."""

    def __init__(self, in_proc: Callable[[int], int] = same) -> None:
        import ctypes

        self._in_proc = in_proc

        class Vector(ctypes.Structure):
            _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

        library = ctypes.CDLL(None, use_errno=True)
        kinds: list[Any] = [ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
        self._read, self._write = library.process_vm_readv, library.process_vm_writev
        for function in (self._read, self._write):
            function.restype, function.argtypes = ctypes.c_ssize_t, kinds
        self._buffer = ctypes.create_string_buffer(1 << 16)
        self._local = Vector(ctypes.addressof(self._buffer), 0)
        self._remote = Vector(0, 0)
        self._here, self._there = ctypes.addressof(self._local), ctypes.addressof(self._remote)
        self._move, self._take = ctypes.memmove, ctypes.string_at

    def read(self, pid: int, address: int, size: int) -> bytes:
        """``size`` bytes. OSError, EFAULT where there is less."""
        self._local.length = self._remote.length = size
        self._remote.base = address
        if self._read(pid, self._here, 1, self._there, 1, 0) == size:
            return self._take(self._buffer, size)
        data = self._by_file(pid, address, size)
        if len(data) != size:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return data

    def text(self, pid: int, address: int, limit: int = 4096) -> bytes:
        """Up to the NUL. OSError, ENAMETOOLONG if there is none in ``limit`` bytes."""
        found = b""
        if address == 0:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        while len(found) < limit:
            # No further than the page: the next one may not be there. Most names are short.
            size = min(256, _PAGE - (address + len(found)) % _PAGE, limit - len(found))
            part = self.read(pid, address + len(found), size)
            end = part.find(b"\0")
            if end >= 0:
                return found + part[:end]
            found += part
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def write(self, pid: int, address: int, data: bytes) -> None:
        """OSError, EFAULT."""
        self._move(self._buffer, data, len(data))
        self._local.length = self._remote.length = len(data)
        self._remote.base = address
        if self._write(pid, self._here, 1, self._there, 1, 0) == len(data):
            return
        fd = _open_memory(self._in_proc(pid), os.O_WRONLY)
        try:
            if os.pwrite(fd, data, address) != len(data):
                raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        finally:
            os.close(fd)

    def _by_file(self, pid: int, address: int, size: int) -> bytes:
        fd = _open_memory(self._in_proc(pid), os.O_RDONLY)
        try:
            return os.pread(fd, size, address)
        except (OSError, OverflowError):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT)) from None
        finally:
            os.close(fd)


def _open_memory(pid: int, flags: int) -> int:
    try:
        return os.open(f"{pid}/mem", flags | os.O_CLOEXEC)
    except PermissionError as error:
        raise UnreadableError(error.errno, error.strerror) from None
