"""What each action of a FileOp does to an open root (BuildKit: solver/llbsolver/file/backend.go)."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable

from builder.files.checksum import glob
from builder.files.copy import Rules
from builder.files.owners import Owners, current
from builder.files.tree import Tree
from builder.graph.ops import CopyAction, MkdirAction, MkfileAction, RmAction, SymlinkAction
from builder.ops.file.copy import FOLDER_MODE, Copier
from builder.ops.file.dest import Destination, remove_at, set_bits
from builder.ops.file.errors import FileActionError, named
from builder.ops.file.modes import BadModeError, parse_mode
from builder.text.glob import contains_wildcards, split_wildcards
from builder.text.paths import clean
from builder.text.quoting import quote

Ids = tuple[int, int]


def mkdir(root: Destination, action: MkdirAction, owner: Ids | None) -> None:
    """An existing folder stays as it is, with the owner it has."""
    path = root.resolve(action.path)
    if action.make_parents:
        root.make_folders(path, action.mode, owner, action.timestamp)
        return
    owners = current()
    with named("mkdir", "/" + path), _Parent(root, path) as (folder, name):
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            return
        owners.settle_group(name, folder)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            set_bits(fd, action.mode)
            _finish(owners, fd, owner, action.timestamp)
        finally:
            os.close(fd)


def mkfile(root: Destination, action: MkfileAction, owner: Ids | None) -> None:
    """A file that is there gets the new bytes and owner, and keeps its mode."""
    path = root.resolve("/" + action.path)
    owners = current()
    with named("open", "/" + path), _Parent(root, path) as (folder, name):
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
            owners.settle_group(name, folder)
            owners.chmod(fd, action.mode & 0o777)
        except FileExistsError:
            fd = os.open(name, flags | os.O_TRUNC, dir_fd=folder)
        try:
            view = memoryview(action.data)
            while view:
                view = view[os.write(fd, view) :]
            _finish(owners, fd, owner, action.timestamp)
        finally:
            os.close(fd)


def symlink(root: Destination, action: SymlinkAction, owner: Ids | None) -> None:
    """The new name must not exist."""
    path = root.resolve("/" + action.new_path)
    owners = current()
    with named("symlink", f"{action.old_path} /{path}"), _Parent(root, path) as (folder, name):
        os.symlink(action.old_path, name, dir_fd=folder)
        owners.settle_group(name, folder)
        if owner is not None:
            owners.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
        if action.timestamp is not None:
            os.utime(name, ns=(action.timestamp, action.timestamp), dir_fd=folder, follow_symlinks=False)


def rm(root: Destination, action: RmAction) -> None:
    """Remove a file or folder; links in the last place are removed, not followed. The root itself is refused."""
    paths = [action.path]
    if action.allow_wildcard and contains_wildcards(action.path):
        with Tree(root.fd) as tree:
            paths = [path for path, _ in glob(tree, clean("/" + action.path), follow_prefix=True)]
    for path in paths:
        head, name = posixpath.split(clean("/" + path))
        if not name:
            raise FileActionError("rmPath: invalid empty path")
        at = root.resolve(head)
        if root.stat(f"{at}/{name}" if at else name) is None:
            if not action.allow_not_found:
                raise FileActionError(f"stat {posixpath.join(head, name)}: no such file or directory")
            continue
        folder = root.open_folder(at)
        try:
            remove_at(folder, name)
        finally:
            os.close(folder)


def copy(
    root: Destination, tree: Tree, action: CopyAction, owner: Ids | None
) -> None:
    """Copy what ``action.src`` names, or unpack it where it is an archive and the action wants that."""
    source, dest = clean_path(action.src), clean_path(action.dest)
    if not action.create_dest_path:
        path = root.resolve("/" + action.dest)
        if root.stat(posixpath.dirname(path)) is None:
            raise FileActionError(f"failed to stat {action.dest}: no such file or directory")
    copier = Copier(
        tree,
        root,
        Rules(owner, _mode_rule(action), action.timestamp),
        folder_mode=FOLDER_MODE if action.mode is None else action.mode,
        include=action.include,
        exclude=action.exclude,
        always_replace=action.always_replace,
    )
    for path in _sources(tree, source, action):
        if action.attempt_unpack:
            from builder.ops.file.unpack import unpack

            if unpack(tree, path, root, dest, owner, action.timestamp):
                continue
        copier.copy(path, dest, contents=action.dir_copy_contents, follow=action.follow_symlink)


def _sources(tree: Tree, source: str, action: CopyAction) -> list[str]:
    if not action.allow_wildcard or not contains_wildcards(source):
        return [source]
    found = [path for path, _ in glob(tree, clean(source), follow_prefix=action.follow_symlink)]
    if not found:
        first = split_wildcards(source)[0]
        if tree.lookup(first, follow_last=action.follow_symlink)[1] is None:
            raise FileActionError(f"lstat {first}: no such file or directory")
        if not action.allow_empty_wildcard:
            raise FileActionError(f"{source} not found")
    return found


def _mode_rule(action: CopyAction) -> Callable[[int], int] | None:
    if action.mode_text:
        try:
            return parse_mode(action.mode_text)
        except BadModeError as e:
            raise FileActionError(f"invalid chmod parameter {quote(action.mode_text)}: {e}") from e
    if action.mode is None:
        return None
    bits = action.mode & 0o7777
    return lambda mode: bits


def clean_path(path: str) -> str:
    """Absolute and cleaned, but a last slash or ``/.`` stays: it says "a folder"."""
    out = clean("/" + path)
    if path.endswith("/."):
        return (out if out == "/" else out + "/") + "."
    if path.endswith("/") and out != "/":
        return out + "/"
    return out


def _finish(owners: Owners, fd: int, owner: Ids | None, time_ns: int | None) -> None:
    if owner is not None:
        owners.chown(fd, *owner)
    if time_ns is not None:
        os.utime(fd, ns=(time_ns, time_ns))


class _Parent:
    """The open folder and the name of a resolved path."""

    def __init__(self, root: Destination, path: str) -> None:
        head, self._name = posixpath.split(path)
        self._fd = root.open_folder(head)
        self._path = path

    def __enter__(self) -> tuple[int, str]:
        return self._fd, self._name or "."

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
