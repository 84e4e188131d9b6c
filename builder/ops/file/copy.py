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
from collections.abc import Iterator, Sequence

from builder.files.copy import HardLinks, Rules, copy_node, set_folder_metadata, set_times
from builder.files.openfolders import OpenFolders
from builder.files.owners import current
from builder.files.tree import Node, Tree
from builder.ops.file.dest import Destination, lstat_at, remove_at
from builder.ops.file.errors import FileActionError, from_os
from builder.state.cancel import checkpoint
from builder.text.paths import clean, rooted
from builder.text.patterns import MatchInfo, PatternMatcher
from builder.values import dataclass

FOLDER_MODE = 0o755
_MOST_OPEN = 32


class _Target:
    """A folder below the destination, made or opened when something is put into it. ``fresh``: made by us, so it was empty."""

    __slots__ = ("fd", "fresh", "made", "name", "node", "parent", "path")

    def __init__(self, node: Node | None, parent: _Target | None, name: str, *, made: bool = False) -> None:
        self.node = node
        self.parent = parent
        self.name = name
        self.fd = -1
        self.made = made
        self.fresh = False
        self.path: str = f"{parent.path}/{name}" if parent is not None and parent.path else name


@dataclass(slots=True)
class _Level:
    """A folder that is being copied. ``wanted``: itself, not only for something in it; the last two as for ``_make``."""

    node: Node
    relative: str
    target: _Target
    kids: Iterator[tuple[str, Node]]
    in_info: MatchInfo
    ex_info: MatchInfo
    wanted: bool
    created: bool
    overwrite: bool


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
    ) -> None:
        self._tree = tree
        self._root = root
        self._rules = rules
        self._folder_mode = folder_mode
        self._include = PatternMatcher(include, "include") if include else None
        self._exclude = PatternMatcher(exclude, "exclude") if exclude else None
        self._always_replace = always_replace
        self._links = HardLinks(root.fd)
        self._open: list[_Target] = []

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
        try:
            if not path:
                self._copy_root(node)
            else:
                self._copy(node, _Target(None, None, posixpath.dirname(path), made=True), posixpath.basename(path))
        finally:
            while self._open:
                self._close(self._open[-1])
        self._root.set_times(made, rules.time_ns)

    def _copy_root(self, node: Node) -> None:
        """The destination is the root itself."""
        if not node.is_dir:
            raise FileActionError("cannot replace to directory / with file")
        self._walk(_Level(node, "", _Target(node, None, "", made=True), self._kids(node), None, None, True, False, False))

    def _copy(self, node: Node, parent: _Target, name: str) -> None:
        """One file, or a folder with what is in it."""
        level = self._take(node, "", parent, name, False, None, None, None)
        if level is not None:
            self._walk(level)

    def _walk(self, top: _Level) -> None:
        """Without recursion: a step can nest folders without end."""
        sources = OpenFolders(self._tree)
        levels = [top]
        try:
            sources.enter(top.node)
            while levels:
                at = levels[-1]
                name, kid = next(at.kids, ("", None))
                if kid is None:
                    self._finish(at)
                    levels.pop()
                    sources.leave()
                    continue
                relative = f"{at.relative}/{name}" if at.relative else name
                below = self._take(kid, relative, at.target, name, True, at.in_info, at.ex_info, sources)
                if below is not None:
                    sources.enter(kid)
                    levels.append(below)
        finally:
            sources.close()

    def _take(
        self,
        node: Node,
        relative: str,
        parent: _Target,
        name: str,
        overwrite: bool,
        in_info: MatchInfo,
        ex_info: MatchInfo,
        sources: OpenFolders | None,
    ) -> _Level | None:
        """Copy a file; of a folder that is to be gone through give the level. ``relative`` is its path below the source, which
        patterns are matched against; ``sources`` is in its folder."""
        checkpoint()
        wanted, excluded = True, False
        if relative:
            if self._include is not None:
                wanted, in_info = self._include.matches_using_parent_results(relative, in_info)
            if self._exclude is not None:
                excluded, ex_info = self._exclude.matches_using_parent_results(relative, ex_info)
                wanted = wanted and not excluded
        if not wanted:
            hopeless = excluded and self._exclude is not None and not self._exclude.exclusions
            if not node.is_dir or hopeless:
                return None
            return _Level(node, relative, _Target(node, parent, name), self._kids(node), in_info, ex_info, False, False, False)
        folder = self._fd(parent)
        path = f"{parent.path}/{name}" if parent.path else name
        try:
            there = None if parent.fresh else lstat_at(folder, name)
        except OSError as e:
            raise from_os(e, op="lstat", path="/" + path) from e
        if there is not None and self._always_replace and not (node.is_dir and stat.S_ISDIR(there.st_mode)):
            remove_at(folder, name)
            there = None
        if node.is_dir:
            target = _Target(node, parent, name)
            created = self._make(target, folder, overwrite)
            return _Level(node, relative, target, self._kids(node), in_info, ex_info, True, created, overwrite)
        if there is not None:
            if stat.S_ISDIR(there.st_mode):
                raise FileActionError(f"cannot replace to directory /{path} with file")
            os.unlink(name, dir_fd=folder)
        if not self._links.link(node, folder, path, name):
            copy_node(self._tree, node, folder, name, self._rules, None if sources is None else sources.fd)
        return None

    def _kids(self, node: Node) -> Iterator[tuple[str, Node]]:
        return iter(self._tree.children(node).items())

    def _finish(self, level: _Level) -> None:
        """Everything in the folder is copied."""
        if level.wanted:
            fd = self._fd(level.target)
            if level.created or level.overwrite:
                set_folder_metadata(self._tree, level.node, fd, self._rules)
            else:
                set_times(fd, self._rules.times_of(self._tree, level.node))
        self._close(level.target)

    # ------------------------------------------------------------------------------------------ folders written to
    def _fd(self, target: _Target) -> int:
        """The open folder; made like the source's, with those above it, where a pattern put them off."""
        if target.fd < 0:
            way = [target]
            while not way[-1].made and (above := way[-1].parent) is not None:
                way.append(above)
            for at in reversed(way):
                if at.made:
                    if at.fd < 0:
                        self._opened(at, self._root.open_folder(at.path))
                    continue
                assert at.parent is not None
                assert at.node is not None
                if self._make(at, at.parent.fd, True):
                    set_folder_metadata(self._tree, at.node, at.fd, self._rules)
        return target.fd

    def _make(self, target: _Target, above: int, overwrite: bool) -> bool:
        """Make or open the folder in the open one above it; was it made?"""
        assert target.node is not None
        try:
            os.mkdir(target.name, 0o700, dir_fd=above)
            created = True
        except OSError as e:
            if not isinstance(e, FileExistsError):
                raise from_os(e, op="mkdir", path="/" + target.path) from e
            created = False
            there = lstat_at(above, target.name)
            if there is None or not stat.S_ISDIR(there.st_mode):
                raise _no_folder(target, above) from None
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._opened(target, os.open(target.name, flags, dir_fd=above))
        target.made, target.fresh = True, created
        if overwrite and not created:
            current().chmod(target.fd, stat.S_IMODE(self._tree.mode(target.node)))
        return created

    def _opened(self, target: _Target, fd: int) -> None:
        """Folders are opened from the outside in, so the outermost ones are closed where too many are open."""
        target.fd = fd
        self._open.append(target)
        if len(self._open) > _MOST_OPEN:
            self._close(self._open[0])

    def _close(self, target: _Target) -> None:
        if target.fd >= 0:
            os.close(target.fd)
            target.fd = -1
            self._open.remove(target)


def _no_folder(target: _Target, above: int) -> FileActionError:
    """A folder is copied onto something else. Of a link it is told where it leads: base images have links where folders were."""
    text = f"cannot copy to non-directory: /{target.path}"
    try:
        link = os.readlink(target.name, dir_fd=above)
    except OSError:
        return FileActionError(text)
    place = clean(posixpath.join("/", posixpath.dirname(target.path), link))
    hint = f"a folder does not replace a link: copy what is in it to {place}"
    return FileActionError(f"{text} (a symbolic link to {link})", hint=hint)
