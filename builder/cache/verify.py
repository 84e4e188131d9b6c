"""Are a layer's files what its blob says? For ``fsck --verify``: every member of the tar is looked for in the mounted snapshot.

What is compared is what an image of it would show: type, permissions, owner, size, content, where a link leads, device numbers, and
that what the layer hides is not there. Times are not (unpacking sets them for some folders later than the tar says), nor files that
somebody added to the snapshot.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.errors import LayerError
from builder.files.apply import WHITEOUT
from builder.files.owners import current
from builder.files.tar.entry import BLOCK, CHAR, DIR, LINK, REG, SYMLINK, Entry
from builder.files.tar.reader import TarReader
from builder.state import cancel
from builder.text.paths import clean
from builder.values import dataclass
from runtime.linux.safepath import open_in_root
from runtime.linux.userns import in_user_namespace

if TYPE_CHECKING:
    from hashlib import _Hash

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be at a path: a member, and the digest of a file's content. ``entry`` None: nothing."""

    entry: Entry | None
    content: bytes = b""


def difference(tar: Iterable[bytes], folder: str) -> str | None:
    """The first path, in the order of names, at which the files in ``folder`` are not those of the layer ``tar``; None if there is
    none. LayerError for a tar that is damaged, OSError where the files can't be read, CancelledError."""
    wanted = _wanted(tar)
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in sorted(wanted):
            cancel.checkpoint()
            if not _is_there(root, path, wanted[path]):
                return path
    finally:
        os.close(root)
    return None


def _wanted(tar: Iterable[bytes]) -> dict[str, _Wanted]:
    """By path, as the last member of a name has it."""
    found: dict[str, _Wanted] = {}
    hidden: set[str] = set()
    reader = TarReader(tar)
    for entry in reader:
        cancel.checkpoint()
        path = clean("/" + entry.name)[1:]
        head, _, name = path.rpartition("/")
        if name.startswith(WHITEOUT):
            if not name.startswith(2 * WHITEOUT):
                hidden.add(f"{head}/{name[len(WHITEOUT) :]}".lstrip("/"))
            continue
        if not path:
            continue
        old = found.pop(path, None)
        if old is not None and old.entry is not None and old.entry.type == DIR and entry.type != DIR:
            for below in [p for p in found if p.startswith(path + "/")]:
                del found[below]
        if entry.type == REG:
            digest = hashlib.sha256()
            for piece in reader.data():
                digest.update(piece)
            found[path] = _Wanted(entry, digest.digest())
        elif entry.type == LINK:
            target = found.get(clean("/" + entry.linkname)[1:])
            if target is not None and target.entry is not None:  # else a file of a lower layer: that one is looked at for it
                # One file: what the second name's header says of it is said of both.
                target.entry.mode, target.entry.uid, target.entry.gid = entry.mode, entry.uid, entry.gid
                found[path] = target
        else:
            found[path] = _Wanted(entry)
    for path in hidden - found.keys():
        if not any(p.startswith(path + "/") for p in found):
            found[path] = _Wanted(None)
    return found


def _is_there(root: int, path: str, wanted: _Wanted) -> bool:
    entry = wanted.entry
    try:
        handle = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        # Nobody can make devices in a user namespace: unpacking leaves them out.
        return entry is None or (entry.type in (CHAR, BLOCK) and in_user_namespace())
    try:
        if entry is None:
            return False
        status = current().stat(handle)
        if stat.S_IFMT(status.st_mode) != entry.format or (status.st_uid, status.st_gid) != (entry.uid, entry.gid):
            return False
        if entry.type == SYMLINK:
            return os.fsencode(os.readlink("", dir_fd=handle)) == os.fsencode(entry.linkname)
        if stat.S_IMODE(status.st_mode) != entry.mode:
            return False
        if entry.type in (CHAR, BLOCK):
            return status.st_rdev == entry.device
        return entry.type != REG or (status.st_size == entry.size and _digest(handle) == wanted.content)
    except LayerError:
        return False
    finally:
        os.close(handle)


def _digest(handle: int) -> bytes:
    digest: _Hash = hashlib.sha256()
    fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while data := os.read(fd, _CHUNK):
            cancel.checkpoint()
            digest.update(data)
    finally:
        os.close(fd)
    return digest.digest()
