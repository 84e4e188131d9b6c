"""COPY: files of a tree into a root, with the semantics of fsutil's copy package (which are not quite those of ``cp -a``).

The rules that users see, found in copy.go:
- Folders made on the way to the destination have mode 0755 or --chmod's number, the owner of --chown, the time of the build.
- The top folder, when it was there before (and with ``contents`` it always is: it is made on the way), keeps its metadata but
  takes the source's times. Folders below it take the source's metadata even if they were there.
- A folder that only counts for something in it (--parents, --exclude with ``!``) is made when the first file in it is copied,
  and keeps the time of that.
- A file replaces whatever is no folder. A link at the destination's last place is replaced, one before it is followed in the root.
- Hard links between files of one source stay hard links.
"""

from __future__ import annotations

import os
import posixpath
import stat
import threading
from collections.abc import Sequence

from builder.errors import CancelledError
from builder.files.copy import HardLinks, Rules, copy_node, set_folder_metadata, set_times
from builder.files.tree import Node, Tree
from builder.ops.file.dest import Destination, lstat_at, remove_at
from builder.ops.file.errors import FileActionError
from builder.text.paths import clean, rooted
from builder.text.patterns import MatchInfo, PatternMatcher

FOLDER_MODE = 0o755


class _Target:
    """A folder below the destination. It is opened, or made, when something is put into it. ``fresh``: by us, so it was empty."""

    __slots__ = ("fd", "fresh", "name", "node", "parent", "path")

    def __init__(self, node: Node | None, parent: _Target | None, name: str, fd: int | None = None) -> None:
        self.node = node
        self.parent = parent
        self.name = name
        self.fd = fd
        self.fresh = False
        self.path: str = f"{parent.path}/{name}" if parent is not None and parent.path else name

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Copier:
    """Copies sources one after the other into one root. ``folder_mode``: of the folders made on the way."""

    def __init__(
        self,
        tree: Tree,
        root: Destination,
        rules: Rules,
        *,
        folder_mode: int = FOLDER_MODE,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        always_replace: bool = False,
        cancelled: threading.Event | None = None,
    ) -> None:
        self._tree = tree
        self._root = root
        self._rules = rules
        self._folder_mode = folder_mode
        self._include = PatternMatcher(include, "include") if include else None
        self._exclude = PatternMatcher(exclude, "exclude") if exclude else None
        self._always_replace = always_replace
        self._cancelled = cancelled
        self._links = HardLinks(root.fd)

    def copy(self, source: str, dest: str, *, contents: bool, follow: bool) -> None:
        """Copy the path ``source`` to ``dest``. ``contents``: what is in a folder, not the folder (into ``dest`` if that exists).

        FileActionError, ChangedError; OSError with a path inside the root.
        """
        self._links = HardLinks(self._root.fd)
        rules = self._rules
        head, tail = posixpath.split(dest)
        way = self._root.resolve(dest if tail in ("", ".") else head)
        made = self._root.make_folders(way, self._folder_mode, rules.owner, rules.time_ns)
        path = self._root.resolve(dest)
        _, node = self._tree.lookup(source, follow_last=follow)
        if node is None:
            raise FileActionError(f"lstat {clean(source)}: no such file or directory")
        there = self._root.stat(path)
        name = posixpath.basename(source.rstrip("/"))
        if there is not None and (not contents if node.is_dir else stat.S_ISDIR(there.st_mode)):
            path = rooted(f"{path}/{name}")[1:]
        # Contents of a folder go into one that is made like any other on the way: with default mode and owner.
        into_new = contents and node.is_dir and there is None
        way = path if into_new else posixpath.dirname(path)
        made += self._root.make_folders(way, self._folder_mode, rules.owner, rules.time_ns)
        parent = _Target(None, None, posixpath.dirname(path) if path else "")
        try:
            if not path:
                self._copy_root(node)
            else:
                parent.fd = self._root.open_folder(parent.path)
                self._copy(node, "", parent, posixpath.basename(path), False, None, None)
        finally:
            parent.close()
        self._root.set_times(made, rules.time_ns)

    def _copy_root(self, node: Node) -> None:
        """The destination is the root itself."""
        if not node.is_dir:
            raise FileActionError("cannot replace to directory / with file")
        target = _Target(node, None, "", self._root.open_folder(""))
        try:
            self._fill(node, "", target, None, None)
            assert target.fd is not None
            set_times(target.fd, self._rules.times_of(self._tree, node))
        finally:
            target.close()

    def _copy(
        self,
        node: Node,
        relative: str,
        parent: _Target,
        name: str,
        overwrite: bool,
        in_info: MatchInfo,
        ex_info: MatchInfo,
        above: int | None = None,
    ) -> None:
        """One file or folder; ``relative`` is its path below the source, which patterns are matched against."""
        if self._cancelled is not None and self._cancelled.is_set():
            raise CancelledError("copy was cancelled")
        wanted, excluded = True, False
        if relative:
            if self._include is not None:
                wanted, in_info = self._include.matches_using_parent_results(relative, in_info)
            if self._exclude is not None:
                excluded, ex_info = self._exclude.matches_using_parent_results(relative, ex_info)
                wanted = wanted and not excluded
        if not wanted:
            hopeless = excluded and self._exclude is not None and not self._exclude.exclusions
            if node.is_dir and not hopeless:
                target = _Target(node, parent, name)
                try:
                    self._fill(node, relative, target, in_info, ex_info)
                finally:
                    target.close()
            return
        folder = self._enter(parent)
        there = None if parent.fresh else lstat_at(folder, name)
        if there is not None and self._always_replace and not (node.is_dir and stat.S_ISDIR(there.st_mode)):
            remove_at(folder, name)
            there = None
        if node.is_dir:
            self._copy_folder(node, relative, _Target(node, parent, name), overwrite, in_info, ex_info)
            return
        path = f"{parent.path}/{name}" if parent.path else name
        if there is not None:
            if stat.S_ISDIR(there.st_mode):
                raise FileActionError(f"cannot replace to directory /{path} with file")
            os.unlink(name, dir_fd=folder)
        if not self._links.link(node, folder, path, name):
            copy_node(self._tree, node, folder, name, self._rules, above)

    def _copy_folder(
        self, node: Node, relative: str, target: _Target, overwrite: bool, in_info: MatchInfo, ex_info: MatchInfo
    ) -> None:
        try:
            created = self._make(target, overwrite)
            self._fill(node, relative, target, in_info, ex_info)
            assert target.fd is not None
            if created or overwrite:
                set_folder_metadata(self._tree, node, target.fd, self._rules)
            else:
                set_times(target.fd, self._rules.times_of(self._tree, node))
        finally:
            target.close()

    def _fill(self, node: Node, relative: str, target: _Target, in_info: MatchInfo, ex_info: MatchInfo) -> None:
        prefix = relative + "/" if relative else ""
        above = self._tree.open_folder(node)
        try:
            for name, kid in self._tree.children(node).items():
                self._copy(kid, prefix + name, target, name, True, in_info, ex_info, above)
        finally:
            os.close(above)

    def _enter(self, target: _Target) -> int:
        """The open folder, with those above it; made like the source's where a pattern put them off."""
        if target.fd is None:
            assert target.node is not None
            if self._make(target, True):
                assert target.fd is not None
                set_folder_metadata(self._tree, target.node, target.fd, self._rules)
        assert target.fd is not None
        return target.fd

    def _make(self, target: _Target, overwrite: bool) -> bool:
        """Make or open the folder; was it made?"""
        assert target.node is not None
        assert target.parent is not None
        above = self._enter(target.parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.mkdir(target.name, 0o700, dir_fd=above)
            created = True
        except FileExistsError:
            created = False
            there = lstat_at(above, target.name)
            if there is None or not stat.S_ISDIR(there.st_mode):
                raise FileActionError(f"cannot copy to non-directory: /{target.path}") from None
        target.fd = os.open(target.name, flags, dir_fd=above)
        target.fresh = created
        if overwrite and not created:
            os.fchmod(target.fd, stat.S_IMODE(self._tree.mode(target.node)))
        return created
