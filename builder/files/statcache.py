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

if TYPE_CHECKING:
    import os

    from builder.files.types import ChecksumOptions
    from builder.state.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS file_digests (folder BLOB PRIMARY KEY, used INTEGER NOT NULL, files BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ref_checksums
    (ref TEXT NOT NULL, what BLOB NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (ref, what)) WITHOUT ROWID
"""
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
        database.schema(_SCHEMA)

    def load(self, folders: Iterable[bytes]) -> dict[bytes, Known]:
        """The known files of each folder that has any."""
        keys = list(folders)
        out: dict[bytes, Known] = {}
        connection = self._database.connection()
        today = int(time.time()) // _DAY
        aged: list[bytes] = []
        for start in range(0, len(keys), _BATCH):
            part = keys[start : start + _BATCH]
            marks = ",".join("?" * len(part))
            for key, used, data in connection.execute(
                f"SELECT folder, used, files FROM file_digests WHERE folder IN ({marks})", part
            ):
                out[key] = {r[0]: r[1:] for r in _RECORD.iter_unpack(data[: len(data) // _RECORD.size * _RECORD.size])}
                if today - used >= _REFRESH_DAYS:
                    aged.append(key)
        if aged:
            self._refresh(aged, today)
        return out

    def store(self, rows: Mapping[bytes, Known]) -> None:
        """Put folders' rows in one transaction."""
        today = int(time.time()) // _DAY
        pack = _RECORD.pack
        values = [(k, today, b"".join([pack(ino, *r) for ino, r in known.items()])) for k, known in rows.items()]
        with self._database.transaction() as c:
            c.executemany("INSERT OR REPLACE INTO file_digests VALUES (?, ?, ?)", values)

    def _refresh(self, keys: list[bytes], today: int) -> None:
        """Mark rows as used, and drop those that nobody asked for in a long time: their folders are gone or forgotten."""
        with self._database.transaction() as c:
            c.executemany("UPDATE file_digests SET used = ? WHERE folder = ?", [(today, k) for k in keys])
            c.execute("DELETE FROM file_digests WHERE used < ?", (today - _KEEP_DAYS,))


class RefChecksums:
    """Checksums of immutable refs: a ref's content never changes, so that its id, the path and the options say it all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.schema(_SCHEMA)

    def get(self, ref: str, path: str, options: ChecksumOptions) -> Digest | None:
        """The checksum, if it was computed before: no mount is needed then."""
        row = (
            self._database.connection()
            .execute("SELECT digest FROM ref_checksums WHERE ref = ? AND what = ?", (ref, _what(path, options)))
            .fetchone()
        )
        return Digest(row[0]) if row else None

    def put(self, ref: str, path: str, options: ChecksumOptions, digest: Digest) -> None:
        with self._database.transaction() as c:
            c.execute("INSERT OR REPLACE INTO ref_checksums VALUES (?, ?, ?)", (ref, _what(path, options), digest))

    def forget(self, refs: Iterable[str]) -> None:
        """For records that were deleted."""
        with self._database.transaction() as c:
            c.executemany("DELETE FROM ref_checksums WHERE ref = ?", [(r,) for r in refs])


def _what(path: str, options: ChecksumOptions) -> bytes:
    lists = [digest_parts(*patterns) for patterns in (options.include, options.exclude, options.required_paths)]
    flags = f"{options.follow_links:d}{options.wildcard:d}"
    return bytes.fromhex(digest_parts("2", path, flags, *lists).hex)
