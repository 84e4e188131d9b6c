"""What the snapshotters share: the table of snapshots and the life of their folders.

A snapshot is its row together with its folder ROOT/snapshots/KEY. A folder is made under a temp name that the maker holds
locked, renamed, and then entered; it leaves in the opposite order. So whatever a crash leaves behind has no row, or is no
longer locked, and ``sweep`` takes it. Beside its files a folder has the symbolic link ``id``, whose target is the key: files that
bear another name are not the snapshot's, however they came there. The file ``owners`` is there where some could not be kept at the
files (``builder.files.kept``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, Literal

from builder.errors import StoreError
from builder.files import trees
from builder.files.owners import current
from builder.snapshots import canary
from builder.snapshots.types import Applied
from builder.state import locks
from builder.state.disk import store_error, store_errors
from builder.state.schema import SNAPSHOTS
from builder.values import dataclass, replace

if TYPE_CHECKING:
    import sqlite3

    from builder.state.database import Database
    from builder.state.layout import Layout

SnapshotKind = Literal["active", "committed"]
ACTIVE: Final = "active"
COMMITTED: Final = "committed"
_MARK = "id"
_TABLE = "owners"
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


@dataclass(frozen=True, slots=True)
class Row:
    """``layers``: of a merged snapshot, the keys whose own folders lie over one another, lowest first; it has no files itself.
    ``explicit``: no opaque folders (see ``overlay``). ``usage`` is None until somebody asked."""

    key: str
    kind: SnapshotKind
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

    def folder(self, key: str, *names: str) -> str:
        if not key or key[0] == "." or not _ALPHABET.issuperset(key):
            raise StoreError(f"invalid snapshot key {key!r}")
        return os.path.join(self._layout.snapshots, key, *names)

    def files(self, key: str) -> str:
        """The folder with the snapshot's own files, whose owners are known from then on."""
        current().load(self.folder(key, _TABLE))
        return self.folder(key, "fs")

    def saving(self, key: str) -> AbstractContextManager[object]:
        """Somebody may write to the snapshot's own files: see ``Owners.saving``."""
        return saving(self.folder(key, "fs"))

    def find(self, key: str) -> Row | None:
        for name, driver, kind, parent, layers, explicit, size, inodes in self._database.find(SNAPSHOTS, key=key):
            if driver == self._driver:
                usage = None if size is None else Applied(size, inodes)
                return Row(name, kind, parent, tuple(layers.split()) if layers is not None else None, bool(explicit), usage)
        return None

    def has_files(self, key: str) -> bool:
        """Are the snapshot's own files there, and are they its own?"""
        try:
            return os.readlink(self.folder(key, _MARK)) == key and os.path.isdir(self.folder(key, "fs"))
        except OSError:
            return False

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

    def keys(self, *, of_another: bool = False) -> Iterator[str]:
        return iter([key for key, driver, *_ in self._database.select(SNAPSHOTS) if (driver != self._driver) == of_another])

    def other(self) -> str:
        return next(canary.others(self._layout.snapshots, self._driver), "")

    def mark_committed(self, key: str, *, explicit: bool) -> None:
        self._change(key, lambda row: replace(row, kind=COMMITTED, explicit=explicit))

    def mark_explicit(self, key: str) -> None:
        self._change(key, lambda row: replace(row, explicit=True))

    def usage(self, key: str, folder: str) -> Applied:
        """What the snapshot's own files, in ``folder``, take on disk. It is measured once, when nobody writes there any more."""
        row = self.get(key)
        if row.usage is not None:
            return row.usage
        with store_errors(f"can't read snapshot {key}"):
            usage = disk_usage(folder)
        if row.kind == COMMITTED:
            self.store_usage(key, usage)
        return usage

    def store_usage(self, key: str, usage: Applied) -> None:
        self._change(key, lambda row: replace(row, usage=usage))

    def _change(self, key: str, changed: Callable[[Row], Row]) -> None:
        with self._database.transaction() as c:
            self._put(c, changed(self.get(key)))

    def _put(self, c: sqlite3.Connection, row: Row) -> None:
        layers = None if row.layers is None else " ".join(row.layers)
        size, inodes = (row.usage.size, row.usage.inodes) if row.usage else (None, None)
        values = (row.key, self._driver, row.kind, row.parent, layers, row.explicit, size, inodes)
        self._database.put(c, SNAPSHOTS, [values])

    def forget(self, c: sqlite3.Connection, keys: Iterable[str]) -> None:
        """Drop rows, whosever, in the caller's transaction; their folders are ``sweep``'s then."""
        c.executemany("DELETE FROM snapshots WHERE key = ?", [(key,) for key in keys])

    def lost(self, opaque: str | None = None) -> list[str] | None:
        return canary.lost(self._layout.snapshots, self._driver, opaque)

    def trust(self, opaque: str | None = None) -> None:
        canary.make(self._layout.snapshots, self._driver, opaque)
        for other in list(canary.others(self._layout.snapshots, self._driver)):
            canary.remove(self._layout.snapshots, other)

    @contextmanager
    def making(self) -> Iterator[Making]:
        """A folder on its way; deleted when the block ends without ``enter``."""
        with store_errors("can't make a snapshot"):
            path, fd = locks.new_folder(self._layout.snapshots, ".new-")
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
        old = None
        with self._database.transaction() as c:
            if self._known(row.key):
                raise StoreError(f"snapshot {row.key} is there already")
            if os.path.lexists(target):
                old = self._set_aside(target)  # its row is gone: a removal that was cut short
            with store_errors(f"can't make snapshot {row.key}"):
                os.symlink(row.key, os.path.join(making.path, _MARK))
                os.rename(making.path, target)
            making.entered = True
            self._put(c, row)
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
            aside, fd = locks.new_folder(self._layout.snapshots, ".gone-")
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
                _delete_aside(_left(path))
            elif name[0] != "." and not self._known(name):
                # Inside a write transaction nobody can be between the rename and the row.
                with self._database.transaction():
                    aside = None if self._known(name) else self._set_aside(path)
                _delete_aside(aside)

    def _known(self, key: str) -> bool:
        return bool(self._database.rows("SELECT 1 FROM snapshots WHERE key = ?", (key,)))


def saving(folder: str) -> AbstractContextManager[object]:
    """Files are made in a snapshot's ``folder`` by the block: see ``Owners.saving``."""
    return current().saving(folder, os.path.join(os.path.dirname(folder), _TABLE))


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


def _left(path: str) -> tuple[str, int] | None:
    fd = locks.try_lock_left(path)
    return None if fd is None else (path, fd)


def _delete_aside(aside: tuple[str, int] | None) -> None:
    if aside is not None:
        path, fd = aside
        try:
            delete_tree(path)
        finally:
            os.close(fd)


def delete_tree(path: str) -> None:
    """``remove_tree`` as StoreError."""
    try:
        trees.remove_tree(path)
    except OSError as e:
        raise store_error(f"can't delete {path}", e) from e


def disk_usage(folder: str) -> Applied:
    """Bytes on disk and inodes of ``folder`` and all below it; hard links count once. OSError."""
    return Applied(*trees.disk_usage(folder))
