"""Cache keys: what a vertex's output depends on, as a graph of keys (BuildKit: solver/cachekey.go).

A key is ``digest`` (of the op itself, from its CacheMap) and ``output``, and for each input the keys that input is known by:
several are alternatives for one another, a definition-based one beside a content-based one. A key without inputs is named by its
own digest. A key with inputs has no name of its own; a store names it by links (input key, Link) -> key, so that any choice of
alternatives leads to the same name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from builder.oci.digest import Digest
from builder.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.solver.exporter import Exporter
    from builder.solver.keycache import KeyCache

ROOTED = -2
"""The output index of a link whose digest names op and output together, as ``root_key`` does: all that a remote cache knows."""
CONTENT_OUTPUT = -1
"""The output index of a content-based key: the content has no producer."""
_RANDOM = "random:"


class Link(NamedTuple):
    """How a key enters another one: as input ``input``, ``selector`` of it, to output ``output`` of the op with ``digest``."""

    input: int
    output: int
    digest: str
    selector: str


class StoredResult(NamedTuple):
    """A result kept under a key. ``created_ns`` counts from the epoch."""

    id: str
    created_ns: int


def root_key(digest: str, output: int) -> str:
    """Name of a key without inputs: BuildKit's rootKey, so that digests which anybody computes alike (an image's chainID) are the
    same in remote caches. The number is what follows the last ``@``, so no two pairs share bytes. Digests of one build alone
    (``random:``) are their own name."""
    if digest.startswith(_RANDOM):
        return digest
    return Digest.of(f"{digest}@{output}".encode())


def record_digest(link: Link) -> str:
    """What the key that ``link`` leads to is called in a chain of records."""
    return link.digest if link.output == ROOTED else root_key(link.digest, link.output)


def new_id() -> str:
    """A fresh name for a key with inputs; never equal to a ``root_key``."""
    return os.urandom(16).hex()


@dataclass(eq=False, slots=True)
class CacheKey:
    """``ids`` are its names in the key caches that know it, ``index_ids`` those in the solver's own index."""

    id: str
    digest: str
    output: int
    vertex: str = ""
    deps: list[list[KeyWithSelector]] = field(default_factory=list)
    ids: dict[KeyCache, str] = field(default_factory=dict)
    index_ids: list[str] = field(default_factory=list)
    ephemeral: bool = False

    @classmethod
    def new(
        cls, digest: str, vertex: str, output: int, deps: list[list[KeyWithSelector]] | None = None, *, ephemeral: bool = False
    ) -> CacheKey:
        """A key that no store knows yet. It is ephemeral when an input of it has ephemeral keys only."""
        key = cls(root_key(digest, output), digest, output, vertex, deps or [])
        key.ephemeral = (
            ephemeral
            or digest.startswith(_RANDOM)
            or any(all(d.key.key.ephemeral for d in alternatives) for alternatives in key.deps)
        )
        return key

    @classmethod
    def content(cls, digest: Digest) -> CacheKey:
        """The slow key: content itself, wherever it came from."""
        return cls.new(digest, "", CONTENT_OUTPUT)

    def __repr__(self) -> str:
        return f"<CacheKey {self.id[:19]}@{self.output} of {len(self.deps)} inputs>"

    @property
    def is_root(self) -> bool:
        """Of a source: named by its own digest."""
        return self.id == root_key(self.digest, self.output)

    def with_deps(self, deps: list[list[KeyWithSelector]]) -> CacheKey:
        """The same stored key, seen with the inputs that led to it now."""
        return CacheKey(self.id, self.digest, self.output, self.vertex, deps, dict(self.ids), [], self.ephemeral)


@dataclass(frozen=True, slots=True)
class ExportableKey:
    """A key with the exporters that can write down the chain of records that leads to it."""

    key: CacheKey
    exporters: tuple[Exporter, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyWithSelector:
    key: ExportableKey
    selector: str = ""


def with_selector(keys: Sequence[ExportableKey], selector: str) -> list[KeyWithSelector]:
    return [KeyWithSelector(k, selector) for k in keys]


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A result that was found under ``key`` in ``source``."""

    id: str
    created_ns: int
    key: CacheKey
    source: KeyCache


def best_record(records: Sequence[FoundRecord]) -> FoundRecord:
    """The first of those of the first source (the own store: nothing to fetch), the newest, with the id as the last word."""
    return min(records, key=lambda r: (r.source.priority, -r.created_ns, r.id))
