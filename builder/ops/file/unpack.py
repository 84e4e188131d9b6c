"""ADD of a local archive: is it one, and its files into the destination (moby's archive.Untar in a chroot of the destination).

The destination folder is the root of everything the archive can name: ``..`` stops there, absolute names and links begin there.
What an archive's member finds in its place is removed, unless both are folders. Whiteout names mean nothing here.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator

from builder.errors import LayerError, PybuildError
from builder.files.copy import set_xattrs
from builder.files.tar.entry import BLOCK, CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry
from builder.files.tar.reader import TarReader
from builder.files.tree import ChangedError, Node, Tree
from builder.ops.file.dest import Destination, lstat_at, remove_at
from builder.ops.file.errors import FileActionError
from builder.text.paths import clean
from runtime.linux.safepath import open_in_root

_CHUNK = 1 << 20
_IMPLIED_MODE = 0o755
_MAX_TIME_NS = (1 << 63) - 1

Ids = tuple[int, int]


def unpack(tree: Tree, source: str, root: Destination, dest: str, owner: Ids | None, time_ns: int | None) -> bool:
    """False if ``source`` is no archive: it is to be copied then. ``owner`` and ``time_ns`` are for folders made on the way;
    ``owner`` also replaces the archive's owners. FileActionError for a damaged archive.
    """
    _, node = tree.lookup(source, follow_last=True)
    if node is None or not node.is_file or not is_archive(tree, node):
        return False
    at = root.resolve(dest)
    root.make_folders(at, 0o755, owner, time_ns)
    folder = root.open_folder(at)
    try:
        with Destination(f"/proc/self/fd/{folder}") as inner:
            fd = tree.open(node)
            try:
                _Unpacker(inner, owner).run(TarReader(_bytes(fd)))
                _check_unchanged(tree, node, fd)
            except LayerError as e:
                raise FileActionError(f"failed to unpack {source}: {e}") from e
            finally:
                os.close(fd)
    finally:
        os.close(folder)
    node.used = True
    return True


def is_archive(tree: Tree, node: Node) -> bool:
    """A regular file, compressed or not, that begins with a member's header. An archive without members is none."""
    fd = tree.open(node)
    try:
        return next(iter(TarReader(_bytes(fd))), None) is not None
    except (PybuildError, EOFError, OSError, ValueError):
        return False
    finally:
        os.close(fd)


def _check_unchanged(tree: Tree, node: Node, fd: int) -> None:
    st = os.stat(fd)
    if st.st_ctime_ns != node.st.st_ctime_ns or st.st_size != node.st.st_size:
        raise ChangedError(node.path)


def _bytes(fd: int) -> Iterator[bytes]:
    """The uncompressed bytes; compression is told by the first bytes alone."""
    start = os.pread(fd, 10, 0)
    chunks = _read(fd)
    if start.startswith(b"BZh"):
        return _bunzip(chunks)
    if start.startswith(b"\xfd7zXZ\x00"):
        return _unxz(chunks)
    from builder.content.compression import NONE, decompress, sniff

    kind = sniff(start)
    return chunks if kind == NONE else decompress(chunks, kind)


def _read(fd: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(fd, _CHUNK, at):
        at += len(chunk)
        yield chunk


def _bunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import bz2

    engine: bz2.BZ2Decompressor | None = None
    for chunk in chunks:
        data = chunk
        while data:
            engine = engine or bz2.BZ2Decompressor()
            yield engine.decompress(data)
            data = engine.unused_data if engine.eof else b""
            if engine.eof:
                engine = None
    if engine is not None:
        raise LayerError("the compressed data is cut off")


def _unxz(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import lzma

    engine: lzma.LZMADecompressor | None = None
    for chunk in chunks:
        data = chunk
        while data:
            if engine is None:
                data = data.lstrip(b"\0")  # padding between streams
                if not data:
                    break
                engine = lzma.LZMADecompressor(lzma.FORMAT_XZ)
            try:
                yield engine.decompress(data)
            except lzma.LZMAError as e:
                raise LayerError(f"the compressed data is damaged: {e}") from e
            data = engine.unused_data if engine.eof else b""
            if engine.eof:
                engine = None
    if engine is not None:
        raise LayerError("the compressed data is cut off")


class _Unpacker:
    def __init__(self, root: Destination, owner: Ids | None) -> None:
        self._root = root
        self._owner = owner
        self._folders: list[tuple[str, int]] = []

    def run(self, reader: TarReader) -> None:
        for entry in reader:
            name = clean(entry.name)
            path = clean("/" + name)
            if path == "/":
                # "." is passed over, other ways to say it give the folder the member's metadata.
                if name != "." and entry.type == DIR:
                    self._finish_root(entry)
                continue
            head, last = posixpath.split(path)
            folder = self._enter(head, last)
            try:
                self._put(reader, entry, folder, last, path)
            finally:
                os.close(folder)
        for path, time_ns in self._folders:
            self._set_folder_time(path, time_ns)

    def _enter(self, path: str, name: str) -> int:
        """The folder the member ``name`` lies in, through links inside the root; made (root's, 0755) where the archive has no entry
        for it."""
        try:
            return open_in_root(self._root.fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            self._refuse_dangling(path, name)
            at = self._root.resolve(path)
            self._root.make_folders(at, _IMPLIED_MODE, (0, 0), None)
            return self._root.open_folder(at)

    def _refuse_dangling(self, path: str, name: str) -> None:
        """A link that leads nowhere is no folder, and nothing is made where it leads to (moby's lstat of the parent)."""
        end = path.find("/", 1)
        while True:
            part = path if end < 0 else path[:end]
            try:
                os.close(open_in_root(self._root.fd, part, os.O_PATH))
            except FileNotFoundError:
                try:
                    os.close(open_in_root(self._root.fd, part, os.O_PATH | os.O_NOFOLLOW))
                except FileNotFoundError:
                    return
                text = f"open {path}/{name}: no such file or directory" if end < 0 else f"mkdir {part}: file exists"
                raise FileActionError(text) from None
            end = path.find("/", end + 1)

    def _put(self, reader: TarReader, entry: Entry, folder: int, name: str, path: str) -> None:
        there = lstat_at(folder, name)
        if there is not None and not (stat.S_ISDIR(there.st_mode) and entry.type == DIR):
            remove_at(folder, name)
            there = None
        if entry.type == REG:
            self._file(reader, entry, folder, name)
        elif entry.type == DIR:
            if there is None:
                os.mkdir(name, 0o700, dir_fd=folder)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                self._finish(entry, fd)
            finally:
                os.close(fd)
            self._folders.append((path, _bound(entry.mtime_ns)))
        elif entry.type == SYMLINK:
            os.symlink(entry.linkname, name, dir_fd=folder)
            self._finish_other(entry, folder, name)
        elif entry.type == LINK:
            self._link(entry, folder, name)
        elif entry.type in (CHAR, BLOCK, FIFO):
            os.mknod(name, entry.format | 0o600, os.makedev(entry.devmajor, entry.devminor), dir_fd=folder)
            self._finish_other(entry, folder, name)

    def _file(self, reader: TarReader, entry: Entry, folder: int, name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            for offset, piece in reader.extents():
                while piece:
                    written = os.pwrite(fd, piece, offset)
                    offset += written
                    piece = piece[written:]
            if entry.sparse is not None:
                os.ftruncate(fd, entry.size)
            self._finish(entry, fd)
        finally:
            os.close(fd)

    def _link(self, entry: Entry, folder: int, name: str) -> None:
        """A hard link names its target from the top of the archive; links on the way are followed inside, the last is not."""
        target = clean("/" + entry.linkname)
        head, last = posixpath.split(target)
        try:
            source = open_in_root(self._root.fd, head, os.O_PATH | os.O_DIRECTORY)
            try:
                os.link(last, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(source)
        except OSError as e:
            raise FileActionError(f"link {target} {clean('/' + entry.name)}: {(e.strerror or '').lower()}") from e
        self._finish_other(entry, folder, name)

    def _finish_root(self, entry: Entry) -> None:
        fd = self._root.open_folder("")
        try:
            self._finish(entry, fd)
        finally:
            os.close(fd)
        self._folders.append(("/", _bound(entry.mtime_ns)))

    def _finish(self, entry: Entry, fd: int) -> None:
        os.fchown(fd, *(self._owner or (entry.uid, entry.gid)))
        set_xattrs(fd, list(entry.xattrs.items()))
        os.fchmod(fd, stat.S_IMODE(entry.mode))
        time_ns = _bound(entry.mtime_ns)
        os.utime(fd, ns=(time_ns, time_ns))

    def _finish_other(self, entry: Entry, folder: int, name: str) -> None:
        """What is not opened: links, devices, fifos, and names of what is there already."""
        os.chown(name, *(self._owner or (entry.uid, entry.gid)), dir_fd=folder, follow_symlinks=False)
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            at = f"/proc/self/fd/{handle}"
            if entry.xattrs:
                set_xattrs(at, list(entry.xattrs.items()))
            if not stat.S_ISLNK(os.stat(handle).st_mode):
                os.chmod(at, stat.S_IMODE(entry.mode))
        finally:
            os.close(handle)
        time_ns = _bound(entry.mtime_ns)
        os.utime(name, ns=(time_ns, time_ns), dir_fd=folder, follow_symlinks=False)

    def _set_folder_time(self, path: str, time_ns: int) -> None:
        try:
            fd = open_in_root(self._root.fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return  # a later member took its place
        try:
            os.utime(fd, ns=(time_ns, time_ns))
        finally:
            os.close(fd)


def _bound(time_ns: int) -> int:
    """Times before 1970 or past 2262 count as 1970, as in moby."""
    return time_ns if 0 <= time_ns <= _MAX_TIME_NS else 0
