"""The root that is written to: names resolved inside it, everything opened and made below its descriptor."""

from __future__ import annotations

import errno
import os
import stat

from builder.files.owners import current
from builder.files.trees import name_of, remove_tree
from builder.ops.file.errors import from_os
from runtime.linux.safepath import open_in_root, resolve_in_root

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Destination:
    """A root folder. Paths without leading slash are resolved ones: they hold no links; "" is the root."""

    def __init__(self, folder: str) -> None:
        self.fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resolve(self, path: str, *, follow_last: bool = True) -> str:
        """Links resolved as if the folder were ``/``; parts that do not exist stay as they are. FileActionError."""
        folder = name_of(self.fd)
        try:
            return resolve_in_root(folder, path, follow_last=follow_last)
        except OSError as e:
            raise from_os(e, folder, op="lstat") from e

    def stat(self, path: str) -> os.stat_result | None:
        """lstat of a resolved path; None if there is nothing. NotADirectoryError where something above is a file."""
        try:
            fd = open_in_root(self.fd, path, os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            return current().stat(fd)
        finally:
            os.close(fd)

    def open_folder(self, path: str) -> int:
        """A descriptor of the folder at a resolved path."""
        return open_in_root(self.fd, path, _FOLDER)

    def make_folders(self, path: str, mode: int, owner: tuple[int, int] | None, time_ns: int | None) -> list[str]:
        """``mkdir -p`` of a resolved path; what is there stays as it is. Gives the paths that were made, topmost first.

        FileActionError where something other than a folder is in the way, or a folder can't be made.
        """
        owners = current()
        made: list[str] = []
        fd = os.open(".", _FOLDER, dir_fd=self.fd)
        try:
            at = ""
            for name in path.split("/") if path else ():
                at = f"{at}/{name}" if at else name
                try:
                    new = _made(name, fd)
                    if new:
                        owners.settle_group(name, fd)
                    below = os.open(name, _FOLDER, dir_fd=fd)
                except OSError as e:
                    # A link in the way is ELOOP for O_NOFOLLOW, to people it is no folder.
                    error = NotADirectoryError(errno.ENOTDIR, "not a directory") if e.errno == errno.ELOOP else e
                    raise from_os(error, op="mkdir", path="/" + at) from e
                os.close(fd)
                fd = below
                if new:
                    set_bits(fd, mode)
                    if owner is not None:
                        owners.chown(fd, *owner)
                    if time_ns is not None:
                        os.utime(fd, ns=(time_ns, time_ns))
                    made.append(at)
        finally:
            os.close(fd)
        return made

    def set_times(self, paths: list[str], time_ns: int | None) -> None:
        """Folders that were made on the way get their time again, deepest first: what was put into them moved it."""
        if time_ns is None:
            return
        for path in reversed(paths):
            fd = self.open_folder(path)
            try:
                os.utime(fd, ns=(time_ns, time_ns))
            finally:
                os.close(fd)


def set_bits(fd: int, mode: int) -> None:
    """The permissions of a folder that was just made. Below a set-group-id folder it has that bit, and the group: mkdir(2) gives
    it, and BuildKit (which makes folders with their mode at once) leaves it."""
    current().chmod(fd, mode & 0o777 | os.fstat(fd).st_mode & stat.S_ISGID)


def _made(name: str, folder: int) -> bool:
    """mkdir(2); False for a name that is there."""
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def lstat_at(folder: int, name: str) -> os.stat_result | None:
    """lstat of a name in an open folder, None if it is not there."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove_at(folder: int, name: str) -> None:
    """Remove a name with everything below it, following no link. Nothing there is fine."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        remove_tree(name, dir_fd=folder)
