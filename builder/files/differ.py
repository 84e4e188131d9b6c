"""The differ: changes between two trees, or those an overlay upperdir stands for, as a layer tar.

The entries, their order and their headers are BuildKit's (util/overlay/overlay_linux.go for upperdirs, continuity's fs.Changes
for trees, containerd's archive.ChangeWriter for the tar), so that equal files give equal layers:

- in every folder by name, a folder before its content; a parent folder of a change is always there, even if unchanged itself;
- what is the same below is left out: equal mode, owner, device, capability and, but for folders, size, time and, where both
  times are whole seconds (they may have been cut by an archive), content;
- a deletion is ``.wh.NAME`` with mode, owner and time 0; opaque folders come out as one deletion for each name that is gone;
- hard links inside the layer; times cut to seconds; of extended attributes only ``security.capability``; no sockets.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol

from builder.errors import StoreError
from builder.files.members import add_member, member_of
from builder.files.owners import current
from builder.files.tar.entry import LINK, REG, Entry
from builder.files.tar.writer import TarWriter
from builder.files.trees import held, shown
from builder.files.xattrs import CAPABILITY, read_xattr
from builder.state.cancel import checkpoint
from builder.state.disk import store_error
from builder.state.threads import background

ADD, MODIFY, DELETE, UNMODIFIED = "add", "modify", "delete", "unmodified"

_SECOND = 1_000_000_000


class Sink(Protocol):
    def __call__(self, kind: str, path: str, source: str, status: os.stat_result | None, /) -> None:
        """A change: path inside the root, the file that has it now, its lstat (None for DELETE)."""
        ...


def write_upperdir(
    upper: str, lower: str | None, write: Callable[[bytes], object], *, opaque: str, clamp_mtime: int | None = None
) -> None:
    """The layer tar of an upperdir. ``lower``: mounted parent (None: nothing below); ``opaque``: name of overlayfs's marker.
    StoreError where a file can't be read."""
    _write(upper, lower, write, clamp_mtime, opaque)


def write_difference(upper: str, lower: str | None, write: Callable[[bytes], object], *, clamp_mtime: int | None = None) -> None:
    """The layer tar of the changes between two whole trees."""
    _write(upper, lower, write, clamp_mtime, "")


def _write(upper: str, lower: str | None, write: Callable[[bytes], object], clamp_mtime: int | None, opaque: str) -> None:
    with background(write) as send, ExitStack() as stack:
        try:
            above = stack.enter_context(held(upper))
            below = None if lower is None else stack.enter_context(held(lower))
            sink = LayerWriter(above, send, clamp_mtime)
            _Walk(above, below, sink, opaque).run(whole=not opaque)
        except OSError as e:
            if e.filename is None:
                raise  # of ``write``
            raise _unreadable(e) from e
        sink.close()


def _unreadable(e: OSError) -> StoreError:
    if e.errno == errno.ENAMETOOLONG:
        return StoreError(
            f"the path {shown(e.filename)} is too long for a layer: nothing could open it in an image",
            hint="remove the nested folders in the step that makes them",
        )
    return store_error(f"can't read the snapshot: {shown(e.filename)}", e)


def tree_changes(upper: str, lower: str | None, sink: Sink) -> None:
    """Report what leads from the tree ``lower`` to the tree ``upper``."""
    _Walk(upper, lower, sink, "").run(whole=True)


class _Walk:
    """Depth first, by name. ``lower`` None: nothing below. ``whole``: a name that is not in upper is deleted (two trees, or
    an opaque folder); else upper is sparse and has whiteouts for deletions."""

    def __init__(self, upper: str, lower: str | None, sink: Sink, opaque: str) -> None:
        self._upper = upper
        self._lower = lower
        self._sink = sink
        self._opaque = opaque
        self._owners = current()

    def run(self, whole: bool) -> None:
        # A stack of iterators: layers may hold folders deeper than Python's recursion goes.
        stack = [self._folder("", self._lower is not None, whole)]
        while stack:
            checkpoint()
            for path, lower, whole_below in stack[-1]:
                stack.append(self._folder(path, lower, whole_below))
                break
            else:
                stack.pop()

    def _folder(self, path: str, lower: bool, whole: bool) -> Iterator[tuple[str, bool, bool]]:
        """Report the entries of a folder; yields (path, exists below, whole) for folders to go into, in their place."""
        above = f"{self._upper}/{path}" if path else self._upper
        below = f"{self._lower}/{path}" if path else self._lower or ""
        prefix = f"{path}/" if path else ""
        names = os.listdir(above)
        missing: set[str] = set()
        if whole and lower:
            missing = set(os.listdir(below)).difference(names)
            names.extend(missing)
        names.sort(key=os.fsencode)
        for name in names:
            checkpoint()
            if name in missing:
                self._sink(DELETE, prefix + name, "", None)
                continue
            source = f"{above}/{name}"
            status = self._owners.lstat(source)
            base = self._below(f"{below}/{name}") if lower else None
            if not whole and self._opaque and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                if base is not None:
                    self._sink(DELETE, prefix + name, "", None)
                continue
            if base is None:
                self._sink(ADD, prefix + name, source, status)
            elif not same(base, status, f"{below}/{name}", source):
                self._sink(MODIFY, prefix + name, source, status)
            elif whole and status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                self._sink(UNMODIFIED, prefix + name, source, status)
            if stat.S_ISDIR(status.st_mode):
                folder_below = base is not None and stat.S_ISDIR(base.st_mode)
                hides = folder_below and bool(self._opaque) and read_xattr(source, self._opaque) == b"y"
                yield prefix + name, folder_below, whole or hides

    def _below(self, path: str) -> os.stat_result | None:
        try:
            return self._owners.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


def same(lower: os.stat_result, upper: os.stat_result, lower_path: str, upper_path: str) -> bool:
    """Is it the same file, as far as a layer can tell? (See the module's text.)"""
    if (lower.st_dev, lower.st_ino) == (upper.st_dev, upper.st_ino):
        return True
    if (lower.st_mode, lower.st_uid, lower.st_gid, lower.st_rdev) != (upper.st_mode, upper.st_uid, upper.st_gid, upper.st_rdev):
        return False
    if read_xattr(lower_path, CAPABILITY) != read_xattr(upper_path, CAPABILITY):
        return False
    if stat.S_ISDIR(upper.st_mode):
        return True
    if lower.st_size != upper.st_size or lower.st_mtime_ns != upper.st_mtime_ns:
        return False
    if upper.st_mtime_ns % _SECOND:
        return True
    if stat.S_ISLNK(upper.st_mode):
        return os.readlink(lower_path) == os.readlink(upper_path)
    if not stat.S_ISREG(upper.st_mode) or upper.st_size == 0:
        return True
    return _same_content(lower_path, upper_path)


def _same_content(one: str, other: str) -> bool:
    with open(one, "rb", buffering=0) as a, open(other, "rb", buffering=0) as b:
        while True:
            checkpoint()
            left, right = a.read(1 << 18), b.read(1 << 18)
            if left != right:
                return False
            if not left:
                return True


class LayerWriter:
    """Changes in, layer tar out: the Sink that BuildKit's ChangeWriter is."""

    def __init__(self, root: str, write: Callable[[bytes], object], clamp_mtime: int | None = None) -> None:
        self._root = root
        self._tar = TarWriter(write)
        self._clamp = None if clamp_mtime is None else clamp_mtime * _SECOND
        self._folders: set[str] = {""}
        self._first: dict[int, str] = {}  # inode -> the name that has the content
        self._waiting: dict[int, list[str]] = {}  # unchanged names of an inode whose content may still come

    def __call__(self, kind: str, path: str, source: str, status: os.stat_result | None) -> None:
        if status is None:
            folder, slash, name = path.rpartition("/")
            self._parents(path)
            self._tar.add(Entry(f"{folder}{slash}.wh.{name}", REG, 0))
            return
        entry = self._entry(path, source, status)
        if entry is None:
            return
        waiting: list[str] = []
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            first = self._first.get(status.st_ino)
            if first is not None:
                entry.type, entry.linkname, entry.size = LINK, first, 0
            elif kind == UNMODIFIED:
                self._waiting.setdefault(status.st_ino, []).append(path)
                return
            else:
                self._first[status.st_ino] = path
                waiting = self._waiting.pop(status.st_ino, [])
        elif kind == UNMODIFIED:
            return
        self._parents(path)
        if stat.S_ISDIR(status.st_mode):
            self._folders.add(path)
        add_member(self._tar, entry, source)
        for name in waiting:
            self._parents(name)
            entry.name, entry.type, entry.linkname, entry.size = name, LINK, path, 0
            self._tar.add(entry)

    def _entry(self, path: str, source: str, status: os.stat_result) -> Entry | None:
        entry = member_of(path, source, status)
        if entry is None:
            return None
        if self._clamp is not None and entry.mtime_ns > self._clamp:
            entry.mtime_ns = self._clamp
        entry.mtime_ns -= entry.mtime_ns % _SECOND
        if capability := read_xattr(source, CAPABILITY):
            entry.xattrs[CAPABILITY] = capability
        return entry

    def _parents(self, path: str) -> None:
        """Folders above that have no entry yet, outermost first."""
        if path.rpartition("/")[0] in self._folders:
            return
        at = path.find("/")
        while at >= 0:
            parent = path[:at]
            if parent not in self._folders:
                source = f"{self._root}/{parent}"
                self(MODIFY, parent, source, current().lstat(source))
            at = path.find("/", at + 1)

    def close(self) -> None:
        self._tar.close()
