"""Whiteouts and opaque folders as overlayfs wants them in the folder of a layer."""

from __future__ import annotations

import os
import stat

from builder.files.types import Unpacked
from builder.state.disk import store_error


def write_marks(folder: str, unpacked: Unpacked, attribute: str) -> None:
    """Whiteouts and opaque folders as overlayfs wants them. ``attribute``: trusted.overlay.opaque or user.overlay.opaque."""
    times: dict[str, int] = {}
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in sorted(unpacked.whiteouts - unpacked.opaques):
            parent = os.path.dirname(path)
            if parent not in times:
                times[parent] = os.stat(parent or ".", dir_fd=root, follow_symlinks=False).st_mtime_ns
            try:
                os.mknod(path, stat.S_IFCHR | 0o600, 0, dir_fd=root)
            except FileExistsError:
                pass  # the layer hides what is below by an entry of its own
        for path, mtime in times.items():
            if path:
                os.utime(path, ns=(mtime, mtime), dir_fd=root, follow_symlinks=False)
        for path in unpacked.opaques:
            os.setxattr(f"/proc/self/fd/{root}/{path}", attribute, b"y", follow_symlinks=False)
    except OSError as e:
        raise store_error("can't make whiteouts in the snapshot", e) from e
    finally:
        os.close(root)
