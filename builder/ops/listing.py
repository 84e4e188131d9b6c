"""Which files the checksum of an input covers: for explanations, which name the files that changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from builder.files.checksum import counted
from builder.files.hashing import ensure_hashed
from builder.ops.refs import is_context
from builder.solver.types import FileListing, OpContext, UnknownContentError
from builder.sources.local import read_view

if TYPE_CHECKING:
    from builder.files.tree import Node, Tree
    from builder.files.types import ChecksumOptions
    from builder.ops.refs import Ref

MAX_FILES = 10_000
MAX_BYTES = 64 << 20
"""Of files that have to be read: those of a context were read for the checksum, and are not read again."""
_DIGEST_BYTES = 8


class Listing:
    """``CacheMapDep.listing`` of some paths of an input. A folder has a line of its own, for its mode and owner."""

    def __init__(self, selections: Sequence[tuple[str, ChecksumOptions]]) -> None:
        self._selections = selections

    def __call__(self, result: Ref, context: OpContext) -> FileListing:
        if context.planning and not is_context(result):
            raise UnknownContentError("files of a step's result are not looked at in a plan")
        found: dict[str, str] = {}
        with read_view(result) as tree, tree.lock:
            lead = "" if is_context(result) else "/"
            complete = all(_add(found, tree, path, options, lead) for path, options in self._selections)
        return FileListing(tuple(sorted(found.items())), complete)


def _add(found: dict[str, str], tree: Tree, path: str, options: ChecksumOptions, lead: str) -> bool:
    """Is there room for all of them?"""
    budget = MAX_BYTES
    for node in _nodes(tree, path, options):
        if node.digest is None:
            budget -= node.st.st_size if node.is_file else 0
            if budget < 0:
                return False
            ensure_hashed(tree, [node])
        if len(found) >= MAX_FILES:
            return False
        assert node.digest is not None
        name = lead + node.path + ("/" if node.is_dir and node.path else "")
        found[os.fsencode(name).decode("utf-8", "surrogateescape")] = node.digest[:_DIGEST_BYTES].hex()
    return True


def _nodes(tree: Tree, path: str, options: ChecksumOptions) -> Iterator[Node]:
    if options.wildcard or options.include or options.exclude:
        yield from counted(tree, path, options)
        return
    _, top = tree.lookup(path, follow_last=options.follow_links)
    stack = [] if top is None else [top]
    while stack:
        node = stack.pop()
        yield node
        if node.is_dir:
            stack += reversed(tree.children(node).values())
