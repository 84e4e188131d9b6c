"""Copies of files for the time of a step, where nothing can be mounted."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from runtime.linux import overrides, syscalls

if TYPE_CHECKING:
    from runtime.linux.overrides import Table


class Copying:
    """One copy: owners, modes, times, extended attributes and hard links as they are; what can't be set of attributes is left out.

    ``table``: where owners are kept beside the files, those of links, FIFOs and sockets; the copies get theirs there, too.
    """

    def __init__(self, table: Table | None = None) -> None:
        self._table = table
        self._first: dict[tuple[int, int], str] = {}

    def top(self, source: str, dest: str) -> None:
        """A file or folder, links in the last place followed. OSError."""
        status = os.stat(source)
        if stat.S_ISDIR(status.st_mode):
            self._folder(source, dest, status)
        else:
            self._file(source, dest, status)

    def one(self, source: str, dest: str) -> None:
        """Whatever ``source`` is, a link too. OSError."""
        status = os.lstat(source)
        if stat.S_ISDIR(status.st_mode):
            self._folder(source, dest, status)
        else:
            self._file(source, dest, status)

    def entries(self, source: str, dest: str) -> None:
        """A tree without its root. OSError."""
        waiting = [(source, dest)]
        folders: list[tuple[str, str, os.stat_result]] = []
        while waiting:
            one, other = waiting.pop()
            for name in os.listdir(one):
                path, made = f"{one}/{name}", f"{other}/{name}"
                status = os.lstat(path)
                if stat.S_ISDIR(status.st_mode):
                    os.mkdir(made, 0o700)
                    waiting.append((path, made))
                    folders.append((path, made, status))
                elif (first := self._known(status, made)) != made:
                    os.link(first, made, follow_symlinks=False)
                else:
                    self._file(path, made, status)
        for path, made, status in reversed(folders):
            _attributes(path, made)
            like(made, status)

    def _known(self, status: os.stat_result, path: str) -> str:
        return path if status.st_nlink < 2 else self._first.setdefault((status.st_dev, status.st_ino), path)

    def _folder(self, source: str, dest: str, status: os.stat_result) -> None:
        os.mkdir(dest, 0o700)
        self.entries(source, dest)
        _attributes(source, dest)
        like(dest, status)

    def _file(self, source: str, dest: str, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), dest)
        elif stat.S_ISREG(status.st_mode):
            with open(source, "rb") as file, open(dest, "xb") as made:
                try:
                    syscalls.reflink(file.fileno(), made.fileno())
                except OSError:
                    shutil.copyfileobj(file, made, 1 << 20)
            _attributes(source, dest)
        else:
            os.mknod(dest, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)
        if self._table is not None and not stat.S_ISREG(status.st_mode):
            owner = self._table.find(*overrides.inode(source, follow=False))
            if owner is not None:
                self._table.record(*overrides.inode(dest, follow=False), *owner)
        like(dest, status)


def _attributes(source: str, dest: str) -> None:
    for name in os.listxattr(source):
        try:
            os.setxattr(dest, name, os.getxattr(source, name))
        except OSError:
            continue


def like(path: str, status: os.stat_result) -> None:
    """Owner, mode and times."""
    follow = not stat.S_ISLNK(status.st_mode)
    now = os.stat(path, follow_symlinks=follow)
    if (now.st_uid, now.st_gid) != (status.st_uid, status.st_gid):
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=follow)
    if follow:
        os.chmod(path, stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=follow)
