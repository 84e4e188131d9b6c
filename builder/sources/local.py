"""The local context, read in place: no upload, no copy, one look at every file.

What the build sees is what BuildKit's client would have sent (client/solve.go, session/filesync, fsutil): the files that
.dockerignore leaves, owned by 0:0, with their permission bits (setuid too), times, links and extended attributes; sockets as empty
files; the root itself as a folder made when the transfer began.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.cache.record import LOCAL_SOURCE
from builder.errors import NotFoundError, SourceError
from builder.files.checksum import tree_checksum
from builder.files.owners import REAL
from builder.files.statcache import StatCache
from builder.files.tree import Tree
from builder.files.types import ChecksumOptions
from builder.graph.ops import LocalSource
from builder.oci.digest import Digest, digest_parts
from builder.solver.types import CacheMap, OpContext, Result
from builder.state.cancel import checkpoint
from builder.text.patterns import MatchInfo, PatternMatcher
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.cache.refs import ImmutableRef
    from builder.cache.types import Readable
    from builder.graph.vertex import Vertex
    from builder.session import Session
    from builder.worker import Worker

_ALL = ChecksumOptions()
_PATTERN_CHARS = frozenset("*[]?^\\")


class IgnoreFilter:
    """.dockerignore patterns on a walk from the top down (fsutil/filter.go)."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._matcher = PatternMatcher(patterns, "exclude", checkpoint=checkpoint)
        exceptions = [p.text.removesuffix("/**").removesuffix("/*") for p in self._matcher.patterns if p.exclusion]
        # Exceptions that are plain paths tell which left-out folders are worth a look; a wildcard could match anywhere.
        self._anywhere = any(_PATTERN_CHARS.intersection(text) for text in exceptions)
        self._on_the_way = frozenset() if self._anywhere else frozenset(_and_above(exceptions))

    def match(self, path: str, parent: MatchInfo) -> tuple[bool, MatchInfo]:
        return self._matcher.matches_using_parent_results(path, parent)

    def may_contain(self, path: str) -> bool:
        return self._anywhere or path in self._on_the_way


def _and_above(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        while path:
            yield path
            path = path.rpartition("/")[0]


@dataclass(slots=True)
class _Shared:
    """What the clones of a ref have in common."""

    tree: Tree
    count: int = 1
    copy: ImmutableRef | None = None


class LocalRef:
    """A context folder as a result (``builder.cache.types.Readable``). Its content is what it was when it was first looked at.

    ``tree`` is for readers that need no folder of their own; ``materialize`` makes a real ref for all others.
    """

    def __init__(self, name: str, tree: Tree, worker: Worker, *, id: str = "", shared: _Shared | None = None) -> None:
        self.name = name
        self.id = id or f"local-{os.urandom(10).hex()}"
        self.tree = tree
        self._worker = worker
        self._shared = shared or _Shared(tree)
        self._stat_cache = StatCache(worker.database)
        self._released = False

    @classmethod
    def open(cls, name: str, folder: str, exclude: Sequence[str], worker: Worker) -> LocalRef:
        """NotFoundError, SourceError where ``folder`` can't be used."""
        try:
            tree = Tree(
                folder, IgnoreFilter(exclude) if exclude else None, reset_owner=True, root_time_ns=time.time_ns(), owners=REAL
            )
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NotFoundError(f'context folder "{folder}": {_reason(e)}') from e
        except OSError as e:
            raise SourceError(f'context folder "{folder}": {_reason(e)}') from e
        return cls(name, tree, worker)

    def checksum(self, path: str, options: ChecksumOptions = _ALL) -> Digest:
        """See ``builder.files.checksum.tree_checksum``; SourceError for a file that can't be read."""
        try:
            return tree_checksum(self.tree, path, options, self._stat_cache)
        except FileNotFoundError:
            raise
        except OSError as e:
            raise SourceError(f"context {self.name}: {e.filename or path}: {_reason(e)}") from e

    def materialize(self) -> ImmutableRef:
        """A private copy of all files that count, as a ref of the cache manager; made once. It stays this ref's to release."""
        with self.tree.lock:
            if self._shared.copy is None:
                from builder.files.copy import copy_tree

                mutable = self._worker.cache.new(None, description=f"local source for {self.name}", record_type=LOCAL_SOURCE)
                try:
                    with mutable.mount() as folder:
                        copy_tree(self.tree, folder)
                    self._shared.copy = mutable.commit()
                except OSError as e:
                    raise SourceError(f"context {self.name}: {e.filename or ''}: {_reason(e)}") from e
                finally:
                    if self._shared.copy is None:
                        mutable.release()
            return self._shared.copy

    @contextmanager
    def mount(self) -> Iterator[str]:
        """The copy's folder. (The context itself would show left-out files, owners, and writes to come.)"""
        with self.materialize().mount() as folder:
            yield folder

    def clone(self) -> LocalRef:
        with self.tree.lock:
            self._shared.count += 1
        return LocalRef(self.name, self.tree, self._worker, id=self.id, shared=self._shared)

    def release(self) -> None:
        with self.tree.lock:
            if self._released:
                return
            self._released = True
            self._shared.count -= 1
            if self._shared.count:
                return
            if self._shared.copy is not None:
                self._shared.copy.release()
                self._shared.copy = None
            self.tree.close()


@contextmanager
def read_view(ref: Readable) -> Iterator[Tree]:
    """The files of a ref to read from: a context's own view, or a ref's mounted folder."""
    if isinstance(ref, LocalRef):
        yield ref.tree
        return
    with ref.mount() as folder, Tree(folder) as tree:
        yield tree


class LocalSourceOp:
    """LocalSource as an operation. Its key never matches one of another process: only checksums of the content do."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        assert isinstance(vertex.op, LocalSource)
        self._source = vertex.op
        self._worker = worker
        self._session = session

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Result], bool]:
        """``include`` and ``follow_paths`` only spare BuildKit transfers; here nothing is transferred."""
        source = self._source
        digest = digest_parts(self._session.id, "local", source.name, *source.exclude)
        return CacheMap(digest, parts=(("context", source.name),), ephemeral=True), True

    def exec(self, context: OpContext, inputs: Sequence[Result]) -> Sequence[LocalRef]:
        folder = self._session.locals.get(self._source.name)
        if folder is None:
            raise SourceError(f"no local context named {self._source.name}")
        return [LocalRef.open(self._source.name, folder, self._source.exclude, self._worker)]


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
