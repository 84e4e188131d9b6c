"""Making the places in a rootfs that things are mounted on, links resolved inside.

All runtimes get them ready-made: each has its own ideas of modes for what it creates, and some fail on, or are led astray
by, links (crun on a dangling one, bubblewrap on an absolute one).
"""

from __future__ import annotations

import os

from runtime.linux.safepath import open_in_root, resolve_in_root


def make(root: str, dest: str, *, is_file: bool, mode: int = 0o755) -> int:
    """O_PATH handle of ``dest`` inside ``root``; missing folders (0755) and the empty file itself are made, as runc does.

    ``mode`` is for ``dest`` alone, if it has to be made: runc up to 1.1 gives a tmpfs the mode of what it covers.
    A chain of links that ends at nothing makes its last target. OSError, or UnsafePathError for a loop of links.
    """
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return make_at(root_fd, dest, is_file=is_file, mode=mode)
    finally:
        os.close(root_fd)


def make_at(root_fd: int, dest: str, *, is_file: bool, mode: int = 0o755) -> int:
    """``make`` in an open root."""
    try:
        return open_in_root(root_fd, dest, os.O_PATH)
    except FileNotFoundError:
        return _make(root_fd, resolve_in_root(f"/proc/self/fd/{root_fd}", dest), is_file=is_file, mode=mode)


def _make(root_fd: int, path: str, *, is_file: bool, mode: int) -> int:
    """``path`` holds no links. From the root down, whatever is there already stays as it is."""
    folder, name = os.path.split(path)
    parent = os.open(".", _FOLDER, dir_fd=root_fd)
    try:
        for part in folder.split("/") if folder else ():
            try:
                below = os.open(part, _FOLDER, dir_fd=parent)
            except FileNotFoundError:
                _make_folder(part, parent, 0o755)
                below = os.open(part, _FOLDER, dir_fd=parent)
            os.close(parent)
            parent = below
        if is_file:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=parent)
            os.fchmod(fd, mode)
            os.close(fd)
        else:
            _make_folder(name, parent, mode)
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _make_folder(name: str, parent: int, mode: int) -> None:
    os.mkdir(name, mode, dir_fd=parent)
    # Whatever the umask of the process is: layers must not depend on it.
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    os.fchmod(fd, mode)
    os.close(fd)
