"""The overlay snapshotter: a snapshot's own folder is exactly its diff, a chain is a list of folders.

Nothing is ever copied or compared. Layers are unpacked side by side (``apply``), merges are longer lists. overlayfs marks a
new folder as opaque whenever it likes ("nothing below", true at that moment); under another chain the mark would hide that
chain's files, so folders that are laid over foreign ones are made explicit first: a whiteout for each name that the mark hid.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.files.owners import current
from builder.files.xattrs import read_xattr
from builder.snapshots.catalog import ACTIVE, COMMITTED, Catalog, Row, delete_tree, saving
from builder.snapshots.mounts import MountTable, sweep
from builder.snapshots.types import Applied
from builder.state.disk import store_error, store_errors
from runtime.linux import mounts

# The applier and the differ are imported where they are used: a cached build needs neither.
if TYPE_CHECKING:
    import sqlite3

    from builder.files.types import Unpacked
    from builder.state.database import Database
    from builder.state.layout import Layout

MAX_LAYERS = 500
"""The kernel's OVL_MAX_STACK, the upperdir not counted."""


class OverlaySnapshotter:
    """Needs the right to mount. ``userxattr``: in a user namespace, where overlayfs keeps its marks in user.* attributes."""

    parallel_apply = True

    def __init__(self, layout: Layout, database: Database, *, userxattr: bool = False) -> None:
        self.name = ("overlay-user" if userxattr else "overlay") + current().suffix
        self._layout = layout
        self._catalog = Catalog(layout, database, self.name)
        self._mounts = MountTable(layout)
        self._userxattr = userxattr
        self._opaque = "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"
        self._chains: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()
        self._unpacking = 0

    def prepare(self, key: str, parent: str | None) -> None:
        if parent is not None:
            self._catalog.committed(parent)
        with self._catalog.making() as making:
            folder = making.make("fs")
            self._own_root(folder, parent)
            self._catalog.enter(making, Row(key, ACTIVE, parent))

    @contextmanager
    def mount(self, key: str) -> Iterator[str]:
        row = self._catalog.get(key)
        if row.kind == ACTIVE:
            with self._mount_active(row) as folder:
                yield folder
            return
        lowers = [self._fs(layer) for layer in reversed(self._chain(row))]
        if len(lowers) > MAX_LAYERS:
            raise _too_many(len(lowers))
        # A folder alone may hold whiteouts for what is not below it; as an overlay of two they don't show.
        if row.layers is not None and len(lowers) < 2:
            lowers.append(self._empty())

        def attach(target: str) -> None:
            mounts.overlay(lowers, None, None, target, userxattr=self._userxattr)

        with self._mounts.use(key, attach) as folder:
            yield folder

    @contextmanager
    def _mount_active(self, row: Row) -> Iterator[str]:
        import tempfile

        lowers = [self._fs(layer) for layer in reversed(self._chain_of(row.parent))]
        if len(lowers) > MAX_LAYERS:
            raise _too_many(len(lowers))
        work: list[str] = []

        def attach(target: str) -> None:
            # A workdir of its own for each mount: after a volatile mount it can't be used again.
            with store_errors(f"can't mount snapshot {row.key}"):
                work.append(tempfile.mkdtemp(prefix="work-", dir=self._catalog.folder(row.key)))
            mounts.overlay(lowers, self._fs(row.key), work[0], target, userxattr=self._userxattr)

        def detach() -> None:
            for name in os.listdir(self._catalog.folder(row.key)):
                if name.startswith("work-"):
                    delete_tree(self._catalog.folder(row.key, name))

        with self._catalog.saving(row.key), self._mounts.use(row.key, attach, detach) as folder:
            yield folder

    def commit(self, key: str) -> None:
        row = self._catalog.get(key)
        if row.kind == COMMITTED:
            return
        if self._mounts.mounted(key):
            raise StoreError(f"snapshot {key} is still mounted")
        # Without a parent it was a plain bind: overlayfs had no occasion to leave marks.
        self._catalog.mark_committed(key, explicit=row.parent is None)

    def apply(self, key: str, parent: str | None, chunks: Iterable[bytes]) -> Applied:
        from builder.files.marks import write_marks

        with self._catalog.making() as making:
            folder = making.make("fs")
            unpacked = self._unpack(chunks, folder, parent)
            write_marks(folder, unpacked, self._opaque)
            usage = Applied(unpacked.size + os.stat(folder).st_blocks * 512, unpacked.inodes + 1)
            self._catalog.enter(making, Row(key, COMMITTED, parent, explicit=not unpacked.opaques, usage=usage))
            return usage

    def _unpack(self, chunks: Iterable[bytes], folder: str, parent: str | None) -> Unpacked:
        """In this thread when nothing else is being unpacked, else in a forked child: threads would share one interpreter."""
        with self._lock:
            alone = self._unpacking == 0
            self._unpacking += 1
        try:
            with ExitStack() as mounted:

                def lower() -> str | None:
                    if parent is None or not self._ready(parent):
                        return None
                    return mounted.enter_context(self.mount(parent))

                if alone:
                    from builder.files.apply import unpack

                    with saving(folder):
                        return unpack(chunks, folder, bottom=parent is None, lower=lower)
                from builder.snapshots.workers import unpack_in_child

                return unpack_in_child(chunks, folder, bottom=parent is None, lower=lower())
        finally:
            with self._lock:
                self._unpacking -= 1

    def _ready(self, key: str) -> bool:
        """Is the whole chain there? Layers that are unpacked side by side are entered in any order."""
        step: str | None = key
        while step is not None and step not in self._chains:
            row = self._catalog.find(step)
            if row is None:
                return False
            step = row.parent if row.layers is None else None
        return True

    def merge(self, key: str, parents: Sequence[str]) -> None:
        layers: list[str] = []
        for index, parent in enumerate(parents):
            row = self._catalog.committed(parent)
            chain = self._chain(row)
            if index:
                for layer in chain:
                    self._make_explicit(layer)
            layers += chain
        # A layer that comes twice counts where it is uppermost: there it covers all it had put further down.
        unique = tuple(reversed(dict.fromkeys(reversed(layers))))
        with self._catalog.making() as making:
            self._catalog.enter(making, Row(key, COMMITTED, None, unique, usage=Applied(0, 0)))

    def own(self, key: str, source: str) -> None:
        row = self._catalog.committed(source)
        if row.layers is not None:
            raise StoreError(f"snapshot {source} is a merge and has no files of its own")
        self._make_explicit(source)
        with self._catalog.making() as making:
            self._catalog.enter(making, Row(key, COMMITTED, None, (source,), usage=Applied(0, 0)))

    def diff(self, key: str, parent: str | None, write: Callable[[bytes], object], *, clamp_mtime: int | None = None) -> None:
        from builder.files import differ

        row = self._catalog.get(key)
        above, below = self._chain(row), self._chain_of(parent)
        if above[:-1] == below:
            with self._lower(parent) as lower:
                upper = self._fs(above[-1])
                differ.write_upperdir(upper, lower, write, opaque=self._opaque, clamp_mtime=clamp_mtime)
            return
        with self._lower(parent) as lower, self.mount(key) as upper:
            differ.write_difference(upper, lower, write, clamp_mtime=clamp_mtime)

    @contextmanager
    def _lower(self, parent: str | None) -> Iterator[str | None]:
        if parent is None:
            yield None
            return
        with self.mount(parent) as folder:
            yield folder

    def usage(self, key: str) -> Applied:
        return self._catalog.usage(key, self._fs(key))

    def remove(self, key: str) -> None:
        self._chains.pop(key, None)
        self._catalog.remove(key)

    def exists(self, key: str) -> bool:
        row = self._catalog.find(key)
        if row is None:
            return False
        return all(self._catalog.has_files(layer) for layer in ([key] if row.layers is None else row.layers))

    def keys(self, *, of_another: bool = False) -> Iterator[str]:
        return self._catalog.keys(of_another=of_another)

    def other(self) -> str:
        return self._catalog.other()

    def forget(self, c: sqlite3.Connection, keys: Iterable[str]) -> None:
        self._catalog.forget(c, keys)

    def lost(self) -> list[str] | None:
        return self._catalog.lost(self._opaque)

    def trust(self) -> None:
        self._catalog.trust(self._opaque)

    def sweep(self) -> None:
        self._catalog.sweep()
        sweep(self._layout)

    def _fs(self, key: str) -> str:
        return self._catalog.files(key)

    def _empty(self) -> str:
        folder = self._layout.path("snapshots", ".empty")
        with store_errors("can't make a snapshot"):
            os.makedirs(folder, mode=0o755, exist_ok=True)
        return folder

    def _own_root(self, folder: str, parent: str | None) -> None:
        """containerd: a new snapshot's root has the owner of its parent's, and mode 0755 whatever that has."""
        if parent is None:
            return
        chain = self._chain_of(parent)
        if chain:
            with store_errors("can't make a snapshot"):
                owners = current()
                status = owners.stat(self._fs(chain[-1]))
                if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    owners.chown(folder, status.st_uid, status.st_gid)

    def _chain_of(self, key: str | None) -> tuple[str, ...]:
        if key is None:
            return ()
        known = self._chains.get(key)
        return known if known is not None else self._chain(self._catalog.get(key))

    def _chain(self, row: Row) -> tuple[str, ...]:
        """Keys of the folders, lowest first."""
        above: list[str] = []
        key, step = row.key, row
        while step.layers is None:
            above.append(step.key)
            if step.parent is None:
                base: tuple[str, ...] = ()
                break
            if (known := self._chains.get(step.parent)) is not None:
                base = known
                break
            step = self._catalog.get(step.parent)
        else:
            base = step.layers
        chain = (*base, *reversed(above))
        if row.kind == COMMITTED:
            self._chains[key] = chain
        return chain

    def _make_explicit(self, key: str) -> None:
        """Replace opaque marks in the folder of ``key`` by whiteouts for the names they hide in its own chain."""
        from builder.files.trees import held

        row = self._catalog.get(key)
        if row.explicit:
            return
        with self._lower(row.parent) as lower:
            try:
                with ExitStack() as stack:
                    below = None if lower is None else stack.enter_context(held(lower))
                    _explicit(stack.enter_context(held(self._fs(key))), below, self._opaque)
            except OSError as e:
                raise store_error(f"can't rework snapshot {key}", e) from e
        self._catalog.mark_explicit(key)


def _explicit(upper: str, lower: str | None, attribute: str) -> None:
    """Deepest folder first, whiteouts before the mark goes: at no time does anything hidden show through."""
    todo: list[tuple[str, str | None, bool]] = []
    stack: list[tuple[str, str | None, bool]] = [(upper, lower, False)]
    while stack:
        folder, below, hidden = stack.pop()
        hidden = hidden or bool(folder != upper and read_xattr(folder, attribute))
        todo.append((folder, below, hidden))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    under = f"{below}/{entry.name}" if below is not None else None
                    stack.append((entry.path, under if under is not None and _is_folder(under) else None, hidden))
    for folder, below, hidden in reversed(todo):
        if not hidden:
            continue
        missing = set(os.listdir(below)).difference(os.listdir(folder)) if below is not None else ()
        if missing:
            mtime = os.lstat(folder).st_mtime_ns
            for name in missing:
                os.mknod(f"{folder}/{name}", stat.S_IFCHR | 0o600, 0)
            os.utime(folder, ns=(mtime, mtime))
        if read_xattr(folder, attribute):
            os.removexattr(folder, attribute)


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _too_many(count: int) -> StoreError:
    return StoreError(
        f"{count} layers are more than the {MAX_LAYERS} that overlayfs can stack",
        hint="join RUN or COPY steps, or use the native snapshotter",
    )
