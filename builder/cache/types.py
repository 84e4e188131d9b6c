"""What the cache manager shows to others beside refs (``refs``): what can be read as a ref can, lines of ``du``, rules of
collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from builder.files.types import ChecksumOptions
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.cache.record import RecordType
    from builder.content.types import BlobProvider


class Readable(Protocol):
    """Files that an op can read: an ImmutableRef, or a local context read in place (``builder.sources.local.LocalRef``)."""

    @property
    def id(self) -> str: ...

    def mount(self) -> AbstractContextManager[str]:
        """A folder with the files, read-only, for as long as the context lasts. Unpacks lazy layers."""
        ...

    def checksum(self, path: str, options: ChecksumOptions = ...) -> Digest:
        """Content hash of ``path`` (file, folder, wildcard): same content, names and metadata, same digest; times don't count.
        FileNotFoundError if there is no such path."""
        ...

    def clone(self) -> Readable: ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One line of ``pybuild du``: BuildKit's client.UsageInfo. Times in nanoseconds since the epoch."""

    id: str
    parents: tuple[str, ...]
    size: int
    mutable: bool
    in_use: bool
    created_at_ns: int
    last_used_at_ns: int | None
    usage_count: int
    description: str
    record_type: RecordType
    shared: bool


@dataclass(frozen=True, slots=True)
class PrunePolicy:
    """A gc rule as buildkitd has them; sizes in bytes, 0 is "no bound"."""

    all: bool = False
    keep_duration_ns: int = 0
    reserved_space: int = 0
    max_used_space: int = 0
    min_free_space: int = 0
    filters: tuple[str, ...] = field(default=())


UnlazyProgress = Callable[[Descriptor, int, int, bool], None]
"""(layer, bytes done, bytes in all, finished)."""

GCRoot = Callable[[], Iterable[Digest]]
"""Gives blobs that something else than records needs. Called inside a write transaction: it may read the database, not write."""

ProviderResolver = Callable[[str, Descriptor], "BlobProvider | None"]
"""(``Layer.source``, blob) -> who provides it."""
