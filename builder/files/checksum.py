"""Content hash of paths: same names, bytes and metadata give the same digest. Times do not count.

What counts is what BuildKit counts (cache/contenthash): of every file its type, permission bits, owner, size, link target, device
numbers and extended attributes (of the ``security.`` ones only capabilities, of the ``system.`` ones none); of a folder its own
metadata, and names and digests of everything in it. The name of the path that is asked for does not count itself. The encoding is
BuildKit's too, so that its remote caches are found by content and ours by it; where it is not framed (extended attributes) it is
our own.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from builder.files.hashing import ensure_hashed, recursive_digest
from builder.files.statcache import StatCache
from builder.files.tree import Node, PathFilter, Tree
from builder.files.types import ChecksumOptions
from builder.oci.digest import Digest
from builder.text.glob import Glob, split_wildcards
from builder.text.paths import clean

if TYPE_CHECKING:
    from builder.text.patterns import MatchInfo, PatternMatcher

_ALL = ChecksumOptions()
_Entry = tuple[str, Node, bool]
"""(path as it was asked for, node, is it a match itself rather than something below one)."""


def checksum(
    folder: str,
    path: str,
    options: ChecksumOptions = _ALL,
    *,
    filter: PathFilter | None = None,
    reset_owner: bool = False,
    stat_cache: StatCache | None = None,
) -> Digest:
    """Checksum of ``path`` in ``folder``, see ``tree_checksum``. ``stat_cache`` helps only where inodes outlive the process."""
    with Tree(folder, filter, reset_owner=reset_owner) as tree:
        return tree_checksum(tree, path, options, stat_cache)


def tree_checksum(tree: Tree, path: str, options: ChecksumOptions, stat_cache: StatCache | None = None) -> Digest:
    """Checksum of ``path``: a file, a folder with all in it, or with ``options.wildcard`` whatever matches.

    FileNotFoundError where a path without wildcard or filters does not exist, or none of ``required_paths`` (its ``filename`` is
    the path in question). BadPatternError (ValueError) for a malformed pattern. ChangedError if a file changes all the time.
    """
    path = clean("/" + path)
    with tree.lock:
        if not (options.wildcard or options.include or options.exclude):
            _, node = tree.lookup(path, follow_last=options.follow_links)
            if node is None:
                raise FileNotFoundError(errno.ENOENT, "not found", path)
            return _digest(recursive_digest(tree, node, stat_cache))
        chosen = _chosen(tree, path, options)
        if path == "/":
            # What is below the root counts, not the root. (BuildKit follows links right below it here, and so takes a link for a
            # copy of its target. Not so here; but one that leads nowhere, or in circles, fails here too.)
            chosen = [x for x in chosen if x[1] is not tree.root]
        for required in options.required_paths:
            if not any(at.startswith(required) for at, _, _ in chosen):
                raise FileNotFoundError(errno.ENOENT, "not found", required)
        ensure_hashed(tree, [node for _, node, _ in chosen], stat_cache)
        prefix = (split_wildcards(path)[0] if options.wildcard else path).removesuffix("/")
        parts: list[bytes] = []
        for at, node, top in chosen:
            digest = node.digest
            if options.follow_links and node.is_link and (top or (path == "/" and node.parent is tree.root)):
                _, target = tree.lookup(node.path, follow_last=True)
                if target is None:
                    raise FileNotFoundError(errno.ENOENT, "not found", at)
                if top:
                    digest = recursive_digest(tree, target, stat_cache)
            assert digest is not None
            if len(chosen) == 1 and at.rpartition("/")[2] == path.rpartition("/")[2]:
                return _digest(digest)
            # Names begin with a slash, of which there is none in them, and 71 bytes end them: framed.
            parts += [os.fsencode(at.removeprefix(prefix)).replace(b"/", b"\0") or b"\0", b"sha256:", digest.hex().encode()]
        return _digest(hashlib.sha256(b"".join(parts)).digest())


def _digest(raw: bytes) -> Digest:
    return Digest("sha256:" + raw.hex())


# ------------------------------------------------------------------------------------------------ which files count
def _chosen(tree: Tree, path: str, options: ChecksumOptions) -> list[_Entry]:
    """Every file that counts. Folders stand for their own metadata here. A folder that the patterns leave out counts where
    something in it does.
    """
    include = _matcher(options.include, "include")
    exclude = _matcher(options.exclude, "exclude")
    out: list[_Entry] = []
    if options.wildcard:
        for at, node in glob(tree, path, follow_prefix=True):
            _gather(tree, node, at, include, exclude, out)
        return out
    _, base = tree.lookup(path, follow_last=options.follow_links)
    if base is not None:
        _gather(tree, base, "" if path == "/" else path, include, exclude, out)
    return out


def counted(tree: Tree, path: str, options: ChecksumOptions) -> list[Node]:
    """The files that a checksum with wildcards or filters covers."""
    return [node for _, node, _ in _chosen(tree, path, options)]


def _matcher(patterns: Sequence[str], kind: str) -> PatternMatcher | None:
    if not patterns:
        return None
    from builder.text.patterns import PatternMatcher

    return PatternMatcher(patterns, kind)


def _gather(
    tree: Tree,
    top: Node,
    at: str,
    include: PatternMatcher | None,
    exclude: PatternMatcher | None,
    out: list[_Entry],
) -> None:
    """Patterns are matched against paths below ``top``; ``top`` itself is left out by no pattern, but counts as a folder only
    with something in it where there are includes."""

    pending: list[_Entry] = []  # folders on the way that count only once something in them does
    folders: list[tuple[Iterator[Node], str, MatchInfo, MatchInfo, _Entry | None]] = []

    def look(node: Node, relative: str, in_info: MatchInfo, ex_info: MatchInfo) -> None:
        wanted = excluded = False
        if relative:
            wanted = True
            if include is not None:
                wanted, in_info = include.matches_using_parent_results(relative, in_info)
            if exclude is not None:
                excluded, ex_info = exclude.matches_using_parent_results(relative, ex_info)
                wanted = wanted and not excluded
        elif include is None or not node.is_dir:
            wanted = True
        entry = (at + "/" + relative if relative else at, node, not relative)
        if wanted:
            out.extend(pending)
            pending.clear()
            out.append(entry)
        if not node.is_dir:
            return
        if excluded and exclude is not None and not exclude.exclusions:
            return
        if not wanted:
            pending.append(entry)
        folders.append((iter(tree.children(node).values()), relative, in_info, ex_info, None if wanted else entry))

    look(top, "", None, None)
    while folders:
        kids, above, in_info, ex_info, put_off = folders[-1]
        kid = next(kids, None)
        if kid is not None:
            look(kid, f"{above}/{kid.name}" if above else kid.name, in_info, ex_info)
            continue
        folders.pop()
        if put_off is not None and pending and pending[-1] is put_off:
            pending.pop()


def glob(tree: Tree, path: str, *, follow_prefix: bool) -> list[tuple[str, Node]]:
    """What matches a path with wildcards, sorted, as (path as asked for, node). What lies below a match is not matched again.

    The part before the first wildcard has its links resolved, what the wildcards match is taken as it is. BadPatternError.
    """
    first, rest = split_wildcards(path)
    pattern = Glob(rest)
    _, base = tree.lookup(first, follow_last=follow_prefix)
    if base is None or not base.is_dir:
        return []
    prefix = "" if first == "/" else first
    levels = pattern.components()  # a star stops at slashes, so each folder's names are matched by a part of their own
    out: list[tuple[str, Node]] = []

    folders = [(iter(tree.children(base).values()), "")]
    while folders:
        kids, relative = folders[-1]
        kid = next(kids, None)
        if kid is None:
            folders.pop()
            continue
        name, level = relative + kid.name, len(folders) - 1
        if levels is not None:
            if not levels[level].match(kid.name):
                continue
            found = level == len(levels) - 1
        else:
            found = pattern.match(name)
        if found:
            out.append((f"{prefix}/{name}", kid))
        elif kid.is_dir:
            folders.append((iter(tree.children(kid).values()), name + "/"))
    return out
