"""Owners, modes and kinds of files that the kernel does not let us make: kept beside them.

As containers/storage writes them (pkg/idtools): the extended attribute ``user.containers.override_stat`` with ``UID:GID:MODE``, the
mode in octal, and ``:TYPE`` for what is no regular file or folder: an empty regular file stands for a device node. Symbolic links,
FIFOs and sockets can't bear such attributes: they are lines ``ino btime_ns uid gid`` of a table.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

from runtime.linux import syscalls
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "user.containers.override_stat"
CAPABILITY = "security.capability"
KEPT_AS: tuple[tuple[str, str], ...] = ((NAME, "user.pybuild.override_stat"),)
"""(attribute, what it is kept as): one of a file's own that is called as ours."""
KEPT_AS_ACCOUNT: tuple[tuple[str, str], ...] = (*KEPT_AS, (CAPABILITY, "user.pybuild.capability"))
"""Without a user namespace nobody may set a file capability either."""

_KINDS = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "pipe": stat.S_IFIFO, "socket": stat.S_IFSOCK}
_DEVICES = {"char": stat.S_IFCHR, "block": stat.S_IFBLK}
_MAX_ID = (1 << 32) - 1
_NOFOLLOW = 0x100
_INO_AND_BTIME = 0x100 | 0x800


@dataclass(frozen=True, slots=True)
class Override:
    """``mode``: permission bits, set-id bits included. ``kind``: an S_IF* and ``device`` its number, 0 where they are the file's
    own."""

    uid: int
    gid: int
    mode: int
    kind: int = 0
    device: int = 0

    def encode(self) -> bytes:
        """The attribute's value."""
        text = f"{self.uid}:{self.gid}:{self.mode & 0o7777:o}"
        for name, kind in _KINDS.items():
            if self.kind == kind:
                text += f":{name}"
        for name, kind in _DEVICES.items():
            if self.kind == kind:
                text += f":{name}-{os.major(self.device)}-{os.minor(self.device)}"
        return text.encode()

    @staticmethod
    def decode(value: bytes) -> Override | None:
        """None for what is not of that form."""
        try:
            uid, gid, mode, *rest = value.decode("ascii").split(":")
            ids = int(uid), int(gid)
            bits = int(mode, 8)
            if not (min(ids) >= 0 and max(ids) < _MAX_ID and 0 <= bits <= 0o7777) or len(rest) > 1:
                return None
            if not rest or rest[0] in _KINDS:
                return Override(*ids, bits, _KINDS[rest[0]] if rest else 0)
            name, major, minor = rest[0].split("-")
            return Override(*ids, bits, _DEVICES[name], os.makedev(int(major), int(minor)))
        except (ValueError, KeyError, OverflowError):
            return None


def without_set_ids(mode: int) -> int:
    """The permission bits of a file, no folder, as chown(2) leaves them."""
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode


def inode(path: str | bytes, *, follow: bool) -> tuple[int, int]:
    """What a table calls a file: (inode number, when it was made in ns, 0 where the file system does not say). OSError."""
    return inode_of(syscalls.statx(path, 0 if follow else _NOFOLLOW, _INO_AND_BTIME))


def inode_of(answer: bytes | bytearray) -> tuple[int, int]:
    """``inode`` by a struct statx."""
    (ino,) = struct.unpack_from("=Q", answer, 32)
    seconds, nanoseconds = struct.unpack_from("=qI", answer, 80)
    return ino, seconds * 1_000_000_000 + nanoseconds


class Table:
    """Owners of what can bear no attribute. A file that only grows; the last line of an inode counts."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._owners = read_table(path)

    def __len__(self) -> int:
        return len(self._owners)

    def fileno(self) -> int:
        """Its open file."""
        return self._fd

    def record(self, ino: int, btime: int, uid: int, gid: int) -> None:
        """The owner of an inode; ``btime`` is when it was made, in nanoseconds: numbers are used again."""
        self._owners[ino, btime] = uid, gid
        os.write(self._fd, lines({(ino, btime): (uid, gid)}))

    def find(self, ino: int, btime: int) -> tuple[int, int] | None:
        """(uid, gid)."""
        return self._owners.get((ino, btime))


def lines(owners: Mapping[tuple[int, int], tuple[int, int]]) -> bytes:
    """The text of a table: (ino, btime in ns) to (uid, gid)."""
    return b"".join(b"%d %d %d %d\n" % (*inode, *owner) for inode, owner in owners.items())


def read_table(path: str) -> dict[tuple[int, int], tuple[int, int]]:
    """(ino, btime in ns) to (uid, gid). A line that was not written to its end does not count. OSError."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    with open(path, "rb") as file:
        for line in file:
            words = line.split()
            if line.endswith(b"\n") and len(words) == 4:
                ino, btime, uid, gid = map(int, words)
                found[ino, btime] = uid, gid
    return found
