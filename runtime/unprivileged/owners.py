"""Owners, modes and ids as root has them, for a step whose kernel knows one id: the answers to the calls of ``traps.OWNERS``.

What nobody has changed the kernel answers itself: a call is answered here only if there is an override, or ids other than root's.
Rights are not checked by these ids, but where a call is about owners: to the kernel every process of the step is root of its
namespace.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING

from runtime import capabilities
from runtime.linux.notify import Call, Listener, Memory
from runtime.linux.overrides import Override, Table, without_set_ids
from runtime.unprivileged import ids as credentials
from runtime.unprivileged.attributes import Attributes
from runtime.unprivileged.ids import Ids
from runtime.unprivileged.ledger import Ledger
from runtime.unprivileged.making import Making
from runtime.unprivileged.processes import Processes
from runtime.unprivileged.target import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Names, Stats, Target, of_fd

if TYPE_CHECKING:
    from collections.abc import Callable

_SAME = 0xFFFF_FFFF
_AT_SYMLINK_FOLLOW = 0x400
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = capabilities.mask(capabilities.DEFAULT)


class Owners:
    """``answer`` gives the value that a call returns, or None where the kernel is to do it. OSError is the call's.

    ``account``: the user and group that we are where there is no user namespace, shown as 0; files keep what their owner needs of
    permissions then, since there is no right to do without. ``absent``: calls that are said not to exist.
    """

    def __init__(
        self,
        listener: Listener,
        memory: Memory,
        table: Table,
        user: Ids,
        *,
        account: tuple[int, int] | None = None,
        absent: tuple[str, ...] = (),
    ) -> None:
        self._account = account
        self._absent = absent
        self._listener = listener
        self._memory = memory
        self._names = Names(memory)
        self._stats = Stats()
        self._ledger = Ledger(table, self._stats, rightless=account is not None)
        self._processes = Processes(user)
        self._attributes = Attributes(listener, memory, self._names, self._processes, rightless=account is not None)
        self._making = Making(listener, self._names, self._ledger, self._processes)
        self._found: dict[str, Callable[[Call], int | None]] = {}

    def answer(self, name: str, call: Call) -> int | None:
        """See the class."""
        method = self._found.get(name)
        if method is None:
            method = self._found[name] = self._method(name)
        return method(call)

    def _method(self, name: str) -> Callable[[Call], int | None]:
        if name in self._absent:
            return lambda _: _fail(errno.ENOSYS)
        own = getattr(self, f"_{name}", None) or getattr(self._making, name, None)
        if own is not None:
            return own  # type: ignore[no-any-return]
        if name in ("setfsuid", "setfsgid"):
            return lambda call: self._set_file_system_id(name, call)
        if name.startswith("set") and name.endswith("id"):
            return lambda call: self._set_ids(name, call)
        if name in ("getuid", "geteuid", "getgid", "getegid"):
            return lambda call: self._get_id(name, call)
        if name in ("getresuid", "getresgid"):
            return lambda call: self._get_three(name, call)
        if name.endswith("xattrat"):
            return lambda _: _fail(errno.ENOSYS)  # newer than what we look into; programs fall back
        return self._attributes.method(name)

    # ------------------------------------------------------------------------------------------ stat
    def _stat(self, call: Call) -> int | None:
        return self._told(call, self._path(call, AT_FDCWD, call.args[0]), call.args[1])

    def _lstat(self, call: Call) -> int | None:
        return self._told(call, self._path(call, AT_FDCWD, call.args[0], follow=False), call.args[1])

    def _fstat(self, call: Call) -> int | None:
        return self._told(call, of_fd(call, call.args[0]), call.args[1])

    def _newfstatat(self, call: Call) -> int | None:
        return self._told(call, self._at(call, call.args[0], call.args[1], call.args[3]), call.args[2])

    def _told(self, call: Call, target: Target | None, address: int) -> int | None:
        override = self._override(target)
        if target is None or (override is None and self._account is None):
            return None
        answer = self._stats.stat(target)
        if override is None:
            if self._stats.owner(answer) != self._account:
                return None
            self._stats.patch(answer, 0, 0, None)
            return self._write(call, address, bytes(answer))
        self._stats.patch(answer, override.uid, override.gid, override.mode, override.kind, override.device)
        return self._write(call, address, bytes(answer))

    def _statx(self, call: Call) -> int | None:
        target = self._at(call, call.args[0], call.args[1], call.args[2])
        override = self._override(target)
        if target is None or override is None:
            return None
        answer = self._stats.statx(target, call.args[3] & _SAME, call.args[2] & _SAME)
        self._stats.patch_statx(answer, override.uid, override.gid, override.mode, override.kind, override.device)
        return self._write(call, call.args[4], bytes(answer))

    def _override(self, target: Target | None) -> Override | None:
        try:
            return None if target is None else self._ledger.find(target)
        except OSError:
            return None  # the kernel says why

    # ------------------------------------------------------------------------------------------ chown, chmod
    def _chown(self, call: Call) -> int:
        return self._own(call, self._path(call, AT_FDCWD, call.args[0]), *call.args[1:3])

    def _lchown(self, call: Call) -> int:
        return self._own(call, self._path(call, AT_FDCWD, call.args[0], follow=False), *call.args[1:3])

    def _fchown(self, call: Call) -> int:
        return self._own(call, of_fd(call, call.args[0]), *call.args[1:3])

    def _fchownat(self, call: Call) -> int:
        return self._own(call, self._at(call, call.args[0], call.args[1], call.args[4]), *call.args[2:4])

    def _own(self, call: Call, target: Target | None, uid: int, gid: int) -> int:
        if target is None:
            return 0  # of the kernel's own files, which are not the step's to keep
        status = os.stat(target.path, follow_symlinks=target.follow)
        old = self._ledger.find(target) or Override(0, 0, stat.S_IMODE(status.st_mode))
        uid, gid = (now if new & _SAME == _SAME else new & _SAME for new, now in ((uid, old.uid), (gid, old.gid)))
        ids = self._processes.ids(call.pid)
        if not ids.root and (ids.uids[3] != old.uid or uid != old.uid or not (gid == old.gid or ids.member(gid))):
            _fail(errno.EPERM)
        mode = old.mode
        if not stat.S_ISDIR(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            mode = without_set_ids(mode)
            if mode != old.mode and not old.kind:
                os.chmod(target.path, self._real(mode, status.st_mode))
        self._ledger.write(target, Override(uid, gid, mode, old.kind, old.device))
        return 0

    def _chmod(self, call: Call) -> int | None:
        return self._set_mode(self._path(call, AT_FDCWD, call.args[0]), call.args[1])

    def _fchmod(self, call: Call) -> int | None:
        return self._set_mode(of_fd(call, call.args[0]), call.args[1])

    def _fchmodat(self, call: Call) -> int | None:
        return self._set_mode(self._path(call, call.args[0], call.args[1]), call.args[2])

    def _fchmodat2(self, call: Call) -> int | None:
        return self._set_mode(self._at(call, call.args[0], call.args[1], call.args[3]), call.args[2])

    def _set_mode(self, target: Target | None, mode: int) -> int | None:
        override = self._override(target)
        if target is None or (override is None and self._account is None):
            return None
        mode &= 0o7777
        now = os.stat(target.path, follow_symlinks=target.follow).st_mode
        override = override or Override(0, 0, mode)
        if not override.kind:
            os.chmod(target.path, self._real(mode, now))
        self._ledger.write(target, Override(override.uid, override.gid, mode, override.kind, override.device))
        return 0

    def _real(self, mode: int, kind: int) -> int:
        """The permissions that a file has on disk."""
        if self._account is None:
            return mode
        return mode | (0o700 if stat.S_ISDIR(kind) else 0o600)

    def _rename(self, call: Call) -> None:
        self._keep(self._path(call, AT_FDCWD, call.args[0], follow=False))

    def _renameat(self, call: Call) -> None:
        self._keep(self._path(call, call.args[0], call.args[1], follow=False))

    _renameat2 = _renameat
    _link = _rename

    def _linkat(self, call: Call) -> None:
        if not call.args[4] & (AT_EMPTY_PATH | _AT_SYMLINK_FOLLOW):
            self._keep(self._path(call, call.args[0], call.args[1], follow=False))

    def _keep(self, target: Target | None) -> None:
        if target is not None:
            try:
                self._ledger.keep(target)
            except OSError:
                return  # the kernel says why

    # ------------------------------------------------------------------------------------------ ids
    def _set_ids(self, name: str, call: Call) -> int:
        ids = self._processes.ids(call.pid)
        self._processes.change(call.pid, credentials.change(ids, name, call.args[:3]))
        return 0

    def _set_file_system_id(self, name: str, call: Call) -> int:
        ids, before = credentials.file_system_id(self._processes.ids(call.pid), name, call.args[0])
        self._processes.change(call.pid, ids)
        return before

    def _setgroups(self, call: Call) -> int:
        ids = self._processes.ids(call.pid)
        count = call.args[0] & _SAME
        if not ids.root:
            _fail(errno.EPERM)
        if count > 1 << 13:
            _fail(errno.EINVAL)
        groups = struct.unpack(f"={count}I", self._memory.read(call.pid, call.args[1], 4 * count)) if count else ()
        self._processes.change(call.pid, Ids(ids.uids, ids.gids, tuple(groups)))
        return 0

    def _get_id(self, name: str, call: Call) -> int:
        ids = self._processes.ids(call.pid)
        return (ids.uids if name.endswith("uid") else ids.gids)[1 if name.startswith("gete") else 0]

    def _get_three(self, name: str, call: Call) -> int:
        ids = self._processes.ids(call.pid)
        for address, number in zip(call.args, (ids.uids if name.endswith("uid") else ids.gids)[:3], strict=False):
            self._write(call, address, struct.pack("=I", number))
        return 0

    def _getgroups(self, call: Call) -> int:
        groups = self._processes.ids(call.pid).groups
        room = call.args[0] & _SAME
        if room:
            if room < len(groups):
                _fail(errno.EINVAL)
            if groups:
                self._write(call, call.args[1], struct.pack(f"={len(groups)}I", *groups))
        return len(groups)

    def _capget(self, call: Call) -> int | None:
        """Root of a step has docker's capabilities, as programs see that look before they try (setcap)."""
        header, data = call.args[:2]
        version, pid = struct.unpack("=Ii", self._memory.read(call.pid, header, 8))
        if version != _CAPABILITY_VERSION_3 or pid or not data or not self._processes.ids(call.pid).root:
            return None
        return self._write(call, data, struct.pack("=III", _CAPABILITIES, _CAPABILITIES, 0) + bytes(12))

    def _capset(self, call: Call) -> int | None:
        """What root raises or drops of them changes nothing: to the kernel there are none."""
        if not self._processes.ids(call.pid).root:
            return None
        effective, permitted, _, *high = struct.unpack("=6I", self._memory.read(call.pid, call.args[1], 24))
        return _fail(errno.EPERM) if (effective | permitted) & ~_CAPABILITIES or any(high) else 0

    def _execve(self, call: Call) -> None:
        self._executed(call, self._path(call, AT_FDCWD, call.args[0]))

    def _execveat(self, call: Call) -> None:
        self._executed(call, self._at(call, call.args[0], call.args[1], call.args[4]))

    def _executed(self, call: Call, target: Target | None) -> None:
        """The ids of a program with set-id bits. If the execve fails after all the caller has them nevertheless: rare, and his
        own."""
        if target is None:
            return
        mode = os.stat(target.path, follow_symlinks=target.follow).st_mode
        if not stat.S_ISREG(mode) or not mode & (stat.S_ISUID | stat.S_ISGID) or not mode & 0o111:
            return
        override = self._ledger.find(target) or Override(0, 0, stat.S_IMODE(mode))
        ids = self._processes.ids(call.pid)
        uid = override.uid if mode & stat.S_ISUID else None
        gid = override.gid if mode & stat.S_ISGID and mode & stat.S_IXGRP else None
        self._processes.change(call.pid, credentials.executed(ids, uid, gid))

    # ------------------------------------------------------------------------------------------ the caller
    def _path(self, call: Call, dir_fd: int, address: int, *, follow: bool = True) -> Target | None:
        return self._names.find(call, dir_fd, address, follow=follow)

    def _at(self, call: Call, dir_fd: int, address: int, flags: int) -> Target | None:
        empty = bool(flags & AT_EMPTY_PATH)
        if empty and address == 0:
            return of_fd(call, dir_fd)
        return self._names.find(call, dir_fd, address, follow=not flags & AT_SYMLINK_NOFOLLOW, may_be_empty=empty)

    def _write(self, call: Call, address: int, data: bytes) -> int:
        return self._listener.hand(call, self._memory, address, data)


def _fail(code: int) -> int:
    raise OSError(code, os.strerror(code))
