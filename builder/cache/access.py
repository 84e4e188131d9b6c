"""Records to hold: those that are there are looked up, others are made (BuildKit: cache/manager.go)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.cache.record import (
    DIFF,
    LAYER,
    LAZY,
    MERGE,
    MUTABLE,
    READY,
    REGULAR,
    CacheRecord,
    GoneError,
    LayerBlob,
    chains,
    layers_of,
)
from builder.cache.refs import ImmutableRef, MutableRef
from builder.errors import NotFoundError, StoreError
from builder.text.redact import redact_text
from builder.values import replace

if TYPE_CHECKING:
    from builder.cache.damage import Damage
    from builder.cache.record import RecordKind, RecordState, RecordType
    from builder.cache.refs import RefServices
    from builder.cache.store import CacheStore
    from builder.cache.types import UnlazyProgress
    from builder.content.types import Layer


class Access:
    """Gives refs. Thread-safe."""

    def __init__(self, store: CacheStore, *, services: RefServices, damage: Damage) -> None:
        self._store = store
        self._services = services
        self._known = services.known
        self._changes = services.changes
        self._damage = damage

    def new(
        self,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        record_type: RecordType = REGULAR,
        retain: bool = False,
        mount_key: str | None = None,
    ) -> MutableRef:
        """A writable record on ``parent``, which is unpacked and finalized first; on nothing for None. ``retain``: it is not
        deleted when its writer lets go; ``mount_key``: it is found again under that (cache mounts)."""
        if parent is not None:
            parent.unlazy()
        parents = () if parent is None else (parent.id,)
        record = replace(
            _record(LAYER, MUTABLE, parents, description), record_type=record_type, retained=retain, mount_key=mount_key
        )
        self._changes.add(record)
        try:
            # The row comes first: a snapshot without a row is garbage to everybody.
            self._store.snapshotter.prepare(record.snapshot, None if parent is None else parent.record.snapshot)
        except BaseException:
            self._changes.discard(record.id)
            raise
        return MutableRef(self._services, record.id)

    def get(self, record_id: str, *, used: bool = True) -> ImmutableRef:
        """A ref of a committed record. KeyError if it is gone, or was found damaged (then it is gone now, with a warning).

        ``used`` False: this is no use that keeps it from being pruned.
        """
        ref = self._services.claim(record_id, used=used)
        try:
            if ref.record.state == MUTABLE:
                raise GoneError(record_id)
            if not self._damage.is_sound(record_id):
                raise GoneError(record_id)
        except BaseException:
            ref.release()
            raise
        return ref

    def get_by_blob(
        self,
        layer: Layer,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        created_at_ns: int | None = None,
        progress: UnlazyProgress | None = None,
    ) -> ImmutableRef:
        """The record of ``layer`` on ``parent``. One of the same blobChainID is the record; one of the same chainID lends its
        snapshot to a new record; else the new record is blob-only: nothing is downloaded. ``created_at_ns``: when the layer was
        made, if that is known; it was now otherwise.

        StoreError if the parent's layers have no digests yet. NotFoundError if nobody can provide the blob.
        """
        self._store.providers.offer([layer], progress)
        digest, diff_id = layer.descriptor.digest, layer.diff_id
        if layer.provider is None and not self._store.content.has(digest):
            raise NotFoundError(f"blob {digest} is not in the content store")
        if parent is not None and (parent.chain_id is None or parent.blob_chain_id is None):
            raise StoreError(f"record {parent.id} has no layer digests yet, no layer can be put on it")
        chain, blob_chain = chains([(diff_id, digest)], None if parent is None else parent.record)
        record = replace(
            _record(LAYER, LAZY, () if parent is None else (parent.id,), description),
            diff_id=diff_id,
            chain_id=chain,
            blob_chain_id=blob_chain,
            blobs=(LayerBlob(layer.descriptor, layer.source),),
        )
        if created_at_ns is not None:
            record = replace(record, created_at_ns=created_at_ns)
        missed: set[str] = set()
        while True:
            for found in self._store.records.by_blob_chain(blob_chain):
                try:
                    return self.get(found.id)
                except KeyError:
                    missed.add(found.id)
            with self._store.lease.transaction() as c:
                # Asked again now that nobody else can add one: two processes that pull the same image share its records.
                if all(r.id in missed for r in self._store.records.by_blob_chain(blob_chain)):
                    record = self._linked(record, self._store.records.by_chain(chain))
                    self._changes.insert(c, record)
                    break
        self._changes.enter(record)
        return ImmutableRef(self._services, record.id)

    def merge(self, refs: Sequence[ImmutableRef | None], *, description: str = "") -> ImmutableRef | None:
        """The inputs' layers over one another, first lowest. Nothing is laid anywhere before a mount. None for no inputs;
        one input is its own merge; merges of merges are made flat."""
        parents: list[str] = []
        for ref in refs:
            if ref is not None:
                parents += ref.record.parents if ref.record.kind == MERGE else (ref.id,)
        if not parents:
            return None
        if len(parents) == 1:
            return self._services.claim(parents[0])
        record = _record(MERGE, LAZY, tuple(parents), description)
        self._changes.add(record)
        return ImmutableRef(self._services, record.id)

    def diff(self, lower: ImmutableRef | None, upper: ImmutableRef | None, *, description: str = "") -> ImmutableRef | None:
        """What ``upper`` adds to and deletes from ``lower``. If lower's layers are the first of upper's it is the rest of them
        (docs/dev/merge-diff.md of BuildKit), else the trees are compared once somebody needs it. None for an empty difference."""
        if lower is None:
            return None if upper is None else upper.clone()
        if upper is None:
            return self._diff(lower.id, self._nothing(), description)
        if lower.id == upper.id:
            return None
        below, above = [[r.id for r in layers_of(x.record, self._known.get)] for x in (lower, upper)]
        if len(above) <= len(below) + 1 or above[: len(below)] != below:
            return self._diff(lower.id, upper.id, description)
        parts: list[ImmutableRef] = []
        try:
            for layer_id in above[len(below) :]:
                step = self._known.get(layer_id)
                if step.parent is None:
                    parts.append(self._services.claim(layer_id))
                else:
                    parts.append(self._diff(step.parent, layer_id, f'diff "{step.parent}" -> "{layer_id}"'))
            return self.merge(parts, description=description)
        finally:
            for part in parts:
                part.release()

    def _linked(self, record: CacheRecord, twins: list[CacheRecord]) -> CacheRecord:
        """Share the snapshot of a record with the same chainID. Its parent must share its snapshot too: whoever is deleted
        first must not take away what the other one's snapshot stands on."""
        mine = None if record.parent is None else self._known.get(record.parent).snapshot
        for twin in twins:
            theirs = None if twin.parent is None else self._known.get(twin.parent).snapshot
            if twin.kind == LAYER and twin.state in (LAZY, READY) and mine == theirs:
                return replace(record, snapshot=twin.snapshot, state=twin.state)
        return record

    def _diff(self, lower: str, upper: str, description: str) -> ImmutableRef:
        record = _record(DIFF, LAZY, (lower, upper), description)
        self._changes.add(record)
        return ImmutableRef(self._services, record.id)

    def _nothing(self) -> str:
        """An empty committed record, for a diff whose upper is nothing."""
        empty = self.new(None, description="empty")
        ref = empty.commit()
        try:
            return ref.id
        finally:
            ref.release()


def _record(kind: RecordKind, state: RecordState, parents: tuple[str, ...], description: str) -> CacheRecord:
    """A record that begins now, with a snapshot of its own name. The description may be a command, with the URLs that are in it."""
    new = os.urandom(12).hex()
    now = time.time_ns()
    return CacheRecord(
        id=new,
        kind=kind,
        state=state,
        snapshot=new,
        parents=parents,
        created_at_ns=now,
        last_used_ns=now,
        description=redact_text(description),
    )
