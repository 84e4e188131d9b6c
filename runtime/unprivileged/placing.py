"""Mounts of a step that can't mount: what should be seen at a place is put there, and taken away again.

What the place held is moved beside the root file system meanwhile, and comes back as it was, with the times of its folder: the
layer has no trace. A step that is killed with its builder leaves it in a snapshot that nobody wants any more.

    read-only folder   a copy (sharing blocks where the file system can)
    writable folder    its entries are moved in, and what is there in the end is moved back. What can't be moved (another file
                       system; folders that are a lower layer's of an overlay that the state folder lies on) is copied, both ways
    tmpfs              an empty folder
    /dev               device nodes made on the spot
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from runtime import mountpoints
from runtime.errors import RuntimeFault
from runtime.linux.removal import remove_tree
from runtime.linux.safepath import open_in_root, resolve_in_root
from runtime.oci import DEVICES
from runtime.unprivileged.copies import Copying, like

if TYPE_CHECKING:
    from runtime.linux.overrides import Table

_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


class Places:
    """Of one step. ``close`` undoes all, the last first."""

    def __init__(self, rootfs: str) -> None:
        self._root = rootfs
        self._stack = ExitStack()
        self._aside = tempfile.mkdtemp(prefix="aside-", dir=os.path.dirname(rootfs))
        self._stack.callback(remove_tree, self._aside)
        self._count = 0
        self.table: Table | None = None  # of the owners that no attribute can keep, where they are kept beside the files

    def close(self) -> None:
        """Give every place its own back. OSError."""
        self._stack.close()

    def file(self, dest: str, data: bytes, mode: int = 0o644) -> None:
        """A file of ``data``. OSError, RuntimeFault."""
        parent, name = self._clear(dest, is_file=True)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, mode)

    def beside(self, data: bytes | None = None) -> str:
        """The path of a new file of ``data``, or of a new folder, in no place of the root file system. OSError."""
        self._count += 1
        path = f"{self._aside}/{self._count}"
        if data is None:
            os.mkdir(path)
            os.chmod(path, 0o1777)
        else:
            with open(path, "xb") as file:
                file.write(data)
            os.chmod(path, 0o644)
        return path

    def copy_beside(self, source: str) -> str:
        """The path of a copy of a file or folder, in no place of the root file system. OSError.

        ``source`` may be the name of an open file (/proc/PID/fd/N): what is copied is the file, no link to it."""
        self._count += 1
        path = f"{self._aside}/{self._count}"
        Copying(self.table).top(source, path)
        return path

    def link(self, dest: str, source: str) -> None:
        """Another name of a socket. OSError, EXDEV on another file system."""
        parent, name = self._clear(dest, is_file=True)
        os.link(source, name, dst_dir_fd=parent)

    def folder(self, dest: str, mode: int) -> str:
        """An empty folder; gives its path. OSError, RuntimeFault."""
        parent, name = self._clear(dest, is_file=False)
        os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        self._stack.callback(os.close, fd)
        os.fchmod(fd, mode)
        return f"/proc/self/fd/{fd}"

    def copy(self, dest: str, source: str) -> None:
        """A copy of a folder, thrown away. OSError, RuntimeFault."""
        status = os.stat(source)
        folder = self.folder(dest, stat.S_IMODE(status.st_mode))
        Copying().entries(source, folder)
        like(folder, status)

    def move(self, dest: str, source: str) -> None:
        """The entries of a folder, until ``close``. OSError, RuntimeFault."""
        status = os.stat(source)
        folder = self.folder(dest, stat.S_IMODE(status.st_mode))
        like(folder, status)

        copied: set[str] = set()

        def back() -> None:
            now = os.stat(folder)
            names = os.listdir(folder)
            for name in names:
                _put_back(f"{folder}/{name}", f"{source}/{name}")
            for name in copied.difference(names):
                _remove(f"{source}/{name}")  # the step has deleted it
            like(source, now)
            os.chmod(source, stat.S_IMODE(now.st_mode))

        self._stack.callback(back)
        for name in os.listdir(source):
            if _put(f"{source}/{name}", f"{folder}/{name}"):
                copied.add(name)

    def devices(self, shm: str = "/dev/shm") -> frozenset[str]:
        """/dev with the harmless devices; gives the names of those that could not be made. OSError, RuntimeFault."""
        folder = self.folder("/dev", 0o755)
        refused = set()
        for name, (major, minor) in DEVICES.items():
            path = f"{folder}/{name}"
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
                os.chmod(path, 0o666)
                if name in ("null", "zero"):
                    os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))  # a file system may be mounted "nodev"
            except PermissionError:
                if os.path.lexists(path):
                    os.unlink(path)
                refused.add(name)
        for name in refused:
            os.close(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        for name, words in _LINKS.items():
            os.symlink(words, f"{folder}/{name}")
        os.mkdir(f"{folder}/{os.path.basename(shm)}")
        os.chmod(f"{folder}/{os.path.basename(shm)}", 0o1777)
        os.mkdir(f"{folder}/pts")
        return frozenset(refused)

    def _clear(self, dest: str, *, is_file: bool) -> tuple[int, str]:
        """(the folder of the place, open; the name in it), the place itself free. What is in the way comes back in the end."""
        os.close(mountpoints.make(self._root, dest, is_file=is_file))
        folder, name = os.path.split(resolve_in_root(self._root, dest))
        if not name:
            raise RuntimeFault(f"cannot put anything on {dest}")
        root_fd = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            parent = open_in_root(root_fd, folder, os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(root_fd)
        self._stack.callback(os.close, parent)
        self._count += 1
        kept = f"{self._aside}/{self._count}"
        times = os.fstat(parent)
        os.rename(name, kept, src_dir_fd=parent)

        def restore() -> None:
            trash = f"{kept}.placed"
            try:
                os.rename(name, trash, src_dir_fd=parent)  # removed with the folder beside
            except FileNotFoundError:
                pass
            os.rename(kept, name, dst_dir_fd=parent)
            os.utime(parent, ns=(times.st_atime_ns, times.st_mtime_ns))

        self._stack.callback(restore)
        return parent, name


def _put(source: str, dest: str) -> bool:
    """Move an entry; True if it had to be copied, and is there still. OSError."""
    try:
        os.rename(source, dest)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        Copying().one(source, dest)
        return True
    return False


def _put_back(made: str, kept: str) -> None:
    """Move an entry to where one of that name may be, from which it was copied. OSError."""
    if not os.path.lexists(kept):
        _put(made, kept)
        return
    new = f"{kept}.{os.urandom(6).hex()}"
    _put(made, new)
    if not (_is_folder(kept) or _is_folder(new)):
        os.rename(new, kept)
        return
    _remove(kept)
    os.rename(new, kept)


def _remove(path: str) -> None:
    if _is_folder(path):
        remove_tree(path)
    else:
        os.unlink(path)


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)
