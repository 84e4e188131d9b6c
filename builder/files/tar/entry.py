"""A member of a tar archive."""

from __future__ import annotations

import os
import stat

from builder.errors import LayerError
from builder.values import dataclass, field

REG, LINK, SYMLINK, CHAR, BLOCK, DIR, FIFO = "0", "1", "2", "3", "4", "5", "6"

_FORMATS = {
    REG: stat.S_IFREG,
    LINK: stat.S_IFREG,
    SYMLINK: stat.S_IFLNK,
    CHAR: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
    DIR: stat.S_IFDIR,
    FIFO: stat.S_IFIFO,
}
_TYPES = {bits: letter for letter, bits in _FORMATS.items() if letter != LINK}


# Not frozen: one is made for each of some 100,000 files, and frozen dataclasses take three times as long to make.
@dataclass(slots=True)
class Entry:
    """Header of one member. Names are UTF-8 with surrogateescape, as they stand in the archive (``./a``, ``a/``, ``/a``).

    ``type`` is one of the constants of this module; ``mode`` holds the permission bits with setuid, setgid and sticky.
    ``size`` is that of the file, with holes; ``sparse`` the parts that are data, as (offset, length), or None.
    ``xattrs`` maps full names (``security.capability``) to values.
    """

    name: str
    type: str = REG
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    linkname: str = ""
    devmajor: int = 0
    devminor: int = 0
    uname: str = ""
    gname: str = ""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    sparse: tuple[tuple[int, int], ...] | None = None

    @property
    def stored(self) -> int:
        """Bytes of data: without holes."""
        return self.size if self.sparse is None else sum(length for _, length in self.sparse)

    @property
    def device(self) -> int:
        """For mknod(2). LayerError where major or minor do not exist: Linux has 12 and 20 bits for them."""
        if not (0 <= self.devmajor < 1 << 12 and 0 <= self.devminor < 1 << 20):
            raise LayerError(f"{self.name}: device number {self.devmajor}:{self.devminor} does not exist")
        return os.makedev(self.devmajor, self.devminor)

    @property
    def format(self) -> int:
        """The S_IF* bits."""
        return _FORMATS[self.type]

    def no_such_owner(self) -> LayerError:
        """For the OverflowError of chown(2): BuildKit cuts such ids to 32 bits, which makes another owner of them."""
        return LayerError(f"{self.name}: owner {self.uid}:{self.gid} does not exist: ids have 32 bits")


def type_of(st_mode: int) -> str | None:
    """The type for a mode of stat(2); None for a socket, which no archive holds."""
    return _TYPES.get(stat.S_IFMT(st_mode))
