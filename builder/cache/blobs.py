"""Layers as blobs (BuildKit: GetRemotes, computeBlobChain): made once in one pass, remembered with the record.

One pass: the differ's tar goes into the diffID's sha256, through the compressor, into the blob's sha256 and the content store.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from builder.cache.locks import step_lock
from builder.cache.reading import verified
from builder.cache.record import DIFF, LAYER, LAZY, CacheRecord, LayerBlob, chains, layers_of, walk_up
from builder.content.types import Compression, Layer
from builder.errors import NotFoundError, StoreError
from builder.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from builder.oci.digest import Digest, Running
from builder.state.threads import run

if TYPE_CHECKING:
    from builder.cache.reading import LayerReader
    from builder.cache.store import CacheStore
    from builder.cache.unlazy import Unlazier

MEDIA_TYPES = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "uncompressed": OCI_LAYER}
_TRIES = 3


class NoBlobsError(NotFoundError):
    """A layer has no blob, and none was to be made."""


class LayerBlobs:
    """Finds the blobs of layers, and makes those that are missing. Thread-safe."""

    def __init__(self, store: CacheStore, *, reader: LayerReader, unlazier: Callable[[], Unlazier]) -> None:
        self._store = store
        self._reader = reader
        self._unlazier = unlazier

    def of(self, record_id: str, compression: Compression, *, create: bool) -> tuple[Layer, ...]:
        """See ``ImmutableRef.remote``."""
        chain = layers_of(self._store.known.get(record_id), self._store.known.get)
        found = {r.id: self._layer(r.id, compression) for r in chain}
        missing = [r for r in {r.id: r for r in chain}.values() if found[r.id] is None]
        if missing:
            if not create:
                raise NoBlobsError(f"{len(missing)} of {len(chain)} layers have no blob yet")
            run([partial(self._make, r, compression) for r in missing])
            found.update({r.id: self._layer(r.id, compression) for r in missing})
        if self._store.known.get(record_id).chain_id is None:
            self._set_chains(record_id)
        layers = [found[r.id] for r in chain]
        if None in layers:
            raise StoreError("the blob of a layer vanished while it was made", hint="build again")
        return tuple(layer for layer in layers if layer is not None)

    def _layer(self, record_id: str, compression: Compression) -> Layer | None:
        """The layer's blob as asked for, if there is one or it can be downloaded."""
        # Blob and diffID out of one row: another process may just have made the blob anew.
        now = self._store.records.get(record_id)
        if now is None or now.diff_id is None or not now.blobs:
            return None
        diff_id, blobs = now.diff_id, now.blobs
        blobs = tuple(b for b in blobs if _compression_of(b) == compression.type) if compression.force else blobs[:1]
        for blob in blobs:
            if self._store.providers.has_blob(blob.descriptor):
                return Layer(blob.descriptor, diff_id, None, blob.source)
        for blob in blobs:
            provider = self._store.providers.get(blob)
            if provider is not None:
                return Layer(blob.descriptor, diff_id, provider, blob.source)
        return None

    def _make(self, record: CacheRecord, compression: Compression) -> None:
        """Make the blob and remember it, unless another thread or process did meanwhile."""
        self._be_mountable(record)
        with step_lock(self._store.layout, record.id):
            record = self._store.known.reread(record.id)
            for _ in range(_TRIES):
                if self._layer(record.id, compression) is not None:
                    return
                has_files = record.kind == DIFF or record.state != LAZY
                blobs = self._store.records.blobs(record.id)
                has_blob = compression.force and any(self._store.providers.can_have(b) for b in blobs)
                if has_files and not has_blob:
                    self._compute(record, compression)
                else:
                    self._convert(record, compression)
                # A collector may have deleted a blob of the same digest just before the row named it. Then it is made once more.
                record = self._store.known.reread(record.id)

    def _be_mountable(self, record: CacheRecord) -> None:
        """Make mountable what the differ will read. It comes before the lock: a holder must not wait for another step's lock."""
        if record.kind == LAYER and record.state == LAZY:
            return  # it has a blob, which will be converted
        for at in (record.id,) if record.kind == LAYER else record.parents:
            self._unlazier().make_mountable(at)

    def _compute(self, record: CacheRecord, compression: Compression) -> None:
        from builder.content.compression import Compressor

        lower, upper = self._trees(record)
        running = Running()
        with self._store.content.writer() as blob:
            compressor = Compressor(blob.write, compression.type, compression.level)

            def write(data: bytes) -> None:
                running.update(data)
                compressor.write(data)

            self._store.snapshotter.diff(upper, lower, write)
            compressor.close()
            digest, size = blob.commit()
        diff_id = running.digest()
        descriptor = Descriptor(MEDIA_TYPES[compression.type], digest, size)
        with self._store.lease.transaction() as c:
            # An earlier blob was lost. The new one may be another (codec, level): chains that named the old one are void, here and
            # in all that stands on it.
            self._store.records.update(c, record.id, diff_id=diff_id, blobs=(LayerBlob(descriptor),))
            void = self._store.records.void_chains(c, record.id)
        self._store.known.refresh(void)

    def _trees(self, record: CacheRecord) -> tuple[str | None, str]:
        """Snapshots whose difference the layer is."""
        if record.kind == DIFF:
            lower, upper = (self._store.known.get(p) for p in record.parents)
            return lower.snapshot, upper.snapshot
        return None if record.parent is None else self._store.known.get(record.parent).snapshot, record.snapshot

    def _convert(self, record: CacheRecord, compression: Compression) -> None:
        """Compress the same tar in another way. diffID and chainID stay what they are."""
        from builder.content.compression import Compressor

        assert record.diff_id is not None
        blob, provider = self._reader.choose(record.id)
        with self._store.content.writer() as out:
            compressor = Compressor(out.write, compression.type, compression.level)
            with self._reader.open(blob, provider) as chunks:
                for chunk in verified(chunks, record.diff_id, blob.descriptor.digest):
                    compressor.write(chunk)
            compressor.close()
            digest, size = out.commit()
        with self._store.lease.transaction() as c:
            self._store.records.add_blob(c, record.id, LayerBlob(Descriptor(MEDIA_TYPES[compression.type], digest, size)))

    def _set_chains(self, record_id: str) -> None:
        """Write chainID and blobChainID of the record and of all it stands on, as far as digests are known."""
        records = self._store.records
        chainless = walk_up(self._store.known.reread(record_id), self._store.known.get, lambda r: r.chain_id is not None)
        layers = {r.id: [r.id] if r.kind == LAYER else [x.id for x in layers_of(r, self._store.known.get)] for r in chainless}
        with self._store.lease.transaction() as c:
            for record in chainless:
                links = [_link(records.get(at)) for at in layers[record.id]]
                below = records.get(record.parent) if record.parent is not None else None
                known = [link for link in links if link is not None]
                if len(known) == len(links) and (record.parent is None or (below is not None and below.chain_id is not None)):
                    by_diff, by_blob = chains(known, below)
                    records.update(c, record.id, chain_id=by_diff, blob_chain_id=by_blob)
        self._store.known.refresh(layers)


def _compression_of(blob: LayerBlob) -> str | None:
    from builder.content.compression import of_media_type

    return of_media_type(blob.descriptor.media_type)


def _link(record: CacheRecord | None) -> tuple[Digest, Digest] | None:
    """What one layer adds to a chain."""
    if record is None or record.diff_id is None or not record.blobs:
        return None
    return record.diff_id, record.blobs[0].descriptor.digest
