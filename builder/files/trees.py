"""Trees as deep as a RUN step can make them: walked and removed without recursion, by folder descriptors.

A step can nest folders without end (``mkdir d && cd d`` in a loop), far beyond Python's recursion, the number of files that may be
open, and the 4095 bytes of a path. What must work on anything that was ever made goes through here: removing, and measuring. What
copies or packs a tree works by paths below a root's descriptor (``held``): a path longer than the kernel takes is ENAMETOOLONG
there, as nobody could open it in an image either.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from builder.values import dataclass
from runtime.linux import syscalls

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = 32
"""Folders of one trail that are held open: the deepest ones."""
_TRIES = 3
_SHOWN = 200


@contextmanager
def held(folder: str) -> Iterator[str]:
    """A short name of ``folder``, good while the block lasts: paths below it may be as long as the kernel takes."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield name_of(fd)
    finally:
        os.close(fd)


def name_of(folder: int) -> str:
    """A short name of an open folder. The dot makes it no link, so that lstat(2) and its like mean the folder."""
    return f"/proc/self/fd/{folder}/."


def shown(path: object) -> str:
    """A path for a message: without the name of the ``held`` folder it lies in, and cut where it is endless."""
    text = re.sub(r"^/proc/self/fd/\d+/\./?", "", str(path)) or "/"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


class Trail:
    """The way from a folder down to where we are. ``fd`` is the descriptor of the folder we are in.

    Only the deepest folders stay open. One further up is opened again through ``..`` when the way leads back to it; if that is
    another folder now (somebody moved it) the walk ends with ESTALE: it must not go on outside of the tree.
    """

    def __init__(self, root: int) -> None:
        """``root`` stays the caller's."""
        self._fds = [os.dup(root)]
        self._known: list[tuple[int, int]] = []  # of folders whose descriptor was closed, outermost first

    @property
    def fd(self) -> int:
        return self._fds[-1]

    @property
    def depth(self) -> int:
        return len(self._known) + len(self._fds) - 1

    def enter(self, name: str, open_folder: Callable[[str, int], int] | None = None) -> None:
        """Go down into the folder ``name``. OSError where that is none, or can't be read."""
        fd = os.open(name, _FOLDER, dir_fd=self.fd) if open_folder is None else open_folder(name, self.fd)
        self._fds.append(fd)
        if len(self._fds) > _OPEN:
            status = os.fstat(self._fds[0])
            self._known.append((status.st_dev, status.st_ino))
            os.close(self._fds.pop(0))

    def leave(self) -> None:
        """Go up again."""
        if len(self._fds) == 1:
            above = os.open("..", _FOLDER, dir_fd=self.fd)
            self._fds.insert(0, above)
            status = os.fstat(above)
            if (status.st_dev, status.st_ino) != self._known.pop():
                raise OSError(errno.ESTALE, "a folder was moved while it was being worked on")
        os.close(self._fds.pop())

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


# ------------------------------------------------------------------------------------------------------------- walking
@dataclass(slots=True)
class Folder:
    """A folder on a walk: ``path`` below the top ("" for the top itself), its descriptor until the next step, what is in it."""

    path: str
    fd: int
    folders: list[str]
    files: list[str]
    """All that are no folders, links too."""

    def below(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def walk(folder: str) -> Iterator[Folder]:
    """Every folder, the top first, one before those in it. Links are not followed. What is taken out of ``folders`` is not entered.
    OSError."""
    root = os.open(folder, _FOLDER)
    trail = Trail(root)
    os.close(root)
    try:
        here = _list("", trail.fd)
        todo: list[Folder] = []
        while True:
            yield here
            here.fd = -1
            todo.append(here)
            while not todo[-1].folders:
                todo.pop()
                if not todo:
                    return
                trail.leave()
            name = todo[-1].folders.pop()
            trail.enter(name)
            here = _list(todo[-1].below(name), trail.fd)
    finally:
        trail.close()


def _list(path: str, fd: int) -> Folder:
    here = Folder(path, fd, [], [])
    with os.scandir(fd) as entries:
        for entry in entries:
            (here.folders if entry.is_dir(follow_symlinks=False) else here.files).append(entry.name)
    return here


def disk_usage(folder: str) -> tuple[int, int]:
    """(bytes on disk, inodes) of ``folder`` and all below it; hard links count once. OSError."""
    size, inodes = 0, 0
    seen: set[tuple[int, int]] = set()
    for here in walk(folder):
        size += os.fstat(here.fd).st_blocks * 512
        inodes += 1
        for name in here.files:
            status = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            size += status.st_blocks * 512
            inodes += 1
    return size, inodes


# ------------------------------------------------------------------------------------------------------------ removing
def remove_tree(path: str, *, dir_fd: int | None = None, ignore_errors: bool = False) -> None:
    """Remove whatever is at ``path`` with all below it; links are not followed, mounts are not entered (EXDEV, EBUSY).

    Folders that forbid it are opened up first. What is gone already is fine, and what somebody adds meanwhile goes too. OSError;
    with ``ignore_errors`` what can't be removed stays.
    """
    folder, name = os.path.split(path.rstrip("/"))
    try:
        parent = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        for _ in range(_TRIES):
            errors: list[OSError] = []
            _Removal(parent, errors).run(name)
            if not errors:
                return
    finally:
        os.close(parent)
    if not ignore_errors:
        raise errors[0]


class _Removal:
    """Depth first: a folder's files when it is entered, then its folders, then itself. Errors don't stop it."""

    def __init__(self, parent: int, errors: list[OSError]) -> None:
        self._trail = Trail(parent)
        self._errors = errors

    def run(self, name: str) -> None:
        try:
            todo = [self._top(name)]  # for each folder on the way the folders in it that are left
            names: list[str] = []
            while True:
                if todo[-1]:
                    below = todo[-1].pop()
                    if self._try(below, lambda name, fd: self._trail.enter(name, _open)):
                        names.append(below)
                        todo.append(self._clear())
                    continue
                todo.pop()
                if not names:
                    return
                self._trail.leave()
                self._try(names.pop(), lambda name, fd: os.rmdir(name, dir_fd=fd))
        except OSError as e:
            self._errors.append(e)
        finally:
            self._trail.close()

    def _top(self, name: str) -> list[str]:
        if _is_folder(name, self._trail.fd):
            return [name]
        self._try(name, _unlink)
        return []

    def _clear(self) -> list[str]:
        """Unlink the files of the folder we are in; gives its folders."""
        folders: list[str] = []
        with os.scandir(self._trail.fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in found:
            if is_folder:
                folders.append(name)
            else:
                self._try(name, _unlink)
        return folders

    def _try(self, name: str, act: Callable[[str, int], object]) -> bool:
        try:
            act(name, self._trail.fd)
        except FileNotFoundError:
            return False
        except OSError as e:
            self._errors.append(OSError(e.errno, os.strerror(e.errno or 0), name))
            return False
        return True


def _unlink(name: str, fd: int) -> None:
    os.unlink(name, dir_fd=fd)


def _open(name: str, dir_fd: int) -> int:
    """A folder to be emptied, whose owner may not even have the right to read it. EXDEV for a mount."""
    try:
        fd = _open_here(name, dir_fd)
    except PermissionError:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            _open_up(handle)
        finally:
            os.close(handle)
        return _open_here(name, dir_fd)
    _open_up(fd)
    return fd


def _open_here(name: str, dir_fd: int) -> int:
    try:
        return syscalls.openat2(dir_fd, name, _FOLDER, 0, syscalls.RESOLVE_NO_XDEV)
    except OSError as e:
        if e.errno != errno.ENOSYS:  # gVisor, old kernels
            raise
        return os.open(name, _FOLDER, dir_fd=dir_fd)


def _open_up(folder: int) -> None:
    """Let the owner do everything in the open folder."""
    mode = stat.S_IMODE(os.stat(folder).st_mode)
    if mode & 0o700 != 0o700:
        try:
            os.chmod(f"/proc/self/fd/{folder}", mode | 0o700)
        except PermissionError:
            pass  # root in a user namespace, or somebody else's: what follows tells


def _is_folder(name: str, dir_fd: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
