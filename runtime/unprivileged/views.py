"""/proc, /sys and mounted files in a bare chroot, where nothing can be mounted: the answers to the calls of ``traps.VIEWS``.

The supervisor has the container's own folders open and hands descriptors of files below them to the caller; ``self`` is the caller.
Whatever is no absolute name below one of these places the kernel looks up itself. A process whose memory we may not read (it
changed its user and has not executed a program since) sees empty folders there.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING

from runtime.linux import syscalls
from runtime.linux.notify import Call, Listener, Memory, UnreadableError
from runtime.unprivileged.making import GIVEN
from runtime.unprivileged.target import AT_SYMLINK_NOFOLLOW, Stats, Target, signed

if TYPE_CHECKING:
    from collections.abc import Callable

# Links of any image, into /proc; looked at by their words.
_LINKS = {
    b"/dev/fd": b"/proc/self/fd",
    b"/dev/stdin": b"/proc/self/fd/0",
    b"/dev/stdout": b"/proc/self/fd/1",
    b"/dev/stderr": b"/proc/self/fd/2",
    b"/etc/mtab": b"/proc/self/mounts",
}
# What docker hides of /proc (runtime/oci.py). The container around hides it, too, from those who come by descriptors.
_MASKED = frozenset(b"acpi asound interrupts kcore keys latency_stats timer_list timer_stats sched_debug scsi".split())
_WRITABLE = os.O_WRONLY | os.O_RDWR


class Views:
    """``files``: absolute name in the step to the file that appears there; ``sys``: the container's /sys, -1 for none.

    ``devices``: names below /dev that are the container's own. The working folder of the process is the container's /proc.
    """

    def __init__(
        self, listener: Listener, memory: Memory, files: dict[bytes, int], sys: int, dev: int, devices: frozenset[bytes]
    ) -> None:
        self._listener = listener
        self._memory = memory
        self._files = files
        self._sys = sys
        self._dev = dev
        self._devices = devices
        self._stats = Stats()
        self._methods: dict[str, Callable[[Call], int | None]] = {
            "open": lambda call: self._open(call, call.args[0], call.args[1]),
            "creat": lambda call: self._open(call, call.args[0], os.O_CREAT | os.O_WRONLY | os.O_TRUNC),
            "openat": lambda call: self._open(call, call.args[1], call.args[2]),
            "openat2": self._open2,
            "stat": lambda call: self._stat(call, call.args[0], call.args[1], follow=True),
            "lstat": lambda call: self._stat(call, call.args[0], call.args[1], follow=False),
            "newfstatat": lambda call: self._stat(call, call.args[1], call.args[2], follow=not call.args[3] & AT_SYMLINK_NOFOLLOW),
            "statx": self._statx,
            "access": lambda call: self._access(call, call.args[0], call.args[1]),
            "faccessat": lambda call: self._access(call, call.args[1], call.args[2]),
            "faccessat2": lambda call: self._access(call, call.args[1], call.args[2]),
            "readlink": lambda call: self._readlink(call, call.args[0], call.args[1], call.args[2]),
            "readlinkat": lambda call: self._readlink(call, call.args[1], call.args[2], call.args[3]),
            "statfs": self._statfs,
            "execve": self._execve,
            "chown": lambda call: self._own(call, call.args[0], *call.args[1:3], follow=True),
            "lchown": lambda call: self._own(call, call.args[0], *call.args[1:3], follow=False),
            "fchownat": lambda call: self._own(call, call.args[1], *call.args[2:4], follow=not call.args[4] & AT_SYMLINK_NOFOLLOW),
            "chmod": lambda call: self._set_mode(call, call.args[0], call.args[1]),
            "fchmodat": lambda call: self._set_mode(call, call.args[1], call.args[2]),
            **dict.fromkeys(("getxattr", "lgetxattr", "listxattr", "llistxattr"), self._no_attributes),
        }

    def answer(self, name: str, call: Call) -> int | None:
        """As ``owners.Owners.answer``."""
        uid = os.stat(b"%d" % call.pid).st_uid
        try:
            if uid:
                # Neither its memory nor its descriptors are root's to see, without CAP_SYS_PTRACE; and no more of a file is his to
                # open than without us.
                syscalls.set_file_system_ids(uid, _number(call.pid, b"Gid:"))
            return self._methods[name](call)
        except UnreadableError:
            return None
        finally:
            if uid:
                syscalls.set_file_system_ids(0, 0)

    # ------------------------------------------------------------------------------------------ names
    def _name(self, call: Call, address: int) -> bytes:
        return self._memory.text(call.pid, address) if address else b""

    def _find(self, call: Call, address: int, *, follow: bool) -> Target | None:
        """Where the name leads us to, None for what is none of ours."""
        path = self._name(call, address)
        if not path.startswith(b"/") or (path[1:2] not in (b"p", b"s", b"d", b"e", b"/", b".") and path not in self._files):
            return None
        path = os.path.normpath(path)
        path = path[1:] if path.startswith(b"//") else path
        if path in self._files:
            return Target(b"self/fd/%d" % self._files[path], follow=True)
        for link, to in _LINKS.items():
            if (path == link and follow) or path.startswith(link + b"/"):
                path = to + path[len(link) :]
        top, _, rest = path[1:].partition(b"/")
        if top == b"proc":
            return self._below_proc(call, rest, follow=follow)
        if top == b"sys" and self._sys >= 0:
            return Target(b"self/fd/%d/%s" % (self._sys, rest), follow)
        if top == b"dev" and rest in self._devices:
            return Target(b"self/fd/%d/%s" % (self._dev, rest), follow)
        return None

    def _below_proc(self, call: Call, rest: bytes, *, follow: bool) -> Target | None:
        first, _, more = rest.partition(b"/")
        if first in _MASKED:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if first in (b"self", b"thread-self"):
            if not more and not follow:
                return Target(b"self/fd/%d" % self._marker(call, first), follow=False)
            process = _group_of(call.pid)
            rest = b"%d/task/%d" % (process, call.pid) if first == b"thread-self" else b"%d" % process
            rest += b"/" + more if more else b""
        elif first in (b"mounts", b"net"):
            rest = b"%d/%s" % (call.pid, rest)
        return Target(rest or b".", follow)

    def _marker(self, call: Call, first: bytes) -> int:
        raise _SelfLinkError(call, first)

    # ------------------------------------------------------------------------------------------ answers
    def _open(self, call: Call, address: int, flags: int) -> int | None:
        flags &= 0xFFFF_FFFF
        target = self._find(call, address, follow=not flags & os.O_NOFOLLOW)
        if target is None:
            return None
        if target.path.startswith(b"self/fd/%d/" % self._sys) and flags & _WRITABLE:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        # What is there can be opened, not made.
        fd = os.open(target.path, flags & ~(os.O_CREAT | os.O_EXCL) | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            self._listener.give(call, fd, close_on_exec=bool(flags & os.O_CLOEXEC))
        finally:
            os.close(fd)
        return GIVEN

    def _open2(self, call: Call) -> int | None:
        flags, _, resolve = struct.unpack("=QQQ", self._memory.read(call.pid, call.args[2], 24))
        return None if resolve else self._open(call, call.args[1], flags)

    def _stat(self, call: Call, name: int, address: int, *, follow: bool) -> int | None:
        try:
            target = self._find(call, name, follow=follow)
        except _SelfLinkError:
            target = Target(b"self", follow=False)
        if target is None:
            return None
        return self._write(call, address, bytes(self._stats.stat(target)))

    def _statx(self, call: Call) -> int | None:
        try:
            target = self._find(call, call.args[1], follow=not call.args[2] & AT_SYMLINK_NOFOLLOW)
        except _SelfLinkError:
            target = Target(b"self", follow=False)
        if target is None:
            return None
        return self._write(call, call.args[4], bytes(self._stats.statx(target, call.args[3] & 0xFFFF_FFFF)))

    def _access(self, call: Call, name: int, mode: int) -> int | None:
        target = self._find(call, name, follow=True)
        if target is None:
            return None
        mode &= 7
        if not os.path.exists(target.path):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if mode and not os.access(target.path, mode, effective_ids=True):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return 0

    def _readlink(self, call: Call, name: int, address: int, room: int) -> int | None:
        try:
            target = self._find(call, name, follow=False)
        except _SelfLinkError as link:
            words = link.words
        else:
            if target is None:
                return None
            words = os.readlink(target.path)
        words = words[: signed(room)]
        self._write(call, address, words)
        return len(words)

    def _statfs(self, call: Call) -> int | None:
        """Of another file system the caller hears what an open file of it says: that it is there."""
        target = self._find(call, call.args[0], follow=True)
        if target is None:
            return None
        found = os.statvfs(target.path)
        magic = 0x62656572 if target.path.startswith(b"self/fd/%d/" % self._sys) else 0x9FA0
        data = struct.pack("=14q", magic, found.f_bsize, 0, 0, 0, 0, 0, 0, found.f_namemax, found.f_frsize, 0, 0, 0, 0)
        return self._write(call, call.args[1], data + bytes(120 - len(data)))

    def _execve(self, call: Call) -> int | None:
        """/proc/self/exe and the like: the kernel takes the name out of the caller's memory, where the file's own is put. It has
        to fit in, and stays if the execve fails."""
        target = self._find(call, call.args[0], follow=True)
        if target is None:
            return None
        old = self._name(call, call.args[0])
        new = os.readlink(target.path)
        if not stat.S_ISREG(os.stat(target.path).st_mode) or len(new) > len(old):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        self._write(call, call.args[0], new + b"\0")
        return None

    def _own(self, call: Call, name: int, uid: int, gid: int, *, follow: bool) -> int | None:
        """Of /dev/stdout, as scripts have it."""
        target = self._find(call, name, follow=follow)
        if target is None:
            return None
        os.chown(target.path, signed(uid), signed(gid), follow_symlinks=target.follow)
        return 0

    def _set_mode(self, call: Call, name: int, mode: int) -> int | None:
        target = self._find(call, name, follow=True)
        if target is None:
            return None
        os.chmod(target.path, mode & 0o7777)
        return 0

    def _no_attributes(self, call: Call) -> int | None:
        if self._find(call, call.args[0], follow=True) is None:
            return None
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def _write(self, call: Call, address: int, data: bytes) -> int:
        return self._listener.hand(call, self._memory, address, data)


class _SelfLinkError(OSError):
    """The link /proc/self itself is named; ``words`` is what it says. To open it is not to be had."""

    def __init__(self, call: Call, first: bytes) -> None:
        super().__init__(errno.ELOOP, os.strerror(errno.ELOOP))
        process = _group_of(call.pid)
        self.words = b"%d" % process if first == b"self" else b"%d/task/%d" % (process, call.pid)


def _group_of(pid: int) -> int:
    """The process of a thread. OSError."""
    return _number(pid, b"Tgid:")


def _number(pid: int, field: bytes) -> int:
    """The first number of a line of /proc/PID/status. OSError."""
    with open(f"{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1])
    raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
