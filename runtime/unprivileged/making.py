"""Files made by processes of other ids than root's, or in folders with the set-group-id bit; and device nodes.

What is made as root in a folder of root's stays the kernel's business. The others are made by the supervisor, with the caller's
umask, and get their owner before the caller has them.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final

from runtime.linux.notify import Call, Listener
from runtime.linux.overrides import Override
from runtime.unprivileged.ledger import Ledger
from runtime.unprivileged.processes import Processes
from runtime.unprivileged.target import AT_FDCWD, Names, Target, parent

_TMPFILE = 0x40_0000
_PATH_ONLY = os.O_PATH
GIVEN: Final = -(1 << 40)  # the call is answered already, by a descriptor


class Making:
    """The methods bear the names of the calls; each gives what the call returns, or None where the kernel is to do it."""

    def __init__(self, listener: Listener, names: Names, ledger: Ledger, processes: Processes) -> None:
        self._listener = listener
        self._names = names
        self._memory = names.memory
        self._ledger = ledger
        self._processes = processes

    def open(self, call: Call) -> int | None:
        return self._open(call, AT_FDCWD, call.args[0], call.args[1], call.args[2])

    def creat(self, call: Call) -> int | None:
        return self._open(call, AT_FDCWD, call.args[0], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, call.args[1])

    def openat(self, call: Call) -> int | None:
        return self._open(call, call.args[0], call.args[1], call.args[2], call.args[3])

    def openat2(self, call: Call) -> int | None:
        flags, mode, resolve = struct.unpack("=QQQ", self._memory.read(call.pid, call.args[2], 24))
        # Asked to stay inside of a folder: the kernel knows how, and we don't have the caller's descriptor. It stays root's.
        return None if resolve else self._open(call, call.args[0], call.args[1], flags, mode)

    def _open(self, call: Call, dir_fd: int, address: int, flags: int, mode: int) -> int | None:
        flags &= 0xFFFF_FFFF
        temporary = flags & _TMPFILE
        if flags & _PATH_ONLY or not (flags & os.O_CREAT or temporary):
            return None
        target = self._names.find(call, dir_fd, address, follow=True)
        if target is None:
            return None
        owner = self._owner(call, target.path if temporary else parent(target.path))
        if owner is None and mode & 0o7777:  # dpkg makes its files with no permission at all, and changes that: not worth the time
            owner = self._closed(call, mode, 0o600)
        if owner is None:
            return None
        exclusive = 0 if temporary else os.O_EXCL
        try:
            fd = os.open(target.path, flags | exclusive | os.O_CLOEXEC | os.O_NOCTTY, self._masked(call, mode))
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            return None
        try:
            made = Target(b"self/fd/%d" % fd, follow=True)
            self._own(made, owner)
            self._listener.give(call, fd, close_on_exec=bool(flags & os.O_CLOEXEC))
        finally:
            os.close(fd)
        return GIVEN

    def mkdir(self, call: Call) -> int | None:
        return self._folder(call, AT_FDCWD, call.args[0], call.args[1])

    def mkdirat(self, call: Call) -> int | None:
        return self._folder(call, call.args[0], call.args[1], call.args[2])

    def _folder(self, call: Call, dir_fd: int, address: int, mode: int) -> int | None:
        target = self._names.find(call, dir_fd, address, follow=False)
        owner = None if target is None else self._owner(call, parent(target.path)) or self._closed(call, mode, 0o700)
        if target is None or owner is None:
            return None
        os.mkdir(target.path, self._masked(call, mode) & 0o1777)
        self._own(target, owner)
        return 0

    def symlink(self, call: Call) -> int | None:
        return self._link(call, call.args[0], AT_FDCWD, call.args[1])

    def symlinkat(self, call: Call) -> int | None:
        return self._link(call, call.args[0], call.args[1], call.args[2])

    def _link(self, call: Call, words: int, dir_fd: int, address: int) -> int | None:
        target = self._names.find(call, dir_fd, address, follow=False)
        owner = None if target is None else self._owner(call, parent(target.path))
        if target is None or owner is None:
            return None
        os.symlink(self._memory.text(call.pid, words), target.path)
        self._ledger.record_new(target, *owner)
        return 0

    def mknod(self, call: Call) -> int | None:
        return self._node(call, AT_FDCWD, call.args[0], call.args[1], call.args[2])

    def mknodat(self, call: Call) -> int | None:
        return self._node(call, call.args[0], call.args[1], call.args[2], call.args[3])

    def _node(self, call: Call, dir_fd: int, address: int, mode: int, device: int) -> int | None:
        kind = stat.S_IFMT(mode & 0xFFFF) or stat.S_IFREG
        is_device = kind in (stat.S_IFCHR, stat.S_IFBLK)
        target = self._names.find(call, dir_fd, address, follow=False)
        if target is None:
            return None
        if is_device and (not self._processes.ids(call.pid).root or (kind == stat.S_IFCHR and not device & 0xFFFF_FFFF)):
            # Of 0:0 an overlay says so to root, too: to it that is the mark of a deleted file.
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        owner = self._owner(call, parent(target.path))
        if owner is None and not is_device:
            return None
        permissions = self._masked(call, mode & 0o7777)
        os.mknod(target.path, (stat.S_IFREG if is_device else kind) | permissions)
        if is_device:
            self._ledger.write(target, Override(*(owner or (0, 0)), permissions, kind, device & 0xFFFF_FFFF))
        elif kind == stat.S_IFREG:
            self._own(target, owner or (0, 0))
        else:
            self._ledger.record_new(target, *(owner or (0, 0)))
        return 0

    def chroot(self, call: Call) -> None:
        """A root of its own: names that begin with a slash mean other files to it than to us."""
        self._names.chrooted = True

    def _own(self, target: Target, owner: tuple[int, int]) -> None:
        mode = stat.S_IMODE(os.stat(target.path, follow_symlinks=target.follow).st_mode)
        self._ledger.write(target, Override(*owner, mode))

    def _owner(self, call: Call, folder: bytes) -> tuple[int, int] | None:
        """Whose a file made in ``folder`` is; None for root's. OSError if there is no such folder."""
        ids = self._processes.ids(call.pid)
        uid, gid = ids.uids[3], ids.gids[3]
        if os.stat(folder).st_mode & stat.S_ISGID:
            above = self._ledger.find(Target(folder, follow=True))
            gid = above.gid if above is not None else 0
        return (uid, gid) if uid or gid else None

    def _closed(self, call: Call, mode: int, needed: int) -> tuple[int, int] | None:
        """Root, if what he makes would be closed to the account that he is to the kernel; else None."""
        return (0, 0) if self._ledger.rightless and self._masked(call, mode) & needed != needed else None

    def _masked(self, call: Call, mode: int) -> int:
        with open(f"{call.shown}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Umask:"):
                    return mode & 0o7777 & ~int(line.split()[1], 8)
        return mode & 0o7777
