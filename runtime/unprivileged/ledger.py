"""Who owns a file, by its override where it has one; and keeping that."""

from __future__ import annotations

import errno
import os
import stat
import time

from runtime.linux import syscalls
from runtime.linux.overrides import NAME, Override, Table
from runtime.unprivileged.target import Stats, Target, parent

_OVERLAY = 0x794C_7630
_NO_ATTRIBUTES = (errno.EPERM, errno.EOPNOTSUPP)


class Ledger:
    """Overrides of files by the attribute, by ``table`` for those that can have none.

    ``rightless``: permissions hold for us, too; what has an override is given those that its owner on disk needs.
    """

    def __init__(self, table: Table, stats: Stats, *, rightless: bool = False) -> None:
        self.rightless = rightless
        self._begun = time.time_ns()
        self._table = table
        self._stats = stats

    def find(self, target: Target) -> Override | None:
        """The override of a file, None if it is what the kernel says. OSError if there is no file."""
        try:
            return Override.decode(os.getxattr(target.path, NAME, follow_symlinks=target.follow))
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EACCES, *_NO_ATTRIBUTES):
                raise
        if not len(self._table):
            return None
        status = os.stat(target.path, follow_symlinks=target.follow)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return None
        owner = self._table.find(*self._stats.inode(target))
        return None if owner is None else Override(*owner, stat.S_IMODE(status.st_mode))

    def write(self, target: Target, override: Override) -> None:
        """Keep it; one that says what the kernel says is taken away. OSError."""
        status = os.stat(target.path, follow_symlinks=target.follow)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            self._record(target, override, status)
            return
        mode = stat.S_IMODE(status.st_mode)
        needed = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
        if self.rightless and mode & needed != needed:
            mode |= needed
            os.chmod(target.path, mode)
        if (override.uid, override.gid, override.kind) == (0, 0, 0) and override.mode == mode:
            try:
                os.removexattr(target.path, NAME, follow_symlinks=target.follow)
            except OSError as error:
                # Closed to us: it has none, or we had given it the permissions.
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES):
                    raise
            return
        try:
            os.setxattr(target.path, NAME, override.encode(), follow_symlinks=target.follow)
        except OSError as error:
            # A tmpfs before Linux 6.6, or whatever else is mounted there: what no layer has, the table has room for.
            if error.errno != errno.EOPNOTSUPP:
                raise

    def _record(self, target: Target, override: Override, status: os.stat_result) -> None:
        inode = self._stats.inode(target)
        if (self._table.find(*inode) or (0, 0)) == (override.uid, override.gid):
            return
        if self._lower(target, inode):
            _renew(target.path, status)
        self._table.record(*self._stats.inode(target), override.uid, override.gid)

    def keep(self, target: Target) -> None:
        """A file gets a second name, or another one: its owner is kept where its number is not."""
        status = os.stat(target.path, follow_symlinks=target.follow)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return
        inode = self._stats.inode(target)
        owner = self._table.find(*inode)
        if owner is not None and self._lower(target, inode):
            _renew(target.path, status)
            self._table.record(*self._stats.inode(target), *owner)

    def _lower(self, target: Target, inode: tuple[int, int]) -> bool:
        """May it be of a layer below? That is not ours to change, and copied up it is another inode in the layer that is made."""
        return inode[1] < self._begun and syscalls.file_system(parent(target.path)) == _OVERLAY

    def record_new(self, target: Target, uid: int, gid: int) -> None:
        """The owner of a link, FIFO or socket that was made just now."""
        self._table.record(*self._stats.inode(target), uid, gid)


def _renew(path: bytes, status: os.stat_result) -> None:
    """A link or FIFO of a lower layer keeps its number when an overlay copies it up: the one that the layer will have is another.
    One that is made anew has its own. (Nobody can make a socket that is as another one was: it stays.)"""
    folder = parent(path)
    above = os.stat(folder)
    temporary = path + b".renewed"
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(path), temporary)
    elif stat.S_ISFIFO(status.st_mode):
        os.mkfifo(temporary)
        os.chmod(temporary, stat.S_IMODE(status.st_mode))
    else:
        return
    try:
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    os.utime(folder, ns=(above.st_atime_ns, above.st_mtime_ns))


