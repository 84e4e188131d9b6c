"""Extended attributes of layer files: which may be set, and copying them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.files.owners import REAL, current

if TYPE_CHECKING:
    from builder.files.owners import Owners

CAPABILITY = "security.capability"

# Read by overlayfs, never to be planted by a layer: trusted.overlay.* and, mounted with userxattr, user.overlay.*.
_OVERLAY = ("trusted.", "user.overlay.")
_OVERLAYFS = ("trusted.overlay.", "user.overlay.")
_MISSING = (errno.ENOTSUP, errno.ENODATA)


def wanted(name: str) -> bool:
    """May a layer set this attribute? containerd leaves out trusted.*; user.overlay.* is the same thing when rootless, and those by
    which other attributes are kept are nobody's to set either."""
    return not name.startswith(_OVERLAY) and not any(name == kept for _, kept in current().instead)


def _kept_as(name: str, owners: Owners) -> str:
    for plain, kept in owners.instead:
        if name == plain:
            return kept
    return name


def _shown(names: list[str], owners: Owners) -> list[str]:
    """The names that a file has of those that are in the tree."""
    if not owners.instead:
        return names
    ours = {one for pair in owners.instead for one in pair}
    return [*(name for name in names if name not in ours), *(plain for plain, kept in owners.instead if kept in names)]


def set_xattrs(target: int | str, xattrs: Mapping[str, bytes], owners: Owners | None = None) -> None:
    """Set what a layer asks for on an open file or a path (links not followed). OSError.

    Left out as in containerd: attributes the file system can't hold, user.* on what is neither file nor folder. ``owners``: of
    the target, those of the store if there are none.
    """
    owners = current() if owners is None else owners
    for name, value in xattrs.items():
        if not wanted(name):
            continue
        kept = _kept_as(name, owners)
        try:
            if isinstance(target, int):
                os.setxattr(target, kept, value)
            else:
                os.setxattr(target, kept, value, follow_symlinks=False)
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
                os.setxattr(target, _kept_as(name, current()), value)
            except OSError:
                continue


def read_xattr(path: str, name: str) -> bytes:
    """The value, b"" if there is none."""
    try:
        return os.getxattr(path, _kept_as(name, current()), follow_symlinks=False)
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
    return list(filter(wanted, _shown(names, current())))


def read_xattrs(path: str) -> dict[str, bytes]:
    """All that count as content, in the order of their names. OSError."""
    owners = current()
    return {name: os.getxattr(path, _kept_as(name, owners), follow_symlinks=False) for name in sorted(list_xattrs(path))}


def copy_xattrs(source: str, target: str, *, strict: bool = True) -> None:
    """Copy all attributes but overlayfs's own from a file of the store; what can't be set is left out as in ``set_xattrs``. With
    ``strict`` False the target is none of the store's, and what we have no right to set is left out, too. OSError."""
    for name, value in read_xattrs(source).items():
        try:
            set_xattrs(target, {name: value}, None if strict else REAL)
        except PermissionError:
            if strict:
                raise


def readable_xattrs(file: int | str, owners: Owners = REAL) -> list[tuple[str, bytes]]:
    """(name, value) of each attribute that can be read and is not overlayfs's own, sorted by name: what content digests count.
    ``owners``: of the file."""
    try:
        names = os.listxattr(file)
    except OSError as e:
        if e.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
            return []
        raise
    out: list[tuple[str, bytes]] = []
    for name in sorted(_shown(names, owners)):
        if name.startswith(_OVERLAYFS):
            continue
        try:
            out.append((name, os.getxattr(file, _kept_as(name, owners))))
        except OSError:
            continue
    return out
