"""Owners kept beside the files, where the kernel knows one id: as root sees them (runtime.linux.overrides has the form).

    owner, mode, kind    of a file or folder: the extended attribute ``user.containers.override_stat``. Without it a file is root's
                         and has the mode that is on disk.
    a device node        an empty regular file with the attribute
    a link, FIFO, socket bears no attribute: a line of a table beside the snapshot, by inode number and time of birth
    a file capability    where it can't be set: the attribute ``user.pybuild.capability``

A snapshot's table is read when its folder is asked for, and all that was read is one dict: numbers are those of one file system,
and an inode that took a dead one's number was born at another time. It is written when a snapshot was made or written to, by
looking for its links, and only if one of another owner than root was made meanwhile.

The attribute can't be forged: one of that name that a layer, an archive, a context or a step brings is an attribute like others, as
it is to root, and is kept under another name: ``user.pybuild.override_stat``. (What bears that name by itself, or that of the
capability, is left out.)
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from builder.files.owners import SUFFIXES
from builder.files.trees import walk
from runtime.linux import overrides
from runtime.linux.overrides import CAPABILITY, KEPT_AS, KEPT_AS_ACCOUNT, NAME, Override

if TYPE_CHECKING:
    from collections.abc import Iterator

_NONE = (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES)
_SAME = (1 << 32) - 1


class Kept:
    """See ``Owners``. ``rightless``: not even root of a user namespace. Permissions hold for us, then: on disk files have those
    that their owner needs to read and write them, and file capabilities can't be set."""

    def __init__(self, *, rightless: bool) -> None:
        self._rightless = rightless
        self.instead = KEPT_AS_ACCOUNT if rightless else KEPT_AS
        self.suffix = SUFFIXES[rightless]
        self._links: dict[tuple[int, int], tuple[int, int]] = {}
        self._loaded: dict[str, tuple[int, int]] = {}
        self._count = itertools.count(1)
        self._records = 0  # a number that grows with each; no lock, since a forked child would wait for another's for ever
        overrides.inode("/", follow=True)  # loads the library, which a forked child must not

    # ------------------------------------------------------------------------------------------ telling
    def stat(self, path: int | str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        status = os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        return self._shown(_name(path, dir_fd), status, follow=follow_symlinks)

    def lstat(self, path: str) -> os.stat_result:
        return self._shown(path, os.lstat(path), follow=False)

    def listed(self, entry: os.DirEntry[str], folder: int | None = None) -> os.stat_result:
        status = entry.stat(follow_symlinks=False)
        return self._shown(entry.path if folder is None else _name(entry.name, folder), status, follow=False)

    def _shown(self, name: str, status: os.stat_result, *, follow: bool) -> os.stat_result:
        override = self._find(name, status, follow=follow)
        if override is None:
            return _changed(status, 0, 0, status.st_mode, status.st_rdev)
        kind = override.kind or stat.S_IFMT(status.st_mode)
        return _changed(status, override.uid, override.gid, kind | override.mode, override.device or status.st_rdev)

    def _find(self, name: str, status: os.stat_result, *, follow: bool) -> Override | None:
        if _bears(status):
            try:
                return Override.decode(os.getxattr(name, NAME, follow_symlinks=follow))
            except OSError as e:
                if e.errno in _NONE:
                    return None
                raise
        owner = self._links.get(overrides.inode(name, follow=follow)) if self._links else None
        return None if owner is None else Override(*owner, stat.S_IMODE(status.st_mode))

    # ------------------------------------------------------------------------------------------ setting
    def chown(
        self, path: int | str, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        name, follow = _name(path, dir_fd), follow_symlinks
        status = os.stat(name, follow_symlinks=follow)
        old = self._find(name, status, follow=follow)
        now = old or Override(0, 0, stat.S_IMODE(status.st_mode))
        uid, gid = _id(uid, now.uid), _id(gid, now.gid)
        if not _bears(status):
            if old is not None or uid or gid:
                self._record(overrides.inode(name, follow=follow), (uid, gid))
            return
        mode = now.mode
        if not stat.S_ISDIR(status.st_mode):
            mode = overrides.without_set_ids(mode)
            self._drop_capability(name)
        self._put(name, status, old, Override(uid, gid, mode, now.kind, now.device))

    def chmod(self, path: int | str, mode: int, *, dir_fd: int | None = None) -> None:
        name = _name(path, dir_fd)
        status = os.stat(name)
        if not _bears(status):
            os.chmod(name, mode)
            return
        old = self._find(name, status, follow=True)
        now = old or Override(0, 0, 0)
        self._put(name, status, old, Override(now.uid, now.gid, mode & 0o7777, now.kind, now.device))

    def mknod(self, path: str, mode: int, device: int = 0, *, dir_fd: int | None = None) -> None:
        kind = stat.S_IFMT(mode)
        if kind not in (stat.S_IFCHR, stat.S_IFBLK):
            os.mknod(path, mode, device, dir_fd=dir_fd)
            return
        os.mknod(path, stat.S_IFREG | stat.S_IMODE(mode), dir_fd=dir_fd)
        status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)  # there is a umask
        self._put(_name(path, dir_fd), status, None, Override(0, 0, stat.S_IMODE(status.st_mode), kind, device))

    def settle_group(self, name: str, folder: int) -> None:
        above = self.stat(folder)
        if above.st_mode & stat.S_ISGID and above.st_gid:
            # Nothing was written to it yet: what chown takes away is not there.
            self.chown(name, -1, above.st_gid, dir_fd=folder, follow_symlinks=False)

    def _put(self, name: str, status: os.stat_result, old: Override | None, new: Override) -> None:
        mode = stat.S_IMODE(status.st_mode)
        bits = mode if new.kind else new.mode
        if self._rightless:
            bits |= 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
        if bits != mode:
            os.chmod(name, bits)
        if (new.uid, new.gid, new.kind, new.mode) != (0, 0, 0, bits):
            if new != old:
                os.setxattr(name, NAME, new.encode())
        elif old is not None:
            os.removexattr(name, NAME)

    def _drop_capability(self, name: str) -> None:
        """As chown(2) does."""
        try:
            os.removexattr(name, dict(self.instead).get(CAPABILITY, CAPABILITY))
        except OSError as e:
            if e.errno not in _NONE:
                raise

    def settle(self, folder: str) -> None:
        """Open to us what a step has made in ``folder``, or as a file of that name, without the permissions that we need; it shows
        those it had. OSError."""
        if not self._rightless:
            return
        status = os.stat(folder)
        self._open_up(folder, status)
        for here in walk(f"{folder}/.") if stat.S_ISDIR(status.st_mode) else ():
            for name in (*here.folders, *here.files):
                self._open_up(_name(name, here.fd), os.stat(name, dir_fd=here.fd, follow_symlinks=False))

    def _open_up(self, name: str, status: os.stat_result) -> None:
        needed = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
        if _bears(status) and status.st_mode & needed != needed:
            self.chmod(name, stat.S_IMODE(status.st_mode))

    # ------------------------------------------------------------------------------------------ tables
    def load(self, table: str) -> None:
        try:
            status = os.stat(table)
        except FileNotFoundError:
            return
        stamp = status.st_ino, status.st_mtime_ns
        if self._loaded.get(table) != stamp:
            self._links.update(overrides.read_table(table))
            self._loaded[table] = stamp

    def learn(self, found: dict[tuple[int, int], tuple[int, int]]) -> None:
        """Owners that were kept by others: a step's own table."""
        if found.items() - self._links.items():
            self._links.update(found)
            self._records = next(self._count)

    def known(self) -> bytes:
        """All that is known, in the form of a table: what a step begins with."""
        return overrides.lines(dict(self._links))

    def _record(self, inode: tuple[int, int], owner: tuple[int, int]) -> None:
        self._links[inode] = owner
        self._records = next(self._count)

    @contextmanager
    def saving(self, folder: str, table: str) -> Iterator[None]:
        before = self._records
        try:
            yield
        finally:
            if self._records != before:
                self._save(folder, table)

    def _save(self, folder: str, table: str) -> None:
        found: dict[tuple[int, int], tuple[int, int]] = {}
        for here in walk(folder):
            for name in here.files:
                if _bears(os.stat(name, dir_fd=here.fd, follow_symlinks=False)):
                    continue
                inode = overrides.inode(_name(name, here.fd), follow=False)
                owner = self._links.get(inode)
                if owner is not None and owner != (0, 0):
                    found[inode] = owner
        if found or os.path.lexists(table):
            temporary = f"{table}.{os.urandom(6).hex()}"
            with open(temporary, "wb") as file:
                file.write(overrides.lines(found))
            os.rename(temporary, table)


def _name(path: int | str, dir_fd: int | None) -> str:
    """A path for those calls that take no folder and no descriptor of O_PATH. That of an open link is the link itself."""
    if isinstance(path, int):
        return f"/proc/self/fd/{path}"
    return path if dir_fd is None else f"/proc/self/fd/{dir_fd}/{path}"


def _bears(status: os.stat_result) -> bool:
    """Can it have attributes of user.*?"""
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _changed(status: os.stat_result, uid: int, gid: int, mode: int, device: int) -> os.stat_result:
    if (status.st_uid, status.st_gid, status.st_mode, status.st_rdev) == (uid, gid, mode, device):
        return status
    numbers, more = cast("tuple[tuple[int, ...], dict[str, int | float]]", status.__reduce__()[1])
    return os.stat_result((mode, *numbers[1:4], uid, gid, *numbers[6:]), {**more, "st_rdev": device})


def _id(number: int, now: int) -> int:
    """As chown(2) takes it. OverflowError."""
    if not -1 <= number <= _SAME:
        raise OverflowError("no such id")
    return now if number in (-1, _SAME) else number
