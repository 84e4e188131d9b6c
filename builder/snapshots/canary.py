"""A small tree that has everything that snapshots rely on and that a careless copy loses: ROOT/snapshots/.canary-DRIVER.

CI keeps folders with plain ``tar``, which leaves out extended attributes; extracted by an ordinary user it gives everything to that
user and drops whiteouts; by root on another machine it maps owners by their names there. ``chown -R`` clears setuid bits and file
capabilities. After any of that a snapshot shows other files than were put into it: deleted ones are back. So the store looks at its
canary each time it is opened (some twenty system calls). What counts is what arrived, not which tool was used: ``cp -a`` and ``tar
--xattrs --xattrs-include='*' --numeric-owner`` bring everything over, whatever inodes and devices are then.

Holes are not in it: a file without them has the same content.

    .canary-DRIVER/tree/...     the tree
    .canary-DRIVER/owners       those that can't be kept at the files (builder.files.kept)
    .canary-DRIVER/portrait     what it looked like when it was made: a line for each property, ``NAME: VALUE``
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from builder.files.owners import SUFFIXES, current
from builder.files.trees import remove_tree
from builder.files.xattrs import read_xattr, set_xattrs
from builder.state import locks
from builder.state.disk import store_errors

PREFIX = ".canary-"
DRIVERS = tuple(name + suffix for name in ("overlay", "overlay-user", "native") for suffix in ("", *SUFFIXES))
FILES, OWNERS, MODES, LINKS = "some files", "owners", "permissions", "hard links"
"""Properties that others ask for by name: see ``lost``."""

_IDS = (33, 100, 999, 1000, 1001, 54321)
"""Ids that images have often and hosts give to other names; and one that has no name anywhere."""
_TABLE = "owners"
_TIME = 315532800
_ATTRIBUTE, _CAPABILITY = "user.pybuild", "security.capability"
_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")  # struct vfs_cap_data, version 2
_REFUSED = (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL)


def folder(snapshots: str, driver: str) -> str:
    return os.path.join(snapshots, PREFIX + driver)


def others(snapshots: str, driver: str) -> Iterator[str]:
    """Drivers but this one that have a canary here."""
    return (other for other in DRIVERS if other != driver and os.path.isdir(folder(snapshots, other)))


def remove(snapshots: str, driver: str) -> None:
    remove_tree(folder(snapshots, driver), ignore_errors=True)


def make(snapshots: str, driver: str, opaque: str | None) -> None:
    """Make it, or make it anew; nothing if another process was faster. What the file system, or the user's rights, can't hold is
    left out: snapshots do not have it either. ``opaque``: overlayfs's attribute of folders that hide what is below; None where
    there are no overlays."""
    place = folder(snapshots, driver)
    with store_errors("can't write to the state folder"):
        temp, fd = locks.new_folder(snapshots, ".new-")
        try:
            tree = os.path.join(temp, "tree")
            with current().saving(temp, os.path.join(temp, _TABLE)):
                _make_tree(tree, opaque)
            portrait = _portrait(tree, opaque)
            with open(os.path.join(temp, "portrait"), "w", encoding="utf-8") as file:
                file.write("".join(f"{name}: {value}\n" for name, value in portrait.items()))
            if os.path.lexists(place):
                os.rename(place, os.path.join(temp, "old"))
            os.rename(temp, place)
            temp = os.path.join(place, "old")
        except OSError as e:
            if e.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
                raise
        finally:
            remove_tree(temp, ignore_errors=True)
            os.close(fd)


def lost(snapshots: str, driver: str, opaque: str | None) -> list[str] | None:
    """The properties that were lost since it was made, in words; None if there is no canary."""
    place = folder(snapshots, driver)
    try:
        with open(os.path.join(place, "portrait"), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return None
    current().load(os.path.join(place, _TABLE))
    before = dict(line.partition(": ")[::2] for line in lines)
    try:
        now = _portrait(os.path.join(place, "tree"), opaque)
    except OSError:
        return [FILES]
    # A property of another version of this module says nothing.
    known = [name for name in now if name in before]
    return [name for name in known if now[name] != before[name]] if known else None


def _make_tree(tree: str, opaque: str | None) -> None:
    owners = current()
    os.mkdir(tree, 0o700)
    for name in ("folder", "opaque"):
        os.mkdir(f"{tree}/{name}", 0o700)
    for name in ("file", "program", *(f"owned-{number}" for number in _IDS)):
        os.close(os.open(f"{tree}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.link(f"{tree}/file", f"{tree}/linked")
    os.symlink("nowhere", f"{tree}/link")
    for number in _IDS:
        _try(lambda number=number: owners.chown(f"{tree}/owned-{number}", number, number))  # type: ignore[misc]
        owners.chmod(f"{tree}/owned-{number}", 0o600)
    _try(lambda: owners.chown(f"{tree}/link", _IDS[-1], _IDS[-1], follow_symlinks=False))
    owners.chmod(f"{tree}/folder", 0o1770)
    owners.chmod(f"{tree}/program", 0o6711)
    _try(lambda: set_xattrs(f"{tree}/program", {_CAPABILITY: _NET_RAW}))
    _try(lambda: os.setxattr(f"{tree}/file", _ATTRIBUTE, b"y"))
    if opaque is not None:
        _try(lambda: os.setxattr(f"{tree}/opaque", opaque, b"y"))
        _try(lambda: os.mknod(f"{tree}/whiteout", stat.S_IFCHR | 0o600, 0))
    for name in ("file", "folder"):
        os.utime(f"{tree}/{name}", (_TIME, _TIME))


def _try(act: Callable[[], object]) -> None:
    try:
        act()
    except OSError as e:
        if e.errno not in _REFUSED:
            raise


def _portrait(tree: str, opaque: str | None) -> dict[str, str]:
    """Every property as text. OSError where the tree is not even there."""
    status = {name: current().lstat(f"{tree}/{name}") for name in sorted(os.listdir(tree))}
    file, linked, program, folder_status = (status.get(name) for name in ("file", "linked", "program", "folder"))
    whiteout = status.get("whiteout")
    return {
        FILES: " ".join(f"{name}:{stat.S_IFMT(st.st_mode):o}:{_size(st)}" for name, st in status.items()),
        OWNERS: " ".join(f"{st.st_uid}:{st.st_gid}" for st in status.values()),
        MODES: " ".join(f"{stat.S_IMODE(st.st_mode):o}" for st in (file, program, folder_status) if st),
        LINKS: str(file is not None and linked is not None and file.st_ino == linked.st_ino),
        "times": " ".join(str(int(st.st_mtime)) for st in (file, folder_status) if st),
        "extended attributes": _attribute(f"{tree}/file", _ATTRIBUTE),
        "file capabilities": _attribute(f"{tree}/program", _CAPABILITY),
        "overlay marks": _attribute(f"{tree}/opaque", opaque) if opaque is not None else "",
        "whiteouts": "" if whiteout is None else f"{whiteout.st_mode:o} {whiteout.st_rdev}",
    }


def _size(status: os.stat_result) -> int:
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size


def _attribute(path: str, name: str) -> str:
    try:
        return read_xattr(path, name).hex()
    except FileNotFoundError:
        return ""
    except OSError as e:
        if e.errno not in _REFUSED:
            raise
        return ""
