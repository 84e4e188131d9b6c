"""Refs: the two views of a cache record that the engine's other parts hold.

    CacheManager.new(parent)   -> MutableRef      writable, and nobody else's
    MutableRef.commit()        -> ImmutableRef    read-only, shared freely. Only metadata is written
    ImmutableRef.finalize()                       the snapshotter hears of it; done by whoever needs the record as a parent
    release()                                     gives the ref back. The record stays in the cache until a collection takes it

A ref is one claim on a record, and the record is held by the process's lease while a ref of it lives. An ImmutableRef may be lazy:
nothing is downloaded or unpacked until ``mount`` or ``unlazy`` is called, or something is put on it by ``new``. A ref only
says which record, and when it is over; ``RefServices`` have those who do the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.cache.record import COMMITTED, MUTABLE, layers_of
from builder.cache.types import UnlazyProgress
from builder.content.types import Compression, Layer
from builder.errors import StoreError
from builder.files.types import ChecksumOptions
from builder.oci.digest import Digest
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.cache.blobs import LayerBlobs
    from builder.cache.changes import RecordChanges
    from builder.cache.checksums import Checksums
    from builder.cache.claims import Claims
    from builder.cache.known import KnownRecords
    from builder.cache.record import CacheRecord, RecordType
    from builder.cache.unlazy import Unlazier
    from builder.snapshots.types import Snapshotter

_ALL = ChecksumOptions()
_DEFAULT = Compression()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefServices:
    """What refs are made of; one for all refs of a cache. What a cached build has no need of is made when it is asked for."""

    known: KnownRecords
    claims: Claims
    changes: RecordChanges
    unlazier: Callable[[], Unlazier]
    blobs: Callable[[], LayerBlobs]
    checksums: Checksums
    snapshotter: Snapshotter

    def claim(self, record_id: str, *, used: bool = False) -> ImmutableRef:
        """A new ref of the record. GoneError (a KeyError) if it is gone; ``used``: see ``Claims.claim``."""
        self.claims.claim(record_id, used=used)
        return ImmutableRef(self, record_id)


class _Ref:
    """Which record, and who does the work on it."""

    __slots__ = ("_id", "_services")

    def __init__(self, services: RefServices, record_id: str) -> None:
        self._services = services
        self._id = record_id

    @property
    def id(self) -> str:
        return self._id

    @property
    def record(self) -> CacheRecord:
        """The record as this process knows it."""
        return self._services.known.get(self._id)

    @property
    def record_type(self) -> RecordType:
        return self.record.record_type

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}>"


class ImmutableRef(_Ref):
    """A read-only ref. Thread-safe. Release it once; ``layers()`` and ``parent`` give views that live as long as this ref."""

    __slots__ = ("_owner", "_released")

    def __init__(self, services: RefServices, record_id: str, owner: ImmutableRef | None = None) -> None:
        """The caller has claimed the record, or ``owner``, which stands above it, has."""
        super().__init__(services, record_id)
        self._owner = owner
        self._released = False

    @property
    def description(self) -> str:
        return self.record.description

    @property
    def created_at_ns(self) -> int:
        """Nanoseconds since the epoch: when it was committed, or first seen in a registry."""
        return self.record.created_at_ns

    @property
    def diff_id(self) -> Digest | None:
        """None before a blob was made or known."""
        return self.record.diff_id

    @property
    def chain_id(self) -> Digest | None:
        return self.record.chain_id

    @property
    def blob_chain_id(self) -> Digest | None:
        return self.record.blob_chain_id

    @property
    def parent(self) -> ImmutableRef | None:
        """The layer below, of a ref that is one layer on another."""
        below = self.record.parent
        return None if below is None else self._view(below)

    def layers(self) -> tuple[ImmutableRef, ...]:
        """The layers that an image of this ref has, bottom first."""
        return tuple(self._view(r.id) for r in layers_of(self.record, self._services.known.get))

    def finalize(self) -> None:
        """Commit to the snapshotter, if that was put off."""
        if self.record.state == COMMITTED:
            self._services.unlazier().finalize(self._id)

    def unlazy(self, progress: UnlazyProgress | None = None) -> None:
        """Make it mountable: download, unpack and merge what is not there yet. SourceError, IntegrityError, LayerError."""
        if not self._services.known.is_mountable(self._id):
            self._services.unlazier().make_mountable(self._id, progress)

    @contextmanager
    def mount(self) -> Iterator[str]:
        self.unlazy()
        with self._services.snapshotter.mount(self.record.snapshot) as folder:
            yield folder

    def checksum(self, path: str, options: ChecksumOptions = _ALL) -> Digest:
        return self._services.checksums.get(self, path, options)

    def known_checksum(self, path: str, options: ChecksumOptions = _ALL) -> Digest | None:
        """The checksum if it was computed before; nothing is mounted or fetched for it."""
        return self._services.checksums.known(self._id, path, options)

    def remote(self, compression: Compression = _DEFAULT, *, create: bool = True) -> tuple[Layer, ...]:
        """The layers as blobs, bottom first (BuildKit: GetRemotes). Blobs are made once and remembered; those of lazy layers stay
        where they are and keep their provider. ``compression`` is for new blobs; with ``force`` for all.

        NoBlobsError with ``create`` False if a blob would have to be made.
        """
        return self._services.blobs().of(self._id, compression, create=create)

    def clone(self) -> ImmutableRef:
        return self._services.claim(self._id)

    def release(self) -> None:
        if self._owner is None and not self._released:
            self._released = True
            self._services.claims.unclaim(self._id)

    def _view(self, record_id: str) -> ImmutableRef:
        return ImmutableRef(self._services, record_id, owner=self._owner or self)


class MutableRef(_Ref):
    """A writable ref: mount it, then ``commit`` or ``release``. Of a cache mount ``release`` keeps the files."""

    __slots__ = ("_at_end", "_over")

    def __init__(self, services: RefServices, record_id: str, at_end: Callable[[], None] | None = None) -> None:
        super().__init__(services, record_id)
        self._at_end = at_end
        self._over = False

    @contextmanager
    def mount(self) -> Iterator[str]:
        """The files, read-write. Several mounts at once see the same files."""
        if self._over:
            raise StoreError(f"record {self._id} is not writable any more")
        with self._services.snapshotter.mount(self.record.snapshot) as folder:
            yield folder

    def commit(self) -> ImmutableRef:
        """Read-only from now on. Only metadata is written: the snapshotter hears of it when somebody needs the files."""
        if self._over or self.record.state != MUTABLE or self.record.retained:
            raise StoreError(f"record {self._id} can't be committed")
        self._services.changes.commit(self._id)
        self._over = True  # not before: where the database has no room for it the files are to go
        return ImmutableRef(self._services, self._id)  # the claim goes over to it

    def release(self) -> None:
        """Let go. What was not committed is deleted, unless it is a cache mount. After ``commit`` free."""
        if not self._over:
            self._over = True
            try:
                if self.record.retained:
                    self._services.claims.unclaim(self._id)
                else:
                    self._services.changes.discard(self._id)
            finally:
                if self._at_end is not None:
                    self._at_end()
