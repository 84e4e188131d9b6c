"""The applier: a layer tar -> the files of that layer alone, in a folder of their own (a lower folder of an overlay).

Rules, as containerd's applier has them with the overlay snapshotter (pkg/archive/tar.go), whatever snapshotter is used here:

- A parent folder is looked up among the entries of this layer only. ``lib/x`` in a layer without an entry ``lib`` makes a
  folder ``lib`` in this layer, also where a lower layer has ``lib -> usr/lib``: the folder then hides the link. So layers do
  not depend on what is below them and can be unpacked side by side, with two exceptions: such an implied folder takes owner,
  mode, times and attributes of the lower folder of that name; a hard link may name a file of a lower layer, which is
  copied up then. Both raise NeedsParent while the parent is not there. Layers of common builders have an entry for every
  folder they touch, so this is rare.
- Symbolic links made by this layer are followed inside its folder, "/" and ".." do not lead out of it (openat2).
- Whiteouts hide what is in lower layers, never entries of the same layer, in whatever order they come (OCI image-spec
  layer.md); a folder that is whited out and made anew is opaque. They are collected and made at the end.
- An entry replaces what an earlier one of the same name made, only a folder over a folder keeps its content.
- Times of folders are set at the end; an entry for the root itself is ignored.

Hostile or malformed: LayerError. Disk full, no permission: StoreError. The folder is the caller's to delete then. It must be
empty and out of reach of anybody else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable

from builder.errors import LayerError, StoreError
from builder.files.members import bounded, finish, make_node, write_data
from builder.files.owners import REAL, current
from builder.files.tar.entry import BLOCK, CHAR, DIR, LINK, REG, SYMLINK, Entry
from builder.files.tar.reader import Limits, TarReader
from builder.files.trees import name_of, remove_tree
from builder.files.types import NeedsParent, Unpacked
from builder.files.xattrs import copy_xattrs, set_xattrs
from builder.state.cancel import checkpoint
from builder.state.disk import store_error
from builder.values import dataclass
from runtime.errors import UnsafePathError
from runtime.linux import safepath
from runtime.linux.userns import in_user_namespace

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_BLOCK = 4096
_FDS = 64
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The layer's own fault; everything else is the disk's or ours.
_LAYER_ERRNOS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EMLINK, errno.EILSEQ)


@dataclass(frozen=True, slots=True)
class _Where:
    """A folder of the layer: its path by real names, and a handle."""

    path: str
    fd: int


def unpack(
    chunks: Iterable[bytes],
    folder: str,
    *,
    bottom: bool,
    lower: Callable[[], str | None] = lambda: None,
    limits: Limits | None = None,
) -> Unpacked:
    """Unpack an uncompressed layer tar into the empty ``folder``. ``bottom``: there is nothing below, whiteouts mean nothing.
    ``lower`` is asked for the mounted parent if that is needed; None where it is not there yet: NeedsParent.

    The stream is read to its end, also before NeedsParent.
    """
    reader = TarReader(chunks, limits)
    applier = _Applier(folder, bottom, lower)
    try:
        for entry in reader:
            checkpoint()
            try:
                applier.entry(entry, reader)
            except OSError as e:
                raise _fault(entry.name, e) from e
            except UnsafePathError as e:
                raise LayerError(f"{entry.name}: {e}") from None
            except OverflowError:
                raise entry.no_such_owner() from None
            except NeedsParent:
                for _ in reader:
                    pass
                raise
        try:
            return applier.finish()
        except OSError as e:
            raise _fault(os.fsdecode(e.filename) if e.filename else "", e) from e
    finally:
        applier.close()


def clean(name: str) -> str:
    """``name`` without empty, ``.`` and ``..`` parts, by text as Go's filepath.Clean; LayerError if it leads out of the root.
    An absolute name counts from the root of the layer: "" is the root."""
    if ".." not in name and "//" not in name and "./" not in name and name[:1] != "/" and name[-2:] != "/.":
        return name[:-1] if name[-1:] == "/" else name if name != "." else ""
    done: list[str] = []
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            done.append(part)
        elif done:
            done.pop()
        else:
            raise LayerError(f"{name}: the path leads out of the layer")
    return "/".join(done)


class _Applier:
    """One layer on its way. Paths are relative to the layer's folder, "" is the folder itself."""

    def __init__(self, folder: str, bottom: bool, lower: Callable[[], str | None]) -> None:
        self._bottom = bottom
        self._lower = lower
        self._owners = current()
        self._root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folder = name_of(self._root)  # paths below it may be as long as the kernel takes
        self._dirs: set[str] = {""}  # real folders, all made by this layer
        self._times: dict[str, int] = {}
        self._implied: set[str] = set()
        self._whiteouts: set[str] = set()
        self._opaques: set[str] = set()
        self._where: dict[str, _Where] = {}  # folders as entries name them
        self._size = 0
        self._inodes = 0

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    def entry(self, entry: Entry, reader: TarReader) -> None:
        path = clean(entry.name)
        if not path:
            return
        folder, _, base = path.rpartition("/")
        where = self._where.get(folder) or self._enter(folder)
        if base.startswith(WHITEOUT):
            self._hide(entry.name, where, base)
        elif entry.type == REG:
            self._regular(entry, where, base, reader)
        else:
            self._special(entry, where, base)

    def finish(self) -> Unpacked:
        """Attributes of implied folders, opaque for whited-out folders, times."""
        if self._implied and not self._bottom:
            lower = self._lower()
            if lower is None:
                raise NeedsParent(f"the layer has no entry for its folder {min(self._implied)}")
            for path in sorted(self._implied):
                self._inherit(path, lower)
        for path in self._whiteouts & self._dirs:
            self._opaques.add(path)
        for path, mtime in self._times.items():
            os.utime(path, ns=(mtime, mtime), dir_fd=self._root, follow_symlinks=False)
        return Unpacked(self._size, self._inodes, frozenset(self._whiteouts), frozenset(self._opaques))

    # --- folders

    def _enter(self, folder: str) -> _Where:
        """The folder an entry names as its parent, made if need be."""
        path = self._resolve(folder)
        if path not in self._dirs:
            at = len(self._known_part(path))
            while at >= 0:
                at = path.find("/", at + 1)
                self._imply(path if at < 0 else path[:at])
        if len(self._where) >= _FDS:
            self._forget()
        where = _Where(path, safepath.open_in_root(self._root, path or ".", _HANDLE))
        self._where[folder] = where
        return where

    def _resolve(self, folder: str) -> str:
        """The path of real folders that ``folder`` leads to; what does not exist yet stays as it is."""
        if folder in self._dirs:
            return folder
        return safepath.resolve_in_root(self._folder, folder, known=self._known_part(folder))

    def _known_part(self, path: str) -> str:
        """The longest beginning of ``path`` that is a folder of this layer."""
        at = len(path)
        while at > 0 and path[:at] not in self._dirs:
            at = path.rfind("/", 0, at)
        return path[: max(at, 0)]

    def _imply(self, path: str) -> None:
        if path in self._dirs:
            return
        try:
            os.mkdir(path, 0o700, dir_fd=self._root)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        self._owners.chmod(path, 0o755, dir_fd=self._root)
        self._dirs.add(path)
        self._implied.add(path)
        self._count(_BLOCK)

    def _inherit(self, path: str, lower: str) -> None:
        source = os.path.join(lower, safepath.resolve_in_root(lower, path))
        try:
            status = self._owners.lstat(source)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(status.st_mode):
            target = os.path.join(self._folder, path)
            self._owners.chown(target, status.st_uid, status.st_gid)
            copy_xattrs(source, target)
            self._owners.chmod(target, stat.S_IMODE(status.st_mode))
            self._times.setdefault(path, status.st_mtime_ns)

    def _forget(self) -> None:
        """Close the handles: too many, or names may mean other folders now."""
        for where in self._where.values():
            os.close(where.fd)
        self._where.clear()

    # --- entries

    def _hide(self, name: str, where: _Where, base: str) -> None:
        hidden = base[len(WHITEOUT) :]
        if base == OPAQUE:
            if not where.path:
                raise LayerError(f"{name}: a layer can't hide the whole root")
            if not self._bottom:
                self._opaques.add(where.path)
        elif hidden in ("", ".", ".."):
            raise LayerError(f"{name}: a whiteout of nothing, or of a folder from inside")
        elif not self._bottom and not hidden.startswith(WHITEOUT):  # else: bookkeeping of aufs
            self._whiteouts.add(f"{where.path}/{hidden}" if where.path else hidden)

    def _regular(self, entry: Entry, where: _Where, base: str, reader: TarReader) -> None:
        try:
            fd = os.open(base, _NEW, 0o600, dir_fd=where.fd)
        except FileExistsError:
            where = self._replace(where, base)
            fd = os.open(base, _NEW, 0o600, dir_fd=where.fd)
        try:
            write_data(fd, entry, reader)
            finish(fd, entry, (entry.uid, entry.gid), set_xattrs)
        finally:
            os.close(fd)
        self._count(-(-entry.stored // _BLOCK) * _BLOCK)

    def _special(self, entry: Entry, where: _Where, base: str) -> None:
        if entry.type == LINK:
            where = self._link(entry, where, base)
        elif entry.type == DIR:
            where = self._directory(where, base)
            self._times[f"{where.path}/{base}" if where.path else base] = bounded(entry.mtime_ns)
        else:
            try:
                made = self._node(entry, where, base)
            except FileExistsError:
                where = self._replace(where, base)
                made = self._node(entry, where, base)
            if not made:
                return
            self._count(0)
        is_link = entry.type == SYMLINK
        owned = False
        if entry.type == LINK:
            status = self._owners.stat(base, dir_fd=where.fd, follow_symlinks=False)
            is_link = stat.S_ISLNK(status.st_mode)
            # chown would clear file capabilities, which only the first name's header may have.
            owned = (status.st_uid, status.st_gid) == (entry.uid, entry.gid)
        if not owned:
            self._owners.chown(base, entry.uid, entry.gid, dir_fd=where.fd, follow_symlinks=False)
        if entry.xattrs:
            set_xattrs(f"/proc/self/fd/{where.fd}/{base}", entry.xattrs)
        if not is_link:
            self._owners.chmod(base, entry.mode, dir_fd=where.fd)
        if entry.type != DIR:
            mtime = bounded(entry.mtime_ns)
            os.utime(base, ns=(mtime, mtime), dir_fd=where.fd, follow_symlinks=False)

    def _directory(self, where: _Where, base: str) -> _Where:
        path = f"{where.path}/{base}" if where.path else base
        self._implied.discard(path)
        if path in self._dirs:
            return where
        try:
            os.mkdir(base, 0o700, dir_fd=where.fd)
        except FileExistsError:
            where = self._replace(where, base)
            os.mkdir(base, 0o700, dir_fd=where.fd)
        self._dirs.add(path)
        self._count(_BLOCK)
        return where

    def _node(self, entry: Entry, where: _Where, base: str) -> bool:
        """A symbolic link, fifo or device; False for a device that this user namespace can't hold."""
        if entry.type == CHAR and entry.devmajor == entry.devminor == 0:
            raise LayerError(f"{entry.name}: character device 0:0 would be taken for a whiteout")
        try:
            make_node(entry, where.fd, base)
        except PermissionError:
            if entry.type in (CHAR, BLOCK) and in_user_namespace():
                return False  # nobody can make it there, and containerd leaves it out too
            raise
        return True

    def _link(self, entry: Entry, where: _Where, base: str) -> _Where:
        target = clean(entry.linkname)
        folder, _, name = target.rpartition("/")
        if not name:
            raise LayerError(f"{entry.name}: hard link to the root")
        resolved = self._resolve(folder)
        for _ in range(3):
            # A replacement closes handles, so both are looked up again each time.
            if resolved not in self._dirs:
                self._copy_up(entry, target)
            source = self._where.get(resolved) or self._enter(resolved)
            where = self._where.get(where.path) or self._enter(where.path)
            source = self._where.get(resolved) or self._enter(resolved)
            try:
                os.link(name, base, src_dir_fd=source.fd, dst_dir_fd=where.fd, follow_symlinks=False)
                return where
            except FileNotFoundError:
                self._copy_up(entry, target)
            except FileExistsError:
                if (source.path, name) == (where.path, base):
                    raise LayerError(f"{entry.name}: hard link to itself") from None
                where = self._replace(where, base)
            except PermissionError:
                # link(2) answers so for folders.
                raise LayerError(f"{entry.name}: hard link to {entry.linkname}, which can't be linked") from None
        raise LayerError(f"{entry.name}: hard link to {entry.linkname}, which is not there")

    def _copy_up(self, entry: Entry, target: str) -> None:
        """Bring the file of a lower layer into this one, as overlayfs does when a lower file gets a second name."""
        if self._bottom:
            raise LayerError(f"{entry.name}: hard link to {entry.linkname}, which is not there")
        lower = self._lower()
        if lower is None:
            raise NeedsParent(f"{entry.name} is a hard link to {entry.linkname} of a lower layer")
        folder, _, name = target.rpartition("/")
        source = os.path.join(lower, safepath.resolve_in_root(lower, target, follow_last=False))
        try:
            status = self._owners.lstat(source)
        except (FileNotFoundError, NotADirectoryError):
            raise LayerError(f"{entry.name}: hard link to {entry.linkname}, which is not there") from None
        if stat.S_ISDIR(status.st_mode):
            raise LayerError(f"{entry.name}: hard link to the folder {entry.linkname}")
        from builder.files.copying import copy_entry

        where = self._where.get(folder) or self._enter(folder)
        copy_entry(source, f"/proc/self/fd/{where.fd}/{name}", status)
        self._count(status.st_blocks * 512)

    def _replace(self, where: _Where, base: str) -> _Where:
        """Remove what an earlier entry made under this name. Handles are looked up anew: a folder or link may be gone."""
        path = f"{where.path}/{base}" if where.path else base
        if path in self._dirs:
            remove_tree(base, dir_fd=where.fd)
            below = path + "/"

            def gone(p: str) -> bool:
                return p == path or p.startswith(below)

            self._dirs = {p for p in self._dirs if not gone(p)}
            self._implied = {p for p in self._implied if not gone(p)}
            self._opaques = {p for p in self._opaques if not gone(p)}
            self._whiteouts = {p for p in self._whiteouts if not p.startswith(below)}
            self._times = {p: t for p, t in self._times.items() if not gone(p)}
        else:
            os.unlink(base, dir_fd=where.fd)
        self._forget()
        return self._enter(where.path)

    def _count(self, size: int) -> None:
        self._size += size
        self._inodes += 1


def _fault(name: str, e: OSError) -> LayerError | StoreError:
    if e.errno in _LAYER_ERRNOS:
        return LayerError(f"{name}: {e.strerror}")
    if e.errno == errno.ENOTSUP and current() is not REAL:
        return StoreError(
            f"can't unpack {name}: the file system of the state folder has no extended attributes to keep its owner in",
            hint="put the state folder on another file system: --root, PYBUILD_ROOT",
        )
    if e.errno == errno.EINVAL and in_user_namespace():
        return StoreError(
            f"can't unpack {name}: its owner is not among the ids of the user namespace",
            hint="grant more subordinate ids in /etc/subuid and /etc/subgid",
        )
    return store_error(f"can't unpack {name}", e)
