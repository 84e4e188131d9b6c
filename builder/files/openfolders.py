"""The folders on the way down a tree, held open as long as they fit."""

from __future__ import annotations

import os

from builder.files.tree import Node, Tree


class OpenFolders:
    """The folders of a tree from its top down to where a walk is, the deepest few held open. ``fd``: of the one we are in."""

    _MOST = 32

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._way: list[tuple[Node, int]] = []

    @property
    def fd(self) -> int:
        node, fd = self._way[-1]
        if fd < 0:
            fd = self._tree.open_folder(node)
            self._way[-1] = node, fd
        return fd

    def enter(self, node: Node) -> None:
        """ChangedError."""
        self._way.append((node, self._tree.open_folder(node)))
        if len(self._way) > self._MOST:
            self._close(-self._MOST - 1)

    def leave(self) -> None:
        self._close(-1)
        self._way.pop()

    def close(self) -> None:
        while self._way:
            self.leave()

    def _close(self, index: int) -> None:
        node, fd = self._way[index]
        if fd >= 0:
            os.close(fd)
            self._way[index] = node, -1
