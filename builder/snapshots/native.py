"""The native snapshotter: every snapshot is a whole tree, a copy of its parent's (shared on disk where reflinks work).

For machines that can't mount an overlay. Layers mean the same here as with the overlay snapshotter, because the same applier
unpacks them into a folder of their own first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.files.owners import current
from builder.snapshots.catalog import ACTIVE, COMMITTED, Catalog, Row, delete_tree, disk_usage, saving
from builder.snapshots.mounts import MountTable, sweep
from builder.snapshots.types import Applied
from builder.state.disk import store_error, store_errors
from runtime.linux import mounts

# The applier and the differ are imported where they are used: a cached build needs neither.
if TYPE_CHECKING:
    import sqlite3

    from builder.state.database import Database
    from builder.state.layout import Layout


class NativeSnapshotter:
    """``bind``: may this process mount? Then folders are lent out as bind mounts, committed ones read-only; else as they are."""

    parallel_apply = False

    def __init__(self, layout: Layout, database: Database, *, bind: bool) -> None:
        self.name = "native" + current().suffix
        self._layout = layout
        self._catalog = Catalog(layout, database, self.name)
        self._mounts = MountTable(layout)
        self._bind = bind

    def prepare(self, key: str, parent: str | None) -> None:
        if parent is not None:
            self._catalog.committed(parent)
        with self._catalog.making() as making:
            tree = making.make("fs")
            with saving(tree):
                self._copied(tree, parent)
            self._catalog.enter(making, Row(key, ACTIVE, parent))

    @contextmanager
    def mount(self, key: str) -> Iterator[str]:
        row = self._catalog.get(key)
        folder = self._fs(key)
        if not self._bind:
            if not os.path.isdir(folder):
                raise StoreError(f"snapshot {key} has lost its files")
            with self._catalog.saving(key):
                yield folder
            return

        def attach(target: str) -> None:
            mounts.bind(folder, target, readonly=row.kind == COMMITTED, recursive=False, nodev=True)

        with self._catalog.saving(key), self._mounts.use(key, attach) as target:
            yield target

    def commit(self, key: str) -> None:
        self._catalog.get(key)
        if self._mounts.mounted(key):
            raise StoreError(f"snapshot {key} is still mounted")
        self._catalog.mark_committed(key, explicit=True)

    def apply(self, key: str, parent: str | None, chunks: Iterable[bytes]) -> Applied:
        with self._catalog.making() as making:
            from builder.files.apply import unpack
            from builder.files.replay import lay_over

            tree, layer = making.make("fs"), making.make("layer")
            with saving(tree):
                self._copied(tree, parent)
                unpacked = unpack(chunks, layer, bottom=parent is None, lower=lambda: tree)
                with store_errors(f"can't unpack snapshot {key}"):
                    lay_over(layer, tree, unpacked)
            with store_errors(f"can't unpack snapshot {key}"):
                usage = disk_usage(tree)  # a whole tree of its own, not only the layer
            delete_tree(layer)
            self._catalog.enter(making, Row(key, COMMITTED, parent, usage=usage))
            return usage

    def merge(self, key: str, parents: Sequence[str]) -> None:
        for parent in parents:
            self._catalog.committed(parent)
        with self._catalog.making() as making:
            tree = making.make("fs")
            with saving(tree):
                self._copied(tree, parents[0] if parents else None)
                for parent in parents[1:]:
                    # Step by step: what a step of the chain deleted goes from the lower chains too.
                    for step, below in self._steps(parent):
                        self._replay(tree, step, below)
            self._catalog.enter(making, Row(key, COMMITTED, None))

    def own(self, key: str, source: str) -> None:
        row = self._catalog.committed(source)
        with self._catalog.making() as making:
            tree = making.make("fs")
            with saving(tree):
                self._replay(tree, source, row.parent)
            self._catalog.enter(making, Row(key, COMMITTED, None))

    def diff(self, key: str, parent: str | None, write: Callable[[bytes], object], *, clamp_mtime: int | None = None) -> None:
        from builder.files.differ import write_difference

        self._catalog.get(key)
        lower = None if parent is None else self._fs(self._catalog.get(parent).key)
        write_difference(self._fs(key), lower, write, clamp_mtime=clamp_mtime)

    def usage(self, key: str) -> Applied:
        return self._catalog.usage(key, self._fs(key))

    def remove(self, key: str) -> None:
        self._catalog.remove(key)

    def exists(self, key: str) -> bool:
        return self._catalog.find(key) is not None and self._catalog.has_files(key)

    def keys(self, *, of_another: bool = False) -> Iterator[str]:
        return self._catalog.keys(of_another=of_another)

    def other(self) -> str:
        return self._catalog.other()

    def forget(self, c: sqlite3.Connection, keys: Iterable[str]) -> None:
        self._catalog.forget(c, keys)

    def lost(self) -> list[str] | None:
        return self._catalog.lost()

    def trust(self) -> None:
        self._catalog.trust()

    def sweep(self) -> None:
        self._catalog.sweep()
        sweep(self._layout)

    def _fs(self, key: str) -> str:
        return self._catalog.files(key)

    def _copied(self, tree: str, parent: str | None) -> None:
        if parent is not None:
            from builder.files.copying import copy_tree

            self._catalog.committed(parent)
            with store_errors(f"can't copy snapshot {parent}"):
                copy_tree(self._fs(parent), tree)

    def _steps(self, key: str) -> list[tuple[str, str | None]]:
        """(snapshot, its parent) down to the bottom, lowest first. A merge is one step: its chain is not known any more."""
        steps: list[tuple[str, str | None]] = []
        step: str | None = key
        while step is not None:
            below = self._catalog.committed(step).parent
            steps.append((step, below))
            step = below
        return steps[::-1]

    def _replay(self, tree: str, key: str, below: str | None) -> None:
        """Do in ``tree`` what leads from the snapshot ``below`` to ``key``."""
        from contextlib import ExitStack

        from builder.files.differ import tree_changes
        from builder.files.replay import Player
        from builder.files.trees import held

        try:
            with ExitStack() as stack:
                upper, into = stack.enter_context(held(self._fs(key))), stack.enter_context(held(tree))
                lower = None if below is None else stack.enter_context(held(self._fs(below)))
                player = Player(upper, into)
                tree_changes(upper, lower, player)
                player.finish()
        except OSError as e:
            raise store_error(f"can't copy snapshot {key}", e) from e
