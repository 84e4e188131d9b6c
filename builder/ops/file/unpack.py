"""ADD of a local archive: is it one, and its files into the destination (moby's archive.Untar in a chroot of the destination).

The destination folder is the root of everything the archive can name: ``..`` stops there, absolute names and links begin there.
What an archive's member finds in its place is removed, unless both are folders. Whiteout names mean nothing here.

An archive ends with its end mark, or between two members: nothing behind it is read, whatever it is compressed with. So a download
that lost its last bytes (a checksum, padding) is unpacked, as in moby, and one that lost files is an error: its first member makes
it an archive, what is missing of a later one fails the step. Cut off within the first block of a compression it shows no member,
and is copied as a file.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator

from builder.content.archives import unpacked
from builder.errors import LayerError, RefusedLayerError
from builder.files.members import bounded, finish, make_node, write_data
from builder.files.owners import current
from builder.files.tar.entry import BLOCK, CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry
from builder.files.tar.reader import TarReader
from builder.files.tree import ChangedError, Node, Tree
from builder.files.trees import name_of
from builder.files.xattrs import set_what_can_be
from builder.ops.file.dest import Destination, lstat_at, remove_at
from builder.ops.file.errors import FileActionError
from builder.state.cancel import checkpoint
from builder.text.paths import clean
from runtime.linux.safepath import open_in_root

_CHUNK = 1 << 20
_IMPLIED_MODE = 0o755

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
                _Unpacker(inner, owner).run(TarReader(unpacked(_read(fd))))
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
    """A regular file, compressed or not, that begins with a member's header. An archive without members is none, nor is one that is
    cut off before it has one. UnsupportedError where it can't be known: a compression that wants too much memory."""
    fd = tree.open(node)
    try:
        return next(TarReader(unpacked(_read(fd))).members(), None) is not None
    except RefusedLayerError:
        return True  # it is one, and will be refused: it must not be copied as it is
    except (LayerError, OSError):
        return False
    finally:
        os.close(fd)


def _check_unchanged(tree: Tree, node: Node, fd: int) -> None:
    st = os.stat(fd)
    if st.st_ctime_ns != node.st.st_ctime_ns or st.st_size != node.st.st_size:
        raise ChangedError(node.path)


def _read(fd: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(fd, _CHUNK, at):
        at += len(chunk)
        yield chunk


class _Unpacker:
    def __init__(self, root: Destination, owner: Ids | None) -> None:
        self._root = root
        self._owner = owner
        self._folders: list[tuple[str, int]] = []

    def run(self, reader: TarReader) -> None:
        for entry in reader.members():
            checkpoint()
            try:
                self._member(reader, entry)
            except OverflowError:
                raise entry.no_such_owner() from None
        for path, time_ns in self._folders:
            self._set_folder_time(path, time_ns)

    def _member(self, reader: TarReader, entry: Entry) -> None:
        name = clean(entry.name)
        path = clean("/" + name)
        if path == "/":
            # "." is passed over, other ways to say it give the folder the member's metadata.
            if name != "." and entry.type == DIR:
                self._finish_root(entry)
            return
        head, last = posixpath.split(path)
        folder = self._enter(head, last)
        try:
            self._put(reader, entry, folder, last, path)
        finally:
            os.close(folder)

    def _enter(self, path: str, name: str) -> int:
        """The folder the member ``name`` lies in, through links inside the root; made (root's, 0755) where the archive has no entry
        for it."""
        missing, end = "", len(path)
        while True:
            try:
                fd = open_in_root(self._root.fd, path[:end], os.O_RDONLY | os.O_DIRECTORY)
                break
            except FileNotFoundError:
                missing, end = path[:end], path.rfind("/", 0, end)
        if not missing:
            return fd
        try:
            self._refuse_dangling(missing, path, name)
            with Destination(name_of(fd)) as base:
                rest = path[end + 1 :]
                base.make_folders(rest, _IMPLIED_MODE, (0, 0), None)
                return base.open_folder(rest)
        finally:
            os.close(fd)

    def _refuse_dangling(self, missing: str, path: str, name: str) -> None:
        """A link that leads nowhere is no folder, and nothing is made where it leads to (moby's lstat of the parent)."""
        try:
            os.close(open_in_root(self._root.fd, missing, os.O_PATH | os.O_NOFOLLOW))
        except FileNotFoundError:
            return
        text = f"open {path}/{name}: no such file or directory" if missing == path else f"mkdir {missing}: file exists"
        raise FileActionError(text)

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
            self._folders.append((path, bounded(entry.mtime_ns)))
        elif entry.type == LINK:
            self._link(entry, folder, name)
        elif entry.type in (SYMLINK, CHAR, BLOCK, FIFO):
            if entry.type == CHAR and entry.devmajor == entry.devminor == 0:
                raise FileActionError(f"mknod {path}: operation not permitted")  # by overlayfs, for which it hides a file
            make_node(entry, folder, name)
            self._finish_other(entry, folder, name)

    def _file(self, reader: TarReader, entry: Entry, folder: int, name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            write_data(fd, entry, reader)
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
        self._folders.append(("/", bounded(entry.mtime_ns)))

    def _finish(self, entry: Entry, fd: int) -> None:
        finish(fd, entry, self._owner or (entry.uid, entry.gid), set_what_can_be)

    def _finish_other(self, entry: Entry, folder: int, name: str) -> None:
        """What is not opened: links, devices, fifos, and names of what is there already."""
        owners = current()
        owners.chown(name, *(self._owner or (entry.uid, entry.gid)), dir_fd=folder, follow_symlinks=False)
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            at = f"/proc/self/fd/{handle}"
            if entry.xattrs:
                set_what_can_be(at, entry.xattrs)
            if not stat.S_ISLNK(os.stat(handle).st_mode):
                owners.chmod(at, stat.S_IMODE(entry.mode))
        finally:
            os.close(handle)
        time_ns = bounded(entry.mtime_ns)
        os.utime(name, ns=(time_ns, time_ns), dir_fd=folder, follow_symlinks=False)

    def _set_folder_time(self, path: str, time_ns: int) -> None:
        """Of whatever has the folder's name by now, as in moby: a later member may have taken its place, or a place above."""
        try:
            handle = open_in_root(self._root.fd, path, os.O_PATH)
        except OSError as e:
            raise FileActionError(f"chtimes {path}: {(e.strerror or '').lower()}") from e
        try:
            os.utime(f"/proc/self/fd/{handle}", ns=(time_ns, time_ns))
        finally:
            os.close(handle)
