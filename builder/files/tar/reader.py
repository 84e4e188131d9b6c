"""Reading tar streams: v7, ustar, GNU, star, PAX, GNU sparse files (old format, 0.0, 0.1, 1.0).

Where readers disagree Go's archive/tar is right, because it is what registries' other clients use: global PAX headers do not
apply to later members, links and folders have no data whatever their size says, data after the end marker is ignored.
Archives that two readers could take for different files are refused (CVE-2025-62518 and its kin).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from builder.errors import LayerError, RefusedLayerError
from builder.files.tar import pax, sparse
from builder.files.tar.entry import BLOCK, CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry
from builder.values import dataclass

# name mode uid gid size mtime chksum type linkname magic uname gname devmajor devminor prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_ZERO = bytes(512)
_NAMES = {
    b"0": REG,
    b"\0": REG,
    b"7": REG,  # contiguous file
    b"S": REG,  # old GNU sparse
    b"1": LINK,
    b"2": SYMLINK,
    b"3": CHAR,
    b"4": BLOCK,
    b"5": DIR,
    b"6": FIFO,
}
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
_OCTAL_LIMIT = 1 << 33
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still an archive and not an attack; LayerError beyond. Sizes in bytes, ``total`` with the holes."""

    entries: int = 5_000_000
    total: int = 256 << 30
    name: int = 4096
    depth: int = 2048  # as many folders as a path of 4096 bytes can name
    special: int = 1 << 20  # PAX headers and GNU long names; Go's maxSpecialFileSize
    xattr: int = 64 << 10  # the kernel's XATTR_SIZE_MAX


class TarReader:
    """Iterate for the members; ``data`` or ``extents`` give the current one's content, which is skipped if not asked for.

    When the iteration ends the stream has been read to its last byte: digests over it are whole then. ``members`` ends where the
    archive does: what may follow is not asked for.
    LayerError for malformed or truncated archives, RefusedLayerError for excessive ones.
    """

    def __init__(self, chunks: Iterable[bytes], limits: Limits | None = None) -> None:
        self._chunks = iter(chunks)
        self._limits = limits or Limits()
        self._buffer = b""
        self._at = 0
        self._left = 0  # bytes of the current member's data not yet taken
        self._padding = 0
        self._current: Entry | None = None
        self._numbers: dict[bytes, int] = {}
        self.total = 0
        self.entries = 0

    def __iter__(self) -> Iterator[Entry]:
        yield from self.members()
        self._drain()

    def members(self) -> Iterator[Entry]:
        """The members alone; see above."""
        while True:
            if self._left or self._padding:
                self._skip(self._left + self._padding)
                self._left = self._padding = 0
            entry = self._next()
            if entry is None:
                break
            yield entry
        self._current = None

    def extents(self) -> Iterator[tuple[int, memoryview]]:
        """(offset in the file, bytes) of the current member's data; holes are left out."""
        if self._current is None or self._current.sparse is None:
            offset = 0
            while self._left:
                piece = self._piece(self._left)
                yield offset, piece
                offset += len(piece)
            return
        for offset, length in self._current.sparse:
            while length:
                piece = self._piece(length)
                yield offset, piece
                offset += len(piece)
                length -= len(piece)

    def data(self) -> Iterator[bytes]:
        """The current member's content as chunks, holes filled with zeros."""
        at, size = 0, self._current.size if self._current else 0
        for offset, piece in self.extents():
            yield from _zeros(offset - at)
            yield bytes(piece)
            at = offset + len(piece)
        yield from _zeros(size - at)

    def _piece(self, limit: int) -> memoryview:
        """At most ``limit`` bytes of the current data: what is at hand, without copying."""
        if self._at == len(self._buffer):
            self._more()
        end = min(self._at + limit, len(self._buffer))
        piece = memoryview(self._buffer)[self._at : end]
        self._left -= end - self._at
        self._at = end
        return piece

    def _more(self) -> None:
        for chunk in self._chunks:
            if chunk:
                self._buffer, self._at = chunk, 0
                return
        raise LayerError("the archive is truncated")

    def _take(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        start = self._at
        end = start + count
        if end <= len(self._buffer):
            self._at = end
            return self._buffer[start:end]
        parts = [self._buffer[start:]]
        missing = end - len(self._buffer)
        while missing:
            self._more()
            part = self._buffer[:missing]
            self._at = len(part)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _skip(self, count: int) -> None:
        while count:
            if self._at == len(self._buffer):
                self._more()
            step = min(count, len(self._buffer) - self._at)
            self._at += step
            count -= step

    def _drain(self) -> None:
        """What follows the end is no file, but it is unpacked all the same: some kilobytes of a layer can stand for a terabyte."""
        room = self._limits.total
        for chunk in self._chunks:
            room -= len(chunk)
            if room < 0:
                raise RefusedLayerError(f"the archive has more than {self._limits.total} bytes behind its end")
        self._buffer, self._at = b"", 0

    def _block(self) -> bytes | None:
        """The next header block; None at the end of the archive (two zero blocks, or the end of the stream)."""
        if self._at == len(self._buffer):
            for chunk in self._chunks:
                if chunk:
                    self._buffer, self._at = chunk, 0
                    break
            else:
                return None
        block = self._take(512)
        if block != _ZERO:
            return block
        if self._at == len(self._buffer):
            try:
                self._more()
            except LayerError:
                return None  # some writers leave one zero block only
        if self._take(512) != _ZERO:
            raise LayerError("malformed archive: a lone zero block between members")
        return None

    def _next(self) -> Entry | None:
        records: dict[bytes, bytes] = {}
        long_name = long_link = None
        while True:
            block = self._block()
            if block is None:
                if records or long_name is not None or long_link is not None:
                    raise LayerError("the archive ends after an extended header")
                return None
            fields = _HEADER.unpack(block)
            _check(block, fields[6])
            kind = fields[7]
            if kind == b"x":
                records = pax.parse(self._special(fields))
            elif kind == b"L":
                long_name = self._special(fields).split(b"\0", 1)[0]
            elif kind == b"K":
                long_link = self._special(fields).split(b"\0", 1)[0]
            elif kind == b"g":
                _check_global(pax.parse(self._special(fields)))
            else:
                return self._member(block, fields, records, long_name, long_link)

    def _special(self, fields: tuple[bytes, ...]) -> bytes:
        size = self._number(fields[4])
        if not 0 <= size <= self._limits.special:
            raise LayerError(f"an extended header of {size} bytes is over the limit of {self._limits.special}")
        data = self._take(size)
        self._skip(-size % 512)
        self.entries += 1
        if self.entries > self._limits.entries:
            raise RefusedLayerError(f"the archive has more than {self._limits.entries} entries")
        return data

    def _member(
        self,
        block: bytes,
        fields: tuple[bytes, ...],
        records: dict[bytes, bytes],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        name, mode, uid, gid, size, mtime, _, kind, linkname, magic, uname, gname, major, minor, prefix = fields
        number = self._small
        letter = _NAMES.get(kind)
        if letter is None:
            raise LayerError(f"unsupported tar header type {kind!r}")
        path = name.split(b"\0", 1)[0]
        link = linkname.split(b"\0", 1)[0]
        if magic == _USTAR:
            if block[508:512] == b"tar\0":
                prefix = prefix[:131]  # star: the rest of the field holds times
            if prefix[0]:
                path = prefix.split(b"\0", 1)[0] + b"/" + path
        known = magic in (_USTAR, _GNU)
        entry = Entry(
            "",
            letter,
            number(mode) & 0o7777,
            number(uid),
            number(gid),
            self._number(size),
            self._number(mtime) * 1_000_000_000,
            "",
            number(major) if known and letter in (CHAR, BLOCK) else 0,
            number(minor) if known and letter in (CHAR, BLOCK) else 0,
            _text(uname.split(b"\0", 1)[0]) if known and uname[0] else "",
            _text(gname.split(b"\0", 1)[0]) if known and gname[0] else "",
        )
        if records:
            path, link = self._merge(entry, records, path, link)
        path = _one_name(path, long_name, records.get(pax.PATH))
        link = _one_name(link, long_link, records.get(pax.LINKPATH))
        if letter is REG and path.endswith(b"/") and kind != b"S":
            entry.type = letter = DIR
        if letter is not REG:
            entry.size = 0
        if entry.size < 0:
            raise LayerError("malformed archive: negative size")
        stored = entry.size
        self._left, self._padding = stored, -stored % 512
        if letter is REG and (kind == b"S" or any(key.startswith(b"GNU.sparse.") for key in records)):
            path = self._sparse(entry, kind, block, records, path, stored)
        entry.name, entry.linkname = _text(path), _text(link)
        self._admit(entry, path, link)
        self._current = entry
        return entry

    def _merge(self, entry: Entry, records: dict[bytes, bytes], path: bytes, link: bytes) -> tuple[bytes, bytes]:
        """Let PAX records win over the header's fields; an empty value leaves the field as it is."""
        for key, value in records.items():
            if key.startswith(pax.XATTR):
                entry.xattrs[_text(key[len(pax.XATTR) :])] = value
            elif not value:
                continue
            elif key == pax.PATH:
                path = value
            elif key == pax.LINKPATH:
                link = value
            elif key == pax.MTIME:
                entry.mtime_ns = pax.parse_time(value)
            elif key == pax.SIZE:
                size = pax.parse_number(value)
                # A reader that misses one of the two sizes sees file content as headers (CVE-2025-62518). The field
                # has a reason to differ only where the number does not fit into it.
                if entry.type is REG and size != entry.size and size < _OCTAL_LIMIT:
                    raise RefusedLayerError(f"malformed archive: PAX size {size} contradicts the header's {entry.size}")
                entry.size = size
            elif key == pax.UID:
                entry.uid = pax.parse_number(value)
            elif key == pax.GID:
                entry.gid = pax.parse_number(value)
            elif key == pax.UNAME:
                entry.uname = _text(value)
            elif key == pax.GNAME:
                entry.gname = _text(value)
        return path, link

    def _sparse(self, entry: Entry, kind: bytes, block: bytes, records: dict[bytes, bytes], path: bytes, stored: int) -> bytes:
        """Fill in ``sparse`` and the real size; the name in front of what sparse 1.0 calls ``GNUSparseFile.0/name``."""
        if kind == b"S":
            parts, entry.size = sparse.old_gnu(block, self._number, self._take)
        elif records.get(b"GNU.sparse.major") == b"1" and records.get(b"GNU.sparse.minor") == b"0":
            parts, used = sparse.version_1(self._take, stored)
            stored -= used
            entry.size = pax.parse_number(records.get(b"GNU.sparse.realsize", b""))
            path = records.get(b"GNU.sparse.name", path)
        elif b"GNU.sparse.map" in records:
            parts = sparse.version_0(records[b"GNU.sparse.map"])
            entry.size = pax.parse_number(records.get(b"GNU.sparse.size", records.get(b"GNU.sparse.realsize", b"")))
            path = records.get(b"GNU.sparse.name", path)
        else:
            return path
        sparse.check(parts, entry.size, stored)
        self._left = stored
        entry.sparse = tuple(parts)
        return path

    def _admit(self, entry: Entry, path: bytes, link: bytes) -> None:
        limits = self._limits
        self.entries += 1
        self.total += entry.size
        if self.entries > limits.entries:
            raise RefusedLayerError(f"the archive has more than {limits.entries} entries")
        if self.total > limits.total:
            raise RefusedLayerError(f"the archive unpacks to more than {limits.total} bytes")
        if len(path) > limits.name or len(link) > limits.name:
            raise RefusedLayerError(f"a name in the archive has more than {limits.name} bytes")
        if path.count(b"/") > limits.depth:
            raise RefusedLayerError(f"a path in the archive is more than {limits.depth} folders deep")
        if b"\0" in path or b"\0" in link:
            raise LayerError("malformed archive: NUL in a name")
        if entry.xattrs:
            for name, value in entry.xattrs.items():
                if len(value) > limits.xattr or len(name) > 255:
                    text = f"extended attribute {name[:64]} is over the limit of {limits.xattr} bytes"
                    raise RefusedLayerError(f"{entry.name}: {text}")

    def _small(self, field: bytes) -> int:
        """``_number`` for fields with few different values in an archive: mode, ids, devices."""
        value = self._numbers.get(field)
        if value is None:
            value = self._number(field)
            if len(self._numbers) < 10_000:
                self._numbers[field] = value
        return value

    @staticmethod
    def _number(field: bytes) -> int:
        """A numeric field: octal digits, or base-256 in two's complement (first bit set)."""
        if field[0] & 0x80:
            # The marker bit is no part of the number, the next one is its sign.
            value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
            if field[0] & 0x40:
                value -= 1 << (8 * len(field) - 1)
            if not -(1 << 63) <= value < 1 << 63:
                raise LayerError("malformed archive: a number has more than 63 bits")
            return value
        digits = field.strip(b" \0").split(b"\0", 1)[0]
        if not digits:
            return 0
        if not digits.isdigit():
            raise LayerError(f"malformed archive: bad number {field!r}")
        try:
            return int(digits, 8)
        except ValueError:
            raise LayerError(f"malformed archive: bad number {field!r}") from None


def _check(block: bytes, field: bytes) -> None:
    """The header checksum: the sum of all bytes, its own field counted as spaces; of signed bytes with some old writers.

    The low half of Adler-32 is that sum plus one, modulo 65521, at a tenth of the cost of ``sum(block)``.
    """
    try:
        want = int(field.strip(b" \0").split(b"\0", 1)[0] or b"0", 8)
    except ValueError:
        raise LayerError("malformed archive: bad header checksum") from None
    if zlib.adler32(block) & 0xFFFF == (1 + want - 256 + sum(field)) % 65521:
        return
    plain = block[:148] + b"        " + block[156:]
    if sum(byte - 256 if byte > 127 else byte for byte in plain) != want:
        raise LayerError("malformed archive: wrong header checksum")


def _check_global(records: dict[bytes, bytes]) -> None:
    """Go ignores global records, Python and GNU tar apply them: one that decides which file is meant is refused."""
    for key in records:
        if key in (pax.PATH, pax.LINKPATH, pax.SIZE) or key.startswith(b"GNU.sparse."):
            raise RefusedLayerError(f"malformed archive: global PAX header with {_text(key)}")


def _one_name(field: bytes, gnu: bytes | None, record: bytes | None) -> bytes:
    if gnu is None:
        return field
    if record and record != gnu:
        raise RefusedLayerError("malformed archive: a GNU long name contradicts the PAX header")
    return gnu


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, _PIECE))
        count -= _PIECE
