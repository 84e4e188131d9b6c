"""Build contexts as values: made by the generator, written to a folder, changed there one name at a time."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Mapping
from typing import Literal

from builder.values import dataclass, replace

Kind = Literal["file", "dir", "symlink", "hardlink", "fifo"]


@dataclass(frozen=True)
class Node:
    """What a name is. ``link`` is a symlink's target as it is written, or the path of the first name of a hard link's inode.

    ``mtime`` in seconds of the epoch. A hard link has only ``kind`` and ``link``: the rest is its inode's.
    """

    kind: Kind
    data: bytes = b""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    link: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    mtime: int = 1_600_000_000


Tree = Mapping[str, Node]
"""Path relative to the root of the context -> what is there. Folders have entries of their own."""


def tidy(tree: Tree) -> dict[str, Node]:
    """The tree with what a change left dangling put right: names below what is no folder go, a hard link without its first name
    becomes a file of its own."""
    out: dict[str, Node] = {}
    for path in sorted(tree):
        parent = os.path.dirname(path)
        if parent and (parent not in out or out[parent].kind != "dir"):
            continue
        out[path] = tree[path]
    for path, node in out.items():
        if node.kind == "hardlink" and (node.link not in out or out[node.link].kind != "file"):
            out[path] = Node("file", data=b"was a hard link\n")
    return out


def write(folder: str, tree: Tree, before: Tree | None = None, *, in_place: bool = True, owner: int | None = None) -> None:
    """Make ``folder`` hold ``tree``; what is as it was in ``before`` is not touched.

    ``in_place``: a file that changes keeps its inode, else it gets another. ``owner``: who all files belong to, whatever the tree
    says (an ordinary account could not read them otherwise).
    """
    os.makedirs(folder, exist_ok=True)
    old = before or {}
    for path in sorted(old, reverse=True):
        node = tree.get(path)
        if node is None or node.kind != old[path].kind or (node != old[path] and node.kind != "dir" and not in_place):
            _remove(os.path.join(folder, path))
    for path in sorted(tree, key=lambda p: (tree[p].kind == "hardlink", p)):
        where, node = os.path.join(folder, path), tree[path]
        if node.kind == "hardlink":
            first = os.path.join(folder, node.link)
            if not os.path.lexists(where) or not os.path.samestat(os.lstat(where), os.lstat(first)):
                if os.path.lexists(where):
                    _remove(where)
                os.link(first, where)
        elif node != old.get(path) or not os.path.lexists(where):
            _make(where, node)
            _dress(where, node, node.owner if owner is None else (owner, owner))
    # Names that were made or removed changed the times of the folders around them, links the times of nothing.
    for path in sorted(tree, reverse=True):
        if tree[path].kind != "hardlink":
            _set_time(os.path.join(folder, path), tree[path].mtime)
    if before is None:
        os.chown(folder, *((0, 0) if owner is None else (owner, owner)))
        os.chmod(folder, 0o755)
    _set_time(folder, Node("dir").mtime)


def _set_time(path: str, mtime: int) -> None:
    """Only where it is another: setting it gives a new ctime, and digests that are remembered count no more."""
    if os.lstat(path).st_mtime_ns != mtime * 1_000_000_000:
        os.utime(path, (mtime, mtime), follow_symlinks=False)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _make(path: str, node: Node) -> None:
    if node.kind == "dir":
        os.makedirs(path, exist_ok=True)
    elif node.kind == "symlink":
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(node.link, path)
    elif node.kind == "fifo":
        if not os.path.lexists(path):
            os.mkfifo(path)
    else:
        with open(path, "r+b" if os.path.lexists(path) else "wb") as f:
            f.truncate(0)
            f.write(node.data)


def _dress(path: str, node: Node, owner: tuple[int, int]) -> None:
    os.chown(path, *owner, follow_symlinks=False)
    if node.kind == "symlink":
        return
    wanted = dict(node.xattrs)
    for name in os.listxattr(path):
        if name not in wanted:
            os.removexattr(path, name)
    for name, value in wanted.items():
        os.setxattr(path, name, value)
    os.chmod(path, node.mode)  # after chown, which takes setuid bits away


def show(tree: Tree) -> str:
    """A line for each name, for people."""
    lines = []
    for path, n in sorted(tree.items()):
        what = {
            "file": f"{len(n.data)} bytes {n.data[:40]!r}", "dir": "folder", "symlink": f"-> {n.link!r}",
            "hardlink": f"hard link to {n.link!r}", "fifo": "fifo",
        }[n.kind]  # fmt: skip
        about = "" if n.kind in ("symlink", "hardlink") else f" {n.mode:04o} {n.owner[0]}:{n.owner[1]}"
        marks = "".join(f" {name}={value!r}" for name, value in n.xattrs)
        lines.append(f"  {path!r}{about} {what}{marks} mtime={n.mtime}")
    return "\n".join(lines)


def mtime_of(node: Node) -> Node:
    """The node with a time that its content gives it: equal files have equal times, so that a hit by content is no difference."""
    if node.kind in ("dir", "hardlink"):
        return node
    content = zlib.crc32(node.data + node.link.encode("utf-8", "surrogateescape"))
    return replace(node, mtime=1_500_000_000 + content % 50_000_000)
