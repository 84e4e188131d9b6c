"""Digests of the files of a tree: from the stat cache where it knows them, else by reading them."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator

from builder.files.statcache import Known, StatCache, folder_key, is_racy
from builder.files.tree import ChangedError, Node, Tree
from builder.oci.digest import framed
from builder.state import threads
from builder.state.cancel import checkpoint

_CHUNK = 1 << 20
_SMALL = 1 << 16
_PARALLEL_BYTES = 16 << 20
_TRIES = 5
_TARSUM = b"namemode%duid%dgid%dsize%dtypeflag%clinkname%bunamegnamedevmajor%ddevminor%d"
"""BuildKit's WriteV1TarsumHeaders. The size says where the bytes begin that follow, so no two files share all of it."""
_TYPEFLAGS = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


def recursive_digest(tree: Tree, node: Node, stat_cache: StatCache | None) -> bytes:
    """Digest of a file, or of a folder with everything in it."""
    if not node.is_dir:
        ensure_hashed(tree, [node], stat_cache)
        assert node.digest is not None
        return node.digest
    ensure_hashed(tree, tree.walk(node), stat_cache)
    return _fold(tree, node)


def _fold(tree: Tree, top: Node) -> bytes:
    """Digest of a folder whose files have theirs: of its own and of each name with what has that name."""
    folders = [_begun(tree, top)]
    while True:
        kids, parts = folders[-1]
        for name, kid in kids:
            # A name holds no NUL and the rest has 71 bytes: framed.
            parts.append(b"\0%bsha256:" % name.encode("utf-8", "surrogateescape"))
            if kid.is_dir:
                folders.append(_begun(tree, kid))
                break
            assert kid.digest is not None
            parts.append(kid.digest.hex().encode())
        else:
            digest = hashlib.sha256(b"".join(parts))
            folders.pop()
            if not folders:
                return digest.digest()
            folders[-1][1].append(digest.hexdigest().encode())


def _begun(tree: Tree, folder: Node) -> tuple[Iterator[tuple[str, Node]], list[bytes]]:
    assert folder.digest is not None
    return iter(tree.children(folder).items()), [b"\0sha256:", folder.digest.hex().encode()]


def ensure_hashed(tree: Tree, nodes: Iterable[Node], stat_cache: StatCache | None = None) -> None:
    """Give every node its ``digest``: of a file with its bytes, of a folder its metadata alone.

    Digests come from ``stat_cache`` where the stat is known there; what is computed is put there in one transaction.
    """
    open_nodes = [n for n in nodes if n.digest is None]
    if not open_nodes:
        return
    if stat_cache is None:
        _hash_all(tree, open_nodes)
        return
    by_folder: dict[Node, list[Node]] = {}
    for node in open_nodes:
        parent = node.parent
        if parent is None:
            hash_node(tree, node)
        elif parent in by_folder:
            by_folder[parent].append(node)
        else:
            by_folder[parent] = [node]
    keys = {folder: folder_key(folder.st.st_dev, folder.st.st_ino, tree.reset_owner) for folder in by_folder}
    known = stat_cache.load(keys.values())
    dirty: dict[Node, list[Node]] = {}
    for folder, members in by_folder.items():
        row = known.get(keys[folder])
        lost = members if row is None else _lookup(row, folder.st.st_dev, members)
        if lost:
            dirty[folder] = lost
    if dirty:
        _hash_all(tree, [node for lost in dirty.values() for node in lost])
        _remember(stat_cache, known, keys, dirty)


def _lookup(row: Known, device: int, members: list[Node]) -> list[Node]:
    """Give members their digests; those whose stat the row does not have are returned."""
    lost: list[Node] = []
    get = row.get
    for node in members:
        st = node.st
        hit = get(st.st_ino)
        # Files of another device (a mount in the context) may have the inode number of one in this row.
        if (
            hit is not None
            and hit[2] == st.st_ctime_ns
            and hit[1] == st.st_mtime_ns
            and hit[0] == st.st_size
            and st.st_dev == device
        ):
            node.digest = hit[3]
        else:
            lost.append(node)
    return lost


def _remember(stat_cache: StatCache, known: dict[bytes, Known], keys: dict[Node, bytes], dirty: dict[Node, list[Node]]) -> None:
    """Rows of the folders with new digests. Where the whole folder was seen, files that are gone leave its row."""
    rows: dict[bytes, Known] = {}
    for folder, members in dirty.items():
        row = dict(known.get(keys[folder], {}))
        if folder.kids is not None:
            alive = {kid.st.st_ino for kid in folder.kids.values()}
            row = {ino: r for ino, r in row.items() if ino in alive}
        for node in members:
            st = node.st
            if node.racy or st.st_dev != folder.st.st_dev:
                row.pop(st.st_ino, None)
            elif node.digest is not None:
                row[st.st_ino] = (st.st_size, st.st_mtime_ns, st.st_ctime_ns, node.digest)
        if row and row != known.get(keys[folder]):
            rows[keys[folder]] = row
    if rows:
        stat_cache.store(rows)


def _hash_all(tree: Tree, nodes: list[Node]) -> None:
    """Hash files. Many bytes are shared out to threads (sha256 works without the interpreter's lock), many small files are not."""
    if sum(n.st.st_size for n in nodes if n.is_file) < _PARALLEL_BYTES:
        for node in nodes:
            hash_node(tree, node)
        return
    big = sorted((n for n in nodes if n.st.st_size > _SMALL), key=lambda n: n.st.st_size)
    threads.run([_hasher(tree, n) for n in reversed(big)], min(os.cpu_count() or 1, 8))
    for node in nodes:
        if node.digest is None:
            hash_node(tree, node)


def _hasher(tree: Tree, node: Node) -> Callable[[], None]:
    return lambda: hash_node(tree, node)


def hash_node(tree: Tree, node: Node) -> None:
    """Read one file. If it changes meanwhile it is read again, a few times."""
    checkpoint()
    for _ in range(_TRIES):
        now = time.time_ns()
        try:
            digest = _entry(tree, node)
        except ChangedError:
            if node.pinned:
                raise
            continue
        node.racy = is_racy(node.st, now)
        node.digest = digest
        return
    raise ChangedError(node.path)


def _entry(tree: Tree, node: Node) -> bytes:
    """Digest of metadata and bytes. ChangedError if the file changed while it was read."""
    if not stat.S_ISREG(node.st.st_mode):
        link = tree.readlink(node) if node.is_link else ""
        # The root of a context is not sent, and counts as nothing; it is a fixed one anyway (``mode``, ``owner``).
        sent = node is not tree.root or tree.root_time_ns is None
        return hashlib.sha256(_header(tree, node, link, tree.xattrs(node)) if sent else b"").digest()
    fd = tree.open(node)
    try:
        digest = hash_open(tree, node, fd, tree.xattrs(node, fd))
        st = os.stat(fd)
        if st.st_ctime_ns != node.st.st_ctime_ns or st.st_size != node.st.st_size or st.st_mtime_ns != node.st.st_mtime_ns:
            raise ChangedError(node.path)
        return digest
    finally:
        os.close(fd)


def hash_open(tree: Tree, node: Node, fd: int, xattrs: list[tuple[str, bytes]]) -> bytes:
    """Digest of a regular file whose bytes are read from ``fd``, which may be a copy."""
    h = hashlib.sha256(_header(tree, node, "", xattrs))
    size = node.st.st_size
    if size:
        os.lseek(fd, 0, os.SEEK_SET)
        while chunk := os.read(fd, min(size + 1, _CHUNK)):
            checkpoint()
            h.update(chunk)
    return h.digest()


def _header(tree: Tree, node: Node, link: str, xattrs: list[tuple[str, bytes]]) -> bytes:
    mode = tree.mode(node)
    kind = stat.S_IFMT(mode)
    uid, gid = tree.owner(node)
    # BuildKit hashes every link as 0777: its own bits differ between systems and mean nothing.
    bits = 0o777 if kind == stat.S_IFLNK else stat.S_IMODE(mode)
    size = node.st.st_size if kind == stat.S_IFREG and node.is_file else 0
    device = node.st.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    to = link.encode("utf-8", "surrogateescape")
    major, minor = os.major(device), os.minor(device)
    plain = _TARSUM % (bits, uid, gid, size, _TYPEFLAGS[kind], to, major, minor)
    counted = [x for x in xattrs if x[0] == "security.capability" or not x[0].startswith(("security.", "system."))]
    # BuildKit writes names and values of attributes one after another: two files could share bytes. These have a form of our own.
    return framed(framed(plain, *(part for x in counted for part in x))) if counted else plain
