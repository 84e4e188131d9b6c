"""What the content hash remembers between builds: digests of files by their stat, and checksums of immutable refs by their id.

A file is known again by (device, inode, size, mtime, ctime): whoever changes its bytes, mode, owner or extended attributes moves
ctime, which no program can set. One row holds the files of one folder. A wrong hit would be a wrong image, so that
- an entry is kept only if the file had been left alone for a while when it was read (git calls the others "racily clean": changed
  again within the same tick of the clock, they would look the same);
- files whose ctime is 0 or in the future are never kept.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from builder.oci.digest import Digest, digest_parts
from builder.state.schema import FILE_DIGESTS, REF_CHECKSUMS

if TYPE_CHECKING:
    import os

    from builder.files.types import ChecksumOptions
    from builder.state.database import Database

_RECORD = struct.Struct("<Qqqq32s")
_FOLDER = struct.Struct("<QQ?")
_DAY = 86400
_KEEP_DAYS = 35
_REFRESH_DAYS = 7
_BATCH = 500

FINE_TICK_NS = 100_000_000
"""Kernels stamp files with a clock that ticks every 1 to 10 ms."""
COARSE_TICK_NS = 2_100_000_000
"""File systems that keep whole seconds (two, on FAT) show no fraction."""

Known = dict[int, tuple[int, int, int, bytes]]
"""inode -> (size, mtime_ns, ctime_ns, digest)."""


def is_racy(st: os.stat_result, read_at_ns: int) -> bool:
    """Could the file have been changed after it was read at ``read_at_ns`` (time.time_ns), and still show the same stat?"""
    ctime = st.st_ctime_ns
    tick = FINE_TICK_NS if ctime % 1_000_000_000 else COARSE_TICK_NS
    return ctime <= 0 or read_at_ns - ctime < tick


def folder_key(device: int, inode: int, reset_owner: bool) -> bytes:
    """Key of a folder's row. Digests with the real owner and with 0:0 differ, so they lie in rows of their own."""
    return _FOLDER.pack(device, inode, reset_owner)


class StatCache:
    """Digests of files by stat. Thread-safe; shared by processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, folders: Iterable[bytes]) -> dict[bytes, Known]:
        """The known files of each folder that has any."""
        keys = list(folders)
        out: dict[bytes, Known] = {}
        stale = int(time.time()) // _DAY - _REFRESH_DAYS
        aged: list[bytes] = []
        for start in range(0, len(keys), _BATCH):
            part = keys[start : start + _BATCH]
            among = f"WHERE folder IN ({','.join('?' * len(part))})"
            for key, data in self._database.select(FILE_DIGESTS, among, part):
                out[key] = {r[0]: r[1:] for r in _RECORD.iter_unpack(data)}
            old = self._database.rows(f"SELECT folder FROM file_digests {among} AND used <= ?", [*part, stale])
            aged += [key for (key,) in old]
        if aged:
            self._refresh(aged, stale + _REFRESH_DAYS)
        return out

    def store(self, rows: Mapping[bytes, Known]) -> None:
        """Put folders' rows in one transaction."""
        today = int(time.time()) // _DAY
        pack = _RECORD.pack
        values = [(k, b"".join([pack(ino, *r) for ino, r in known.items()])) for k, known in rows.items()]
        with self._database.transaction() as c:
            self._database.put(c, FILE_DIGESTS, values, free=(today,))

    def _refresh(self, keys: list[bytes], today: int) -> None:
        """Mark rows as used, and drop those that nobody asked for in a long time: their folders are gone or forgotten."""
        with self._database.transaction() as c:
            c.executemany("UPDATE file_digests SET used = ? WHERE folder = ?", [(today, k) for k in keys])
            c.execute("DELETE FROM file_digests WHERE used < ?", (today - _KEEP_DAYS,))


class RefChecksums:
    """Checksums of immutable refs: a ref's content never changes, so that its id, the path and the options say it all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ref: str, path: str, options: ChecksumOptions) -> Digest | None:
        """The checksum, if it was computed before: no mount is needed then."""
        rows = self._database.find(REF_CHECKSUMS, ref=ref, what=_what(path, options))
        return Digest(rows[0][2]) if rows else None

    def put(self, ref: str, path: str, options: ChecksumOptions, digest: Digest) -> None:
        with self._database.transaction() as c:
            self._database.put(c, REF_CHECKSUMS, [(ref, _what(path, options), digest)])

    def forget(self, refs: Iterable[str]) -> None:
        """For records that were deleted."""
        with self._database.transaction() as c:
            c.executemany("DELETE FROM ref_checksums WHERE ref = ?", [(r,) for r in refs])


def _what(path: str, options: ChecksumOptions) -> bytes:
    lists = [digest_parts(*patterns) for patterns in (options.include, options.exclude, options.required_paths)]
    flags = f"{options.follow_links:d}{options.wildcard:d}"
    return bytes.fromhex(digest_parts("2", path, flags, *lists).hex)
