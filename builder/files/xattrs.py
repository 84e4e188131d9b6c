"""Extended attributes of layer files: which may be set, and copying them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

CAPABILITY = "security.capability"

# Read by overlayfs, never to be planted by a layer: trusted.overlay.* and, mounted with userxattr, user.overlay.*.
_OVERLAY = ("trusted.", "user.overlay.")
_OVERLAYFS = ("trusted.overlay.", "user.overlay.")
_MISSING = (errno.ENOTSUP, errno.ENODATA)


def wanted(name: str) -> bool:
    """May a layer set this attribute? containerd leaves out trusted.*; user.overlay.* is the same thing when rootless."""
    return not name.startswith(_OVERLAY)


def set_xattrs(target: int | str, xattrs: Mapping[str, bytes]) -> None:
    """Set what a layer asks for on an open file or a path (links not followed). OSError.

    Left out as in containerd: attributes the file system can't hold, user.* on what is neither file nor folder.
    """
    for name, value in xattrs.items():
        if not wanted(name):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as e:
            if e.errno == errno.ENOTSUP:
                continue
            if e.errno == errno.EPERM and name.startswith("user."):
                mode = os.stat(target, follow_symlinks=isinstance(target, int)).st_mode
                if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                    continue
            # Labels of the host's policy (SELinux, IMA, EVM, Smack). A user namespace may not set them: the image is made without.
            if e.errno == errno.EPERM and name.startswith("security.") and name != CAPABILITY:
                continue
            raise


def set_what_can_be(target: int | str, xattrs: Mapping[str, bytes]) -> None:
    """Set what a copy or an archive brings on an open file, or on a path that is followed. What the file system or our rights don't
    allow is left out, as in BuildKit; so are overlayfs' own: nothing may hide what lies below the step's layer."""
    for name, value in xattrs.items():
        if wanted(name):
            try:
                os.setxattr(target, name, value)
            except OSError:
                continue


def read_xattr(path: str, name: str) -> bytes:
    """The value, b"" if there is none."""
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as e:
        if e.errno in _MISSING:
            return b""
        raise


def list_xattrs(path: str) -> list[str]:
    """The names that count as content: all but overlayfs's own."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as e:
        if e.errno in _MISSING:
            return []
        raise
    return [name for name in names if wanted(name)]


def read_xattrs(path: str) -> dict[str, bytes]:
    """All that count as content, in the order of their names. OSError."""
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(list_xattrs(path))}


def copy_xattrs(source: str, target: str, *, strict: bool = True) -> None:
    """Copy all attributes but overlayfs's own; what can't be set is left out as in ``set_xattrs``, and with ``strict`` False also
    what we have no right to set. OSError."""
    for name, value in read_xattrs(source).items():
        try:
            set_xattrs(target, {name: value})
        except PermissionError:
            if strict:
                raise


def readable_xattrs(file: int | str) -> list[tuple[str, bytes]]:
    """(name, value) of each attribute that can be read and is not overlayfs's own, sorted by name: what content digests count."""
    try:
        names = os.listxattr(file)
    except OSError as e:
        if e.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
            return []
        raise
    out: list[tuple[str, bytes]] = []
    for name in sorted(names):
        if name.startswith(_OVERLAYFS):
            continue
        try:
            out.append((name, os.getxattr(file, name)))
        except OSError:
            continue
    return out
