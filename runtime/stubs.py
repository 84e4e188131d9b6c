"""Mount points that a runtime makes in the rootfs must not end up in the layer: rule of BuildKit's executor/stubs.go.

What did not exist before the run and is still empty after it is removed, without ever following a symbolic link: the
build had the rootfs in its hands in between (CVE-2024-23652).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from runtime.errors import UnsafePathError
from runtime.linux.safepath import open_in_root, resolve_in_root


class Stubs:
    """Make it before the run, call ``clean`` after all processes of the sandbox are gone."""

    def __init__(self, rootfs: str, destinations: Iterable[str], *, recursive: bool = False) -> None:
        self._rootfs = rootfs
        self._paths: list[str] = []
        for destination in ("/etc/resolv.conf", "/etc/hosts", *destinations):
            try:
                path = resolve_in_root(rootfs, destination)
            except (OSError, UnsafePathError):
                continue
            while path and not _exists(os.path.join(rootfs, path)):
                self._paths.append(path)
                if not recursive:
                    break
                path = os.path.dirname(path)

    def clean(self) -> None:
        """Remove the stubs that are still empty; the times of their parent folders stay as they are."""
        root_fd = os.open(self._rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path in self._paths:
                try:
                    self._clean_one(root_fd, path)
                except (OSError, UnsafePathError):
                    # Not worth failing a step that succeeded; BuildKit warns and goes on.
                    continue
        finally:
            os.close(root_fd)

    def _clean_one(self, root_fd: int, path: str) -> None:
        folder, name = os.path.split(path)
        if resolve_in_root(self._rootfs, folder) != folder:
            return
        parent = open_in_root(root_fd, folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            before = os.fstat(parent)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(name, dir_fd=parent)  # ENOTEMPTY leaves it, and the times
            elif status.st_size == 0:
                os.unlink(name, dir_fd=parent)
            else:
                return
            os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(parent)


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return True
