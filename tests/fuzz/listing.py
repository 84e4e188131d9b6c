"""What a result holds, read by no line of pybuild: an image's layers laid over one another, a tar, a folder."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Mapping
from typing import IO

from builder.values import dataclass, fields, replace
from tests.support.oci import Image


@dataclass(frozen=True)
class Item:
    """A name. ``same`` is the first name of the inode where it has several; ``mtime`` in whole seconds."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    digest: str = ""
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    same: str = ""


Listing = Mapping[str, Item]


def of_image(image: Image) -> Listing:
    """The layers laid over one another (image-spec, layer.md)."""
    tree: dict[str, Item] = {}
    inodes: dict[str, object] = {}
    for layer in image.layers:
        _lay(io.BytesIO(layer), tree, inodes)
    return _linked(tree, inodes)


def of_tar(path: str) -> Listing:
    tree: dict[str, Item] = {}
    inodes: dict[str, object] = {}
    with open(path, "rb") as f:
        _lay(f, tree, inodes, whiteouts=False)
    return _linked(tree, inodes)


def of_folder(top: str) -> Listing:
    """A folder on disk; the top itself is no name of it."""
    found: dict[str, os.stat_result] = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            found[os.path.relpath(path, top)] = os.lstat(path)
    inodes: dict[int, list[str]] = {}
    for path, st in sorted(found.items()):
        if not stat.S_ISDIR(st.st_mode):
            inodes.setdefault(st.st_ino, []).append(path)
    out = {}
    for path, st in found.items():
        where = os.path.join(top, path)
        kind = _kind_of_mode(st.st_mode)
        names = inodes.get(st.st_ino, [])
        out[path] = Item(
            kind,
            stat.S_IMODE(st.st_mode),
            (st.st_uid, st.st_gid),
            int(st.st_mtime),
            digest=_digest_of(where) if kind == "file" else "",
            link=os.readlink(where) if kind == "symlink" else "",
            device=(os.major(st.st_rdev), os.minor(st.st_rdev)) if kind in ("char", "block") else (0, 0),
            xattrs=tuple(
                sorted((n, os.getxattr(where, n, follow_symlinks=False)) for n in os.listxattr(where, follow_symlinks=False))
            ),
            same=names[0] if len(names) > 1 else "",
        )
    return out


def differences(left: Listing, right: Listing, most: int = 12) -> list[str]:
    """A line for each value that differs, ``path: field: left | right``."""
    out = []
    for path in sorted({*left, *right}):
        a, b = left.get(path), right.get(path)
        if a == b:
            continue
        if a is None or b is None:
            out.append(f"{path!r}: {a.kind if a else 'absent'} | {b.kind if b else 'absent'}")
            continue
        for name in (f.name for f in fields(Item)):
            x, y = getattr(a, name), getattr(b, name)
            if x != y:
                out.append(f"{path!r}: {name}: {x:04o} | {y:04o}" if name == "mode" else f"{path!r}: {name}: {x!r} | {y!r}")
    return out if len(out) <= most else [*out[:most], f"... and {len(out) - most} more"]


def _lay(layer: IO[bytes], tree: dict[str, Item], inodes: dict[str, object], *, whiteouts: bool = True) -> None:
    """Lay one tar over ``tree``; ``inodes`` says which names are one file. Whiteouts are for what lower layers brought."""
    lower = set(tree)
    with tarfile.open(fileobj=layer) as tar:
        for info in tar:
            path = info.name.strip("/").removeprefix("./")
            folder, name = os.path.split(path)
            if path in ("", "."):
                continue
            if whiteouts and name == ".wh..wh..opq":
                _forget(tree, [p for p in lower if p.startswith(folder + "/")])
            elif whiteouts and name.startswith(".wh."):
                gone = os.path.join(folder, name[4:])
                _forget(tree, [p for p in lower if p == gone or p.startswith(gone + "/")])
            elif info.islnk():
                target = info.linkname.strip("/").removeprefix("./")
                tree[path], inodes[path] = tree[target], inodes[target]
                lower.discard(path)
            else:
                if not info.isdir():
                    _forget(
                        tree, [p for p in tree if p.startswith(path + "/")] if path in tree and tree[path].kind == "folder" else []
                    )
                f = tar.extractfile(info) if info.isfile() else None
                tree[path], inodes[path] = _item(info, f.read() if f else b""), object()
                lower.discard(path)


def _forget(tree: dict[str, Item], paths: list[str]) -> None:
    for path in paths:
        tree.pop(path, None)


def _linked(tree: dict[str, Item], inodes: dict[str, object]) -> Listing:
    groups: dict[int, list[str]] = {}
    for path in sorted(tree):
        groups.setdefault(id(inodes[path]), []).append(path)
    return {
        path: replace(item, same=groups[id(inodes[path])][0] if len(groups[id(inodes[path])]) > 1 else "")
        for path, item in tree.items()
    }


def _item(info: tarfile.TarInfo, data: bytes) -> Item:
    return Item(
        _kind_of_tar(info),
        info.mode & 0o7777,
        (info.uid, info.gid),
        int(info.mtime),
        digest=hashlib.sha256(data).hexdigest() if info.isfile() else "",
        link=info.linkname if info.issym() else "",
        device=(info.devmajor, info.devminor) if info.isdev() and not info.isfifo() else (0, 0),
        xattrs=tuple(sorted(_xattrs(info))),
    )


def _xattrs(info: tarfile.TarInfo) -> list[tuple[str, bytes]]:
    prefix = "SCHILY.xattr."
    return [
        (k.removeprefix(prefix), v.encode("utf-8", "surrogateescape")) for k, v in info.pax_headers.items() if k.startswith(prefix)
    ]


def _kind_of_tar(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issym():
        return "symlink"
    if info.isfifo():
        return "fifo"
    return "char" if info.ischr() else "block" if info.isblk() else "file"


def _kind_of_mode(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}
    return kinds.get(stat.S_IFMT(mode), "socket" if stat.S_ISSOCK(mode) else "file")


def _digest_of(path: str) -> str:
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def of_layer(data: bytes) -> Listing:
    """One layer's own members, whiteouts as the names that they have."""
    tree: dict[str, Item] = {}
    inodes: dict[str, object] = {}
    _lay(io.BytesIO(data), tree, inodes, whiteouts=False)
    return _linked(tree, inodes)
