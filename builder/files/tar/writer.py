"""Writing tar streams, byte for byte as Go's archive/tar with FormatPAX (what containerd's differ asks for).

ustar where everything fits, else a PAX header with the records that are needed and no others: same entries, same bytes.
"""

from __future__ import annotations

import os
import posixpath
import struct
from collections.abc import Callable, Iterable

from builder.errors import LayerError
from builder.files.tar import pax
from builder.files.tar.entry import BLOCK, CHAR, DIR, FIFO, REG, Entry

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_MAGIC = b"ustar\x0000"
_BLANK = b"        "
_SECOND = 1_000_000_000
_FLUSH = 1 << 20
_READ = 1 << 20
_ZEROS = bytes(512)


class TarWriter:
    """Members one after the other into ``write``; the caller sorts. ``close`` ends the archive (two zero blocks)."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        # Headers and small files are gathered: each call of ``write`` hashes and compresses.
        self._pending: list[bytes] = []
        self._size = 0

    def add(self, entry: Entry, data: Iterable[bytes] = ()) -> None:
        """A member; ``data`` must make ``entry.size`` bytes of a regular file, and is not touched for other types."""
        self._put(header(entry))
        if entry.type != REG:
            return
        left = entry.size
        for chunk in data:
            left -= len(chunk)
            self._put(chunk)
        self._end(entry, left)

    def add_file(self, entry: Entry, fd: int) -> None:
        """A regular file from an open file. LayerError if it does not hold ``entry.size`` bytes any more."""
        self._put(header(entry))
        left = entry.size
        while left:
            chunk = os.read(fd, min(left, _READ))
            if not chunk:
                break
            left -= len(chunk)
            self._put(chunk)
        self._end(entry, left)

    def close(self) -> None:
        self._put(bytes(1024))
        self._flush()

    def _end(self, entry: Entry, left: int) -> None:
        if left:
            raise LayerError(f"{entry.name}: the file changed while it was read")
        if padding := -entry.size % 512:
            self._put(_ZEROS[:padding])

    def _put(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        if self._size >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._write(b"".join(self._pending) if len(self._pending) > 1 else self._pending[0])
            self._pending.clear()
            self._size = 0


def header(entry: Entry) -> bytes:
    """The header blocks of a member, with a PAX header before if it needs one. LayerError for what no header can say."""
    name = entry.name.encode("utf-8", "surrogateescape")
    link = entry.linkname.encode("utf-8", "surrogateescape")
    if b"\0" in name or b"\0" in link:
        raise LayerError(f"{entry.name!r}: NUL in a name")
    if entry.type in (REG, CHAR, BLOCK, FIFO) and name.endswith(b"/"):
        raise LayerError(f"{entry.name}: trailing slash in the name of a file")
    if entry.type == DIR and not name.endswith(b"/"):
        raise LayerError(f"{entry.name}: no trailing slash in the name of a folder")
    size = entry.size if entry.type == REG else 0
    records, ustar = _records(entry, name, link, size)
    prefix = b""
    if ustar:
        if len(name) > 100:
            split = _split(name)
            assert split is not None
            prefix, name = split
        return _block(entry, name, prefix, link, size)
    return _extended(name, records) + _block(entry, _ascii(name), b"", _ascii(link), size)


def _records(entry: Entry, name: bytes, link: bytes, size: int) -> tuple[dict[bytes, bytes], bool]:
    """PAX records of all that does not fit the plain fields, and whether ustar does without them."""
    records: dict[bytes, bytes] = {}
    ustar = True
    if len(name) > 100 or not name.isascii():
        records[pax.PATH] = name
        ustar = _split(name) is not None
    if len(link) > 100 or not link.isascii():
        records[pax.LINKPATH] = link
        ustar = False
    for key, text in ((pax.UNAME, entry.uname), (pax.GNAME, entry.gname)):
        if text:
            data = text.encode("utf-8", "surrogateescape")
            if len(data) > 32 or not data.isascii():
                records[key] = data
                ustar = False
    for key, number, bits in ((pax.UID, entry.uid, 21), (pax.GID, entry.gid, 21), (pax.SIZE, size, 33)):
        if not 0 <= number < 1 << bits:
            records[key] = b"%d" % number
            ustar = False
    for number in (entry.mode, entry.devmajor, entry.devminor):
        if not 0 <= number < 1 << 21:
            raise LayerError(f"{entry.name}: mode or device number does not fit a tar header")
    if entry.mtime_ns % _SECOND or not 0 <= entry.mtime_ns // _SECOND < 1 << 33:
        records[pax.MTIME] = pax.format_time(entry.mtime_ns)
        ustar = False
    for attribute, value in entry.xattrs.items():
        key = attribute.encode("utf-8", "surrogateescape")
        if not key or b"=" in key or b"\0" in key:
            raise LayerError(f"{entry.name}: the name of extended attribute {attribute!r} can't be archived")
        records[pax.XATTR + key] = value
        ustar = False
    return records, ustar


def _block(entry: Entry, name: bytes, prefix: bytes, link: bytes, size: int) -> bytes:
    seconds = entry.mtime_ns // _SECOND
    data = _HEADER.pack(
        _fit(name),
        b"%07o" % entry.mode,
        b"%07o" % _or_zero(entry.uid, 21),
        b"%07o" % _or_zero(entry.gid, 21),
        b"%011o" % _or_zero(size, 33),
        b"%011o" % _or_zero(seconds, 33),
        _BLANK,
        entry.type.encode(),
        _fit(link),
        _MAGIC,
        _ascii(entry.uname.encode("utf-8", "surrogateescape")),
        _ascii(entry.gname.encode("utf-8", "surrogateescape")),
        b"%07o" % entry.devmajor,
        b"%07o" % entry.devminor,
        prefix,
    )
    return _summed(data)


def _extended(name: bytes, records: dict[bytes, bytes]) -> bytes:
    """The ``x`` header: named after the file, records sorted, all else zero."""
    data = b"".join(pax.record(key, records[key]) for key in sorted(records))
    folder, _, file = name.rpartition(b"/")
    folder += b"/" if name.startswith(b"/") and not folder else b""
    title = posixpath.normpath(posixpath.join(folder, b"PaxHeaders.0", file))
    title = _ascii(title)[:100].rstrip(b"/")
    octal = b"%07o" % 0
    block = _HEADER.pack(
        title,
        octal,
        octal,
        octal,
        b"%011o" % len(data),
        b"%011o" % 0,
        _BLANK,
        b"x",
        b"",
        _MAGIC,
        b"",
        b"",
        b"",
        b"",
        b"",
    )
    return _summed(block) + data + _ZEROS[: -len(data) % 512]


def _summed(block: bytes) -> bytes:
    return b"%s%06o\0 %s" % (block[:148], sum(block), block[156:])


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """ustar's prefix (up to 155 bytes) and name (up to 100): cut at the last slash that leaves both short enough."""
    if len(name) <= 100:
        return (b"", name) if name.isascii() else None
    if not name.isascii():
        return None
    end = len(name)
    if end > 156:
        end = 156
    elif name.endswith(b"/"):
        end -= 1
    cut = name.rfind(b"/", 0, end)
    if cut <= 0 or not 0 < len(name) - cut - 1 <= 100 or cut > 155:
        return None
    return name[:cut], name[cut + 1 :]


def _fit(data: bytes) -> bytes:
    """Cut to the field. A cut right after a slash would make readers without PAX take a file for a folder."""
    if len(data) > 100 and data[99:100] == b"/":
        return data[:99].rstrip(b"/")
    return data[:100]


def _ascii(data: bytes) -> bytes:
    return data if data.isascii() else bytes(byte for byte in data if byte < 0x80)


def _or_zero(number: int, bits: int) -> int:
    return number if 0 <= number < 1 << bits else 0
