"""What the snapshotters share: the table of snapshots and the life of their folders.

A snapshot is its row together with its folder ROOT/snapshots/KEY. A folder is made under a temp name that the maker holds
locked, renamed, and then entered; it leaves in the opposite order. So whatever a crash leaves behind has no row, or is no
longer locked, and ``sweep`` takes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.snapshots.types import Applied
from builder.state.disk import store_error, store_errors
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.state.database import Database
    from builder.state.layout import Layout

SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshots (
    key TEXT PRIMARY KEY, driver TEXT NOT NULL, kind TEXT NOT NULL, parent TEXT, layers TEXT,
    explicit INTEGER NOT NULL, size INTEGER, inodes INTEGER
) WITHOUT ROWID
"""

ACTIVE, COMMITTED = "active", "committed"
_COLUMNS = "key, kind, parent, layers, explicit, size, inodes"
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


@dataclass(frozen=True, slots=True)
class Row:
    """``layers``: of a merged snapshot, the keys whose own folders lie over one another, lowest first; it has no files itself.
    ``explicit``: no opaque folders (see ``overlay``). ``usage`` is None until somebody asked."""

    key: str
    kind: str
    parent: str | None = None
    layers: tuple[str, ...] | None = None
    explicit: bool = True
    usage: Applied | None = None


class Catalog:
    """Rows of one driver; other drivers' snapshots in the same root are as good as absent."""

    def __init__(self, layout: Layout, database: Database, driver: str) -> None:
        self._layout = layout
        self._database = database
        self._driver = driver
        database.schema(SCHEMA)

    def folder(self, key: str, *names: str) -> str:
        if not key or key[0] == "." or not _ALPHABET.issuperset(key):
            raise StoreError(f"invalid snapshot key {key!r}")
        return os.path.join(self._layout.snapshots, key, *names)

    def find(self, key: str) -> Row | None:
        row = (
            self._database.connection()
            .execute(f"SELECT {_COLUMNS} FROM snapshots WHERE key = ? AND driver = ?", (key, self._driver))
            .fetchone()
        )
        if row is None:
            return None
        name, kind, parent, layers, explicit, size, inodes = row
        usage = None if size is None else Applied(size, inodes)
        return Row(name, kind, parent, tuple(layers.split()) if layers is not None else None, bool(explicit), usage)

    def get(self, key: str) -> Row:
        row = self.find(key)
        if row is None:
            raise StoreError(f"snapshot {key} is not in the state folder")
        return row

    def committed(self, key: str) -> Row:
        row = self.get(key)
        if row.kind != COMMITTED:
            raise StoreError(f"snapshot {key} is not committed yet")
        return row

    def keys(self) -> Iterator[str]:
        rows = self._database.connection().execute("SELECT key FROM snapshots WHERE driver = ?", (self._driver,)).fetchall()
        return iter([row[0] for row in rows])

    def mark_committed(self, key: str, *, explicit: bool) -> None:
        with self._database.transaction() as c:
            c.execute("UPDATE snapshots SET kind = ?, explicit = ? WHERE key = ?", (COMMITTED, explicit, key))

    def mark_explicit(self, key: str) -> None:
        with self._database.transaction() as c:
            c.execute("UPDATE snapshots SET explicit = 1 WHERE key = ?", (key,))

    def store_usage(self, key: str, usage: Applied) -> None:
        with self._database.transaction() as c:
            c.execute("UPDATE snapshots SET size = ?, inodes = ? WHERE key = ?", (usage.size, usage.inodes, key))

    @contextmanager
    def making(self) -> Iterator[Making]:
        """A folder on its way; deleted when the block ends without ``enter``."""
        with store_errors("can't make a snapshot"):
            path, fd = locked_folder(self._layout.snapshots, ".new-")
        making = Making(path)
        try:
            yield making
        finally:
            if not making.entered:
                delete_tree(path)
            os.close(fd)

    def enter(self, making: Making, row: Row) -> None:
        """Rename the folder to its key and add the row; StoreError if the key is taken."""
        target = self.folder(row.key)
        usage = row.usage
        old = None
        with self._database.transaction() as c:
            taken = c.execute("SELECT 1 FROM snapshots WHERE key = ?", (row.key,)).fetchone()
            if taken:
                raise StoreError(f"snapshot {row.key} is there already")
            if os.path.lexists(target):
                old = self._set_aside(target)  # its row is gone: a removal that was cut short
            with store_errors(f"can't make snapshot {row.key}"):
                os.rename(making.path, target)
            making.entered = True
            c.execute(
                f"INSERT INTO snapshots (driver, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._driver,
                    row.key,
                    row.kind,
                    row.parent,
                    None if row.layers is None else " ".join(row.layers),
                    row.explicit,
                    usage.size if usage else None,
                    usage.inodes if usage else None,
                ),
            )
        _delete_aside(old)

    def remove(self, key: str) -> None:
        try:
            self._forget(key)
        except StoreError:
            # A full disk has no room for the transaction: the files go first then, and make some. A crash in between leaves a row
            # without a folder, which counts as a damaged record: a miss.
            _delete_aside(self._set_aside(self.folder(key)))
            self._forget(key)
        else:
            _delete_aside(self._set_aside(self.folder(key)))

    def _forget(self, key: str) -> None:
        with self._database.transaction() as c:
            c.execute("DELETE FROM snapshots WHERE key = ?", (key,))

    def _set_aside(self, path: str) -> tuple[str, int] | None:
        """Take ``path`` away at once; deleting comes later and takes its time."""
        with store_errors("can't remove a snapshot"):
            aside, fd = locked_folder(self._layout.snapshots, ".gone-")
            try:
                os.rename(path, os.path.join(aside, "snapshot"))
            except FileNotFoundError:
                pass
        return aside, fd

    def sweep(self) -> None:
        """Delete folders without a row, and temp folders whose maker is gone."""
        with os.scandir(self._layout.snapshots) as entries:
            folders = [(entry.name, entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name, path in folders:
            if name.startswith((".new-", ".gone-")):
                try:
                    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    delete_tree(path)
                except BlockingIOError:
                    pass
                finally:
                    os.close(fd)
            elif name[0] != "." and not self._known(name):
                # Inside a write transaction nobody can be between the rename and the row.
                with self._database.transaction():
                    aside = None if self._known(name) else self._set_aside(path)
                _delete_aside(aside)

    def _known(self, key: str) -> bool:
        row = self._database.connection().execute("SELECT 1 FROM snapshots WHERE key = ?", (key,)).fetchone()
        return row is not None


@dataclass(slots=True)
class Making:
    path: str
    entered: bool = False

    def make(self, name: str, mode: int = 0o755) -> str:
        """A folder inside, whatever the umask."""
        path = os.path.join(self.path, name)
        with store_errors("can't make a snapshot"):
            os.mkdir(path, 0o700)
            os.chmod(path, mode)
        return path


def locked_folder(parent: str, prefix: str) -> tuple[str, int]:
    """A new folder and the fd that holds its lock. A sweep may take the folder before it is locked: then another one."""
    import tempfile

    while True:
        path = tempfile.mkdtemp(prefix=prefix, dir=parent)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.path.isdir(path):
            return path, fd
        os.close(fd)


def _delete_aside(aside: tuple[str, int] | None) -> None:
    if aside is not None:
        path, fd = aside
        try:
            delete_tree(path)
        finally:
            os.close(fd)


def delete_tree(path: str) -> None:
    """Delete without following links; folders that forbid it are opened up first. What is gone already is fine."""
    import shutil
    import stat

    def open_up(function: object, name: str, info: object) -> None:
        error = info[1] if isinstance(info, tuple) else info
        if isinstance(error, FileNotFoundError):
            return
        if not isinstance(error, PermissionError):
            raise error if isinstance(error, BaseException) else OSError(str(error))
        for folder in (os.path.dirname(name), name):
            if stat.S_ISDIR(os.lstat(folder).st_mode):
                os.chmod(folder, 0o700)
        if stat.S_ISDIR(os.lstat(name).st_mode):
            shutil.rmtree(name)
        else:
            os.unlink(name)

    try:
        shutil.rmtree(path, onerror=open_up)
    except OSError as e:
        raise store_error(f"can't delete {path}", e) from e


def disk_usage(folder: str) -> Applied:
    """Bytes on disk and inodes below ``folder``, itself included; hard links count once."""
    seen: set[int] = set()
    status = os.lstat(folder)
    size, inodes = status.st_blocks * 512, 1
    stack = [folder]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif status.st_nlink > 1:
                    if status.st_ino in seen:
                        continue
                    seen.add(status.st_ino)
                size += status.st_blocks * 512
                inodes += 1
    return Applied(size, inodes)
