"""Copying single files of a tree into an open folder, and checking that what was copied is what was hashed.

Every object is made new below a folder descriptor, never through a link, and gets owner, mode, times and extended attributes in
that order (a change of owner drops capabilities and setuid bits).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator

from builder.files.data import copy_bytes
from builder.files.hashing import hash_node, hash_open
from builder.files.openfolders import OpenFolders
from builder.files.owners import current
from builder.files.statcache import is_racy
from builder.files.tree import ChangedError, Node, Tree
from builder.files.trees import Trail
from builder.files.xattrs import set_what_can_be
from builder.values import dataclass
from runtime.linux.safepath import open_in_root


@dataclass(frozen=True, slots=True)
class Rules:
    """What a copy changes: ``owner`` (uid, gid), ``mode`` (permission bits for a st_mode), ``time_ns`` for all times."""

    owner: tuple[int, int] | None = None
    mode: Callable[[int], int] | None = None
    time_ns: int | None = None

    def owner_of(self, tree: Tree, node: Node) -> tuple[int, int]:
        return tree.owner(node) if self.owner is None else self.owner

    def bits_of(self, tree: Tree, node: Node) -> int:
        mode = tree.mode(node)
        return stat.S_IMODE(mode) if self.mode is None else self.mode(mode)

    def times_of(self, tree: Tree, node: Node) -> tuple[int, int]:
        return tree.times(node) if self.time_ns is None else (self.time_ns, self.time_ns)


def copy_node(tree: Tree, node: Node, folder: int, name: str, rules: Rules, above: int | None = None) -> None:
    """Make a copy of anything but a folder as ``name``, which must not exist yet, in the open ``folder``.

    ``above`` is the node's own folder, open, if the caller has it (``Tree.open_folder``).

    ChangedError if the source is no longer what was hashed; what was made then stays behind, in a snapshot that is thrown away.
    """
    node.used = True
    if node.is_file:
        _copy_file(tree, node, folder, name, rules, above)
    elif node.is_link:
        _copy_link(tree, node, folder, name, rules)
    else:
        _copy_special(tree, node, folder, name, rules)


def set_folder_metadata(tree: Tree, node: Node, folder: int, rules: Rules) -> None:
    """Owner, mode, times and extended attributes of ``node`` for the open ``folder``."""
    _set_metadata(tree, node, folder, rules)
    set_what_can_be(folder, dict(tree.xattrs(node)))


def set_times(folder: int, times: tuple[int, int]) -> None:
    os.utime(folder, ns=times)


def _set_metadata(tree: Tree, node: Node, fd: int, rules: Rules) -> None:
    owners = current()
    owners.chown(fd, *rules.owner_of(tree, node))
    owners.chmod(fd, rules.bits_of(tree, node))
    os.utime(fd, ns=rules.times_of(tree, node))


def _copy_file(tree: Tree, node: Node, folder: int, name: str, rules: Rules, above: int | None) -> None:
    if node.digest is None and is_racy(node.st, time.time_ns()):
        hash_node(tree, node)
    source = tree.open(node, above)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            st = node.st
            copied = copy_bytes(source, target, st)
            xattrs = tree.xattrs(node, source)
            after = os.stat(source)
            if copied != st.st_size or after.st_ctime_ns != st.st_ctime_ns or after.st_mtime_ns != st.st_mtime_ns:
                raise ChangedError(node.path)
            # Its stat can't tell whether such a file is still the one that was hashed: its bytes do.
            if node.racy and node.digest is not None and hash_open(tree, node, target, xattrs) != node.digest:
                raise ChangedError(node.path)
            _set_metadata(tree, node, target, rules)
            if xattrs:
                set_what_can_be(target, dict(xattrs))
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_link(tree: Tree, node: Node, folder: int, name: str, rules: Rules) -> None:
    os.symlink(tree.readlink(node), name, dir_fd=folder)
    current().chown(name, *rules.owner_of(tree, node), dir_fd=folder, follow_symlinks=False)
    os.utime(name, ns=rules.times_of(tree, node), dir_fd=folder, follow_symlinks=False)
    if xattrs := tree.xattrs(node):
        _with_handle(folder, name, lambda path: set_what_can_be(path, dict(xattrs)))


def _copy_special(tree: Tree, node: Node, folder: int, name: str, rules: Rules) -> None:
    """Devices, fifos; of a socket an empty file is left."""
    mode = tree.mode(node)
    device = node.st.st_rdev if stat.S_IFMT(mode) in (stat.S_IFCHR, stat.S_IFBLK) else 0
    current().mknod(name, stat.S_IFMT(mode) | 0o600, device, dir_fd=folder)
    current().chown(name, *rules.owner_of(tree, node), dir_fd=folder, follow_symlinks=False)
    bits = rules.bits_of(tree, node)
    _with_handle(folder, name, lambda path: current().chmod(path, bits))
    os.utime(name, ns=rules.times_of(tree, node), dir_fd=folder, follow_symlinks=False)
    if xattrs := tree.xattrs(node):
        _with_handle(folder, name, lambda path: set_what_can_be(path, dict(xattrs)))


def _with_handle(folder: int, name: str, act: Callable[[str], None]) -> None:
    """Act on a file of any type without opening it and without following it."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        act(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


# ------------------------------------------------------------------------------------------------ whole trees
class HardLinks:
    """Which files of one copy are names of one inode: they are that in the copy too."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._first: dict[tuple[int, int], str] = {}

    def link(self, node: Node, folder: int, path: str, name: str) -> bool:
        """Make ``name`` in ``folder`` (together ``path`` below the root) a link to the first copy, if there was one."""
        st = node.st
        if st.st_nlink < 2 or not node.is_file:
            return False
        first = self._first.setdefault((st.st_dev, st.st_ino), path)
        if first == path:
            return False
        head, _, tail = first.rpartition("/")
        source = open_in_root(self._root, head, os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(tail, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)
        return True


def copy_tree(tree: Tree, folder: str) -> None:
    """Everything in ``tree`` into the empty ``folder``, which gets the metadata of the tree's root. ChangedError, OSError."""
    rules = Rules()
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        links = HardLinks(root)
        trail, sources = Trail(root), OpenFolders(tree)
        way: list[tuple[Node, str, Iterator[tuple[str, Node]]]] = []
        try:
            sources.enter(tree.root)
            way.append((tree.root, "", iter(tree.children(tree.root).items())))
            while way:
                node, prefix, kids = way[-1]
                name, kid = next(kids, ("", None))
                if kid is None:
                    set_folder_metadata(tree, node, trail.fd, rules)
                    way.pop()
                    sources.leave()
                    if way:
                        trail.leave()
                elif kid.is_dir:
                    os.mkdir(name, 0o700, dir_fd=trail.fd)
                    trail.enter(name)
                    sources.enter(kid)
                    way.append((kid, f"{prefix}{name}/", iter(tree.children(kid).items())))
                elif not links.link(kid, trail.fd, prefix + name, name):
                    copy_node(tree, kid, trail.fd, name, rules, sources.fd)
        finally:
            sources.close()
            trail.close()
    finally:
        os.close(root)
