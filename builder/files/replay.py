"""Doing in a tree what a layer or a list of changes says: how the native snapshotter builds on copies."""

from __future__ import annotations

import os
import stat

from builder.files import differ
from builder.files.copying import copy_entry, copy_metadata
from builder.files.owners import current
from builder.files.trees import held, remove_tree
from builder.files.types import Unpacked
from builder.files.xattrs import copy_xattrs


class Player:
    """A Sink of changes that makes them in another tree."""

    def __init__(self, upper: str, tree: str) -> None:
        self._upper = upper
        self._tree = tree
        self._links: dict[int, str] = {}
        self._times: dict[str, int] = {}
        self._folders = {""}  # known to be folders in the tree: changes come in order, so none of them is replaced later

    def __call__(self, kind: str, path: str, source: str, status: os.stat_result | None) -> None:
        target = f"{self._tree}/{path}"
        if status is not None and kind != differ.UNMODIFIED:
            self._parents(path)
            if stat.S_ISDIR(status.st_mode):
                self._times[target] = status.st_mtime_ns
                if _is_folder(target):
                    copy_metadata(source, target, status)
                    return
            _remove(target)
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                known = self._links.setdefault(status.st_ino, target)
                if known != target:
                    os.link(known, target, follow_symlinks=False)
                    return
            copy_entry(source, target, status)
        elif status is None:
            self._parents(path)
            _remove(target)

    def _parents(self, path: str) -> None:
        """Folders that did not change and so were not reported, but are missing or no folders here."""
        if path.rpartition("/")[0] in self._folders:
            return
        at = path.find("/")
        while at >= 0:
            parent = path[:at]
            if parent not in self._folders:
                if not _is_folder(f"{self._tree}/{parent}"):
                    source = f"{self._upper}/{parent}"
                    self(differ.MODIFY, parent, source, current().lstat(source))
                self._folders.add(parent)
            at = path.find("/", at + 1)

    def finish(self) -> None:
        for target, mtime in self._times.items():
            if _is_folder(target):
                os.utime(target, ns=(mtime, mtime))


def lay_over(layer: str, tree: str, unpacked: Unpacked) -> None:
    """Move the files of an unpacked layer into the tree it belongs on. Same file system; OSError."""
    with held(layer) as source, held(tree) as target:
        _lay_over(source, target, unpacked)


def _lay_over(layer: str, tree: str, unpacked: Unpacked) -> None:
    for path in unpacked.opaques:
        target = f"{tree}/{path}"
        if _is_folder(target) and not _crosses_link(tree, path):
            for name in os.listdir(target):
                _remove(f"{target}/{name}")
    for path in unpacked.whiteouts - unpacked.opaques:
        if not os.path.lexists(f"{layer}/{path}") and not _crosses_link(tree, path):
            _remove(f"{tree}/{path}")
    owners = current()
    stack = [""]
    times: list[tuple[str, os.stat_result]] = []
    while stack:
        folder = stack.pop()
        with os.scandir(f"{layer}/{folder}") as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in names:
            path = f"{folder}/{name}" if folder else name
            source, target = f"{layer}/{path}", f"{tree}/{path}"
            if is_folder and _is_folder(target):
                status = owners.lstat(source)
                owners.chown(target, status.st_uid, status.st_gid)
                copy_xattrs(source, target)
                owners.chmod(target, stat.S_IMODE(status.st_mode))
                times.append((target, status))
                stack.append(path)
                continue
            _remove(target)
            if is_folder:
                times.append((target, os.lstat(source)))
            os.rename(source, target)
    for target, status in times:
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _crosses_link(tree: str, path: str) -> bool:
    """Does a link stand where the layer means a folder? It is replaced later; nothing behind it is meant."""
    at = path.find("/")
    while at >= 0:
        if os.path.islink(f"{tree}/{path[:at]}"):
            return True
        at = path.find("/", at + 1)
    return False


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (IsADirectoryError, PermissionError):
        remove_tree(path)
