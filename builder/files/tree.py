"""A folder as it was when it was first looked at: the one view that hashing and copying share.

Names and stats are taken once and kept. What was hashed is what gets copied: a reader opens a file through ``Tree.open``, which
refuses one whose stat is not the kept one. So a context that changes between hash and copy gives an error, never a wrong cache
entry, and a file added in between is simply not part of it. Everything is opened below one folder descriptor; symbolic links are
resolved inside it, those that are swapped in later lead nowhere else (GHSA-49p4-px3h-rq49).
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from builder.errors import PybuildError
from builder.files.owners import current
from builder.files.xattrs import readable_xattrs
from builder.state.cancel import checkpoint
from runtime.linux.safepath import open_in_root

if TYPE_CHECKING:
    from builder.files.owners import Owners

_MAX_LINKS = 255
# EXDEV: a folder on the way was moved out of the root while the kernel was walking through it.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EXDEV)
_FORMAT, _FOLDER = 0o170000, stat.S_IFDIR


class ChangedError(PybuildError):
    """A file is not what it was when it was first looked at."""

    def __init__(self, path: str) -> None:
        super().__init__(f"/{path} changed while the build was reading it", hint="build again when nothing writes to the context")


class PathFilter(Protocol):
    """Which paths of a tree count (``.dockerignore``)."""

    def match(self, path: str, parent: Any) -> tuple[bool, Any]:
        """Is ``path`` left out, and what its children's calls are given as ``parent``. The root's children are given None."""
        ...

    def may_contain(self, path: str) -> bool:
        """Could the left-out folder ``path`` hold a path that counts?"""
        ...


class _SeldomSet:
    """Attributes that most nodes never have. They are kept in a dict that is made with the first of them, so that all other nodes
    are small and quick to make.

    ``looked_up``: files of a folder that was not read yet, which were asked for one by one. ``link``: where a symbolic link leads.
    ``racy``: the file was changed too shortly before it was read for its stat to tell it from another one. ``used``: somebody
    relies on the stat. ``state``: what the filter remembers for what lies below.
    """

    __slots__ = ("__dict__",)
    state: Any = None
    looked_up: dict[str, Node] | None = None
    link: str | None = None
    racy: bool = False
    used: bool = False


class Node(_SeldomSet):
    """One file of a tree; the root has no ``parent`` and no ``name``. ``kids`` is None until the folder was read."""

    __slots__ = ("digest", "is_dir", "kids", "name", "parent", "st")

    def __init__(self, parent: Node | None, name: str, st: os.stat_result) -> None:
        self.parent = parent
        self.name = name
        self.st = st
        self.is_dir = st.st_mode & _FORMAT == _FOLDER
        self.kids: dict[str, Node] | None = None
        self.digest: bytes | None = None

    @property
    def path(self) -> str:
        """Relative to the root, "" for the root itself."""
        names: list[str] = []
        node: Node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return "/".join(reversed(names))

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.st.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.st.st_mode)

    @property
    def pinned(self) -> bool:
        """Somebody relies on this stat: another one is an error from now on."""
        return self.used or self.digest is not None


class Tree:
    """The files below ``folder`` that ``path_filter`` leaves. Thread-safe.

    ``reset_owner``: every file counts as owned by 0:0, as the files that BuildKit's client sends.
    ``root_time_ns``: the root itself counts as a folder made then (mode 0755), as the one BuildKit's transfer writes to.
    ``owners``: those of the store if there are none; ``REAL`` for what is not the store's.
    """

    def __init__(
        self,
        folder: str | int,
        path_filter: PathFilter | None = None,
        *,
        reset_owner: bool = False,
        root_time_ns: int | None = None,
        owners: Owners | None = None,
    ) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self.fd = os.open(folder, flags) if isinstance(folder, str) else os.dup(folder)
        self.filter = path_filter
        self.reset_owner = reset_owner
        self.root_time_ns = root_time_ns
        self.lock = threading.RLock()
        self.owners = current() if owners is None else owners
        self.root = Node(None, "", self.owners.stat(self.fd))

    def close(self) -> None:
        """Drop the folder descriptor; nodes keep their stats."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ metadata as it counts
    def owner(self, node: Node) -> tuple[int, int]:
        return (0, 0) if self.reset_owner else (node.st.st_uid, node.st.st_gid)

    def mode(self, node: Node) -> int:
        """st_mode; a socket counts as an empty regular file (the client clears the type, the copy makes a stub)."""
        mode = node.st.st_mode
        if node is self.root and self.root_time_ns is not None:
            return stat.S_IFDIR | 0o755
        if stat.S_ISSOCK(mode):
            return stat.S_IFREG | stat.S_IMODE(mode)
        return mode

    def times(self, node: Node) -> tuple[int, int]:
        """(atime, mtime) in nanoseconds."""
        if node is self.root and self.root_time_ns is not None:
            return self.root_time_ns, self.root_time_ns
        return node.st.st_atime_ns, node.st.st_mtime_ns

    # ------------------------------------------------------------------------------------------ walking
    def children(self, node: Node) -> dict[str, Node]:
        """The files in a folder that count, sorted by name. OSError where it can't be read."""
        if node.kids is None:
            with self.lock:
                if node.kids is None:
                    self._load(node)
        assert node.kids is not None
        return node.kids

    def _load(self, top: Node) -> None:
        """Read a folder; whether it has children may depend on what left-out folders in it hold, and so on downwards."""
        scans = [self._scan(top)]
        while scans:
            checkpoint()
            below = next(scans[-1], None)
            if below is None:
                scans.pop()
            elif below.kids is None:
                scans.append(self._scan(below))

    def _scan(self, node: Node) -> Iterator[Node]:
        """Set ``node.kids``; yields folders whose kids have to be set first."""
        fd = self.open_folder(node)
        listed = self.owners.listed
        try:
            found: list[tuple[str, os.stat_result]] = []
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        found.append((entry.name, listed(entry, fd)))
                    except FileNotFoundError:
                        continue  # removed since the folder was read: it never was part of this view
        finally:
            os.close(fd)
        found.sort()
        looked_up = node.looked_up or {}
        node.looked_up = None
        if self.filter is None and not looked_up:
            node.kids = {name: Node(node, name, st) for name, st in found}
            return
        path = node.path
        prefix = path + "/" if path else ""
        kids: dict[str, Node] = {}
        for name, st in found:
            kid = looked_up.get(name)
            if kid is None:
                checkpoint()
                kid = Node(node, name, st)
                if self._left_out(kid, prefix + name):
                    if not self._may_count(kid, prefix + name):
                        continue
                    yield kid
                    if not kid.kids:
                        continue
            kids[name] = kid
        node.kids = kids

    def child(self, node: Node, name: str) -> Node | None:
        """One file of a folder, without reading the whole folder."""
        if node.kids is not None:
            return node.kids.get(name)
        with self.lock:
            if node.kids is not None:
                return node.kids.get(name)
            if node.looked_up is None:
                node.looked_up = {}
            kid = node.looked_up.get(name)
            if kid is None:
                above = node.path
                path = f"{above}/{name}" if above else name
                st = self._stat(path)
                if st is None:
                    return None
                kid = Node(node, name, st)
                if self._left_out(kid, path) and not (self._may_count(kid, path) and self.children(kid)):
                    return None
                node.looked_up[name] = kid
            return kid

    def _left_out(self, node: Node, path: str) -> bool:
        if self.filter is None:
            return False
        assert node.parent is not None
        out, node.state = self.filter.match(path, node.parent.state)
        return out

    def _may_count(self, node: Node, path: str) -> bool:
        """A left-out folder counts after all where something below it does, as the parent that file needs."""
        return node.is_dir and self.filter is not None and self.filter.may_contain(path)

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            fd = open_in_root(self.fd, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as e:
            if e.errno in _GONE:
                return None
            raise
        try:
            return self.owners.stat(fd)
        finally:
            os.close(fd)

    def walk(self, node: Node) -> list[Node]:
        """``node`` and everything below it, folders before their files."""
        out = [node]
        for found in out:  # grows while it is gone through
            if found.is_dir:
                out.extend(self.children(found).values())
        return out

    # ------------------------------------------------------------------------------------------ looking up
    def lookup(self, path: str, *, follow_last: bool) -> tuple[str, Node | None]:
        """Resolve links inside the root. (resolved path, node); components that do not exist are kept, the node is None then.

        OSError ELOOP for a chain of links that does not end.
        """
        rest = [p for p in reversed(path.split("/")) if p not in ("", ".")]
        trail: list[tuple[str, Node | None]] = []
        links = 0
        while rest:
            name = rest.pop()
            if name == "..":
                if trail:
                    trail.pop()
                continue
            parent = trail[-1][1] if trail else self.root
            node = self.child(parent, name) if parent is not None and parent.is_dir else None
            if node is not None and node.is_link and (rest or follow_last):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, "too many links", path)
                target = self.readlink(node)
                if target.startswith("/"):
                    trail.clear()
                rest.extend(p for p in reversed(target.split("/")) if p not in ("", "."))
                continue
            trail.append((name, node))
        return "/".join(name for name, _ in trail), trail[-1][1] if trail else self.root

    # ------------------------------------------------------------------------------------------ reading
    def open(self, node: Node, folder: int | None = None) -> int:
        """A descriptor to read a regular file. ChangedError if it is not the file that was looked at.

        ``folder``: its folder as ``open_folder`` gave it, which is quicker for many files.
        """
        fd = self._open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, folder)
        try:
            self.check(node, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def handle(self, node: Node) -> int:
        """An O_PATH descriptor of a file of any type (the link itself, for a link). ChangedError as with ``open``."""
        fd = self._open(node, os.O_PATH)
        try:
            self.check(node, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def check(self, node: Node, fd: int) -> None:
        """ChangedError unless the open file is the one that was looked at, unchanged. A node nobody read yet is looked at anew.

        Of folders only the identity counts: their lists of names are kept, and their times move with every file made in them.
        """
        st = self.owners.stat(fd)
        old = node.st
        if st.st_ino == old.st_ino and st.st_dev == old.st_dev and st.st_mode == old.st_mode:
            if stat.S_ISDIR(st.st_mode):
                return
            if st.st_ctime_ns == old.st_ctime_ns and st.st_mtime_ns == old.st_mtime_ns and st.st_size == old.st_size:
                return
        if node.pinned or stat.S_IFMT(st.st_mode) != stat.S_IFMT(old.st_mode) or stat.S_ISDIR(st.st_mode):
            raise ChangedError(node.path)
        node.st = st

    def readlink(self, node: Node) -> str:
        """Target of a link."""
        if node.link is None:
            fd = self.handle(node)
            try:
                node.link = os.readlink("", dir_fd=fd)
                node.used = True
            finally:
                os.close(fd)
        return node.link

    def xattrs(self, node: Node, fd: int | None = None) -> list[tuple[str, bytes]]:
        """Extended attributes, sorted; those of overlayfs itself are none of the file's. ``fd``: the file, open for reading."""
        if node is self.root and self.root_time_ns is not None:
            return []
        if fd is not None:
            return readable_xattrs(fd, self.owners)
        handle = self.handle(node)
        try:
            # The *xattr calls refuse an O_PATH descriptor, its name in /proc they take; a link named so is not followed.
            return readable_xattrs(f"/proc/self/fd/{handle}", self.owners)
        finally:
            os.close(handle)

    def _open(self, node: Node, flags: int, folder: int | None = None) -> int:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return open_in_root(self.fd, node.path, flags) if folder is None else os.open(node.name, flags, dir_fd=folder)
        except OSError as e:
            if e.errno in _GONE or e.errno in (errno.ELOOP, errno.ENXIO):
                raise ChangedError(node.path) from e
            raise

    def open_folder(self, node: Node) -> int:
        """A descriptor of a folder, the one that was looked at. ChangedError."""
        fd = self._open(node, os.O_RDONLY | os.O_DIRECTORY)
        st = os.stat(fd)
        if st.st_ino != node.st.st_ino or st.st_dev != node.st.st_dev:
            os.close(fd)
            raise ChangedError(node.path)
        return fd
