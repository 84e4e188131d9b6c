"""Layers as blobs (BuildKit: GetRemotes, computeBlobChain): made once in one pass, remembered with the record.

One pass: the differ's tar goes into the diffID's sha256, through the compressor, into the blob's sha256 and the content store.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from builder.cache.record import DIFF, LAYER, LAZY, CacheRecord, LayerBlob, chains, walk_up
from builder.cache.unpack import choose_blob, opened, verified
from builder.content.types import Compression, Layer
from builder.errors import NotFoundError, StoreError
from builder.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from builder.oci.digest import Digest
from builder.state.threads import run

if TYPE_CHECKING:
    from builder.cache.manager import CacheManager

MEDIA_TYPES = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "uncompressed": OCI_LAYER}
_TRIES = 3


class NoBlobsError(NotFoundError):
    """A layer has no blob, and none was to be made."""


def remote(manager: CacheManager, record_id: str, compression: Compression, *, create: bool) -> tuple[Layer, ...]:
    """See ``ImmutableRef.remote``."""
    chain = manager.layer_chain(record_id)
    found = {r.id: _layer(manager, r, compression) for r in chain}
    missing = [r for r in {r.id: r for r in chain}.values() if found[r.id] is None]
    if missing:
        if not create:
            raise NoBlobsError(f"{len(missing)} of {len(chain)} layers have no blob yet")
        run([lambda r=r: _make(manager, r, compression) for r in missing])  # type: ignore[misc]
        found.update({r.id: _layer(manager, manager.record(r.id), compression) for r in missing})
    if manager.record(record_id).chain_id is None:
        _set_chains(manager, record_id)
    layers = [found[r.id] for r in chain]
    if None in layers:
        raise StoreError("the blob of a layer vanished while it was made", hint="build again")
    return tuple(layer for layer in layers if layer is not None)


def _layer(manager: CacheManager, record: CacheRecord, compression: Compression) -> Layer | None:
    """The layer's blob as asked for, if there is one or it can be downloaded."""
    # Blob and diffID out of one row: another process may just have made the blob anew.
    now = manager.records.get(record.id)
    if now is None or now.diff_id is None or not now.blobs:
        return None
    diff_id, blobs = now.diff_id, now.blobs
    blobs = tuple(b for b in blobs if _compression_of(b) == compression.type) if compression.force else blobs[:1]
    for blob in blobs:
        if manager.has_blob(blob.descriptor):
            return Layer(blob.descriptor, diff_id, None, blob.source)
    for blob in blobs:
        provider = manager.provider(blob)
        if provider is not None:
            return Layer(blob.descriptor, diff_id, provider, blob.source)
    return None


def _compression_of(blob: LayerBlob) -> str | None:
    from builder.content.compression import of_media_type

    return of_media_type(blob.descriptor.media_type)


def _make(manager: CacheManager, record: CacheRecord, compression: Compression) -> None:
    """Make the blob and remember it, unless another thread or process did meanwhile."""
    _be_mountable(manager, record)
    with manager.step_lock(record.id):
        record = manager.reread(record.id)
        for _ in range(_TRIES):
            if _layer(manager, record, compression) is not None:
                return
            has_files = record.kind == DIFF or record.state != LAZY
            if has_files and not (compression.force and any(manager.obtainable(b) for b in manager.records.blobs(record.id))):
                _compute(manager, record, compression)
            else:
                _convert(manager, record, compression)
            # A collector may have deleted a blob of the same digest just before the row was there: then once more.
            record = manager.reread(record.id)


def _be_mountable(manager: CacheManager, record: CacheRecord) -> None:
    """What the differ reads has to be there before the lock is taken: nobody waits for others' steps while holding one."""
    if record.kind == LAYER and record.state == LAZY:
        return  # it has a blob: that is converted
    for at in (record.id,) if record.kind == LAYER else record.parents:
        manager.unlazy(at)


def _compute(manager: CacheManager, record: CacheRecord, compression: Compression) -> None:
    from builder.content.compression import Compressor

    lower, upper = _trees(manager, record)
    diff_hash = hashlib.sha256()
    with manager.content.writer() as blob:
        compressor = Compressor(blob.write, compression.type, compression.level)

        def write(data: bytes) -> None:
            diff_hash.update(data)
            compressor.write(data)

        manager.snapshotter.diff(upper, lower, write)
        compressor.close()
        digest, size = blob.commit()
    diff_id = Digest("sha256:" + diff_hash.hexdigest())
    descriptor = Descriptor(MEDIA_TYPES[compression.type], digest, size)
    with manager.lease.transaction() as c:
        # An earlier blob was lost. The new one may be another (codec, level): chains that named the old one are void, here and
        # in all that stands on it.
        manager.records.update(c, record.id, diff_id=diff_id, blobs=(LayerBlob(descriptor),))
        void = manager.records.void_chains(c, record.id)
    manager.refresh(void)


def _trees(manager: CacheManager, record: CacheRecord) -> tuple[str | None, str]:
    """Snapshots whose difference the layer is."""
    if record.kind == DIFF:
        lower, upper = (manager.record(p) for p in record.parents)
        return lower.snapshot, upper.snapshot
    return None if record.parent is None else manager.record(record.parent).snapshot, record.snapshot


def _convert(manager: CacheManager, record: CacheRecord, compression: Compression) -> None:
    """The same tar, compressed otherwise: diffID and chainID stay."""
    from builder.content.compression import Compressor

    assert record.diff_id is not None
    blob, provider = choose_blob(manager, record)
    with manager.content.writer() as out:
        compressor = Compressor(out.write, compression.type, compression.level)
        with opened(manager, blob, provider) as chunks:
            for chunk in verified(chunks, record.diff_id, blob.descriptor.digest):
                compressor.write(chunk)
        compressor.close()
        digest, size = out.commit()
    with manager.lease.transaction() as c:
        manager.records.add_blob(c, record.id, LayerBlob(Descriptor(MEDIA_TYPES[compression.type], digest, size)))


def _set_chains(manager: CacheManager, record_id: str) -> None:
    """chainID and blobChainID of the ref and all it stands on, as far as digests are known."""
    records = manager.records
    chainless = walk_up(manager.reread(record_id), manager.record, lambda r: r.chain_id is not None)
    layers = {r.id: [r.id] if r.kind == LAYER else [x.id for x in manager.layer_chain(r.id)] for r in chainless}
    with manager.lease.transaction() as c:
        for record in chainless:
            links = [_link(records.get(at)) for at in layers[record.id]]
            below = records.get(record.parent) if record.parent is not None else None
            known = [link for link in links if link is not None]
            if len(known) == len(links) and (record.parent is None or (below is not None and below.chain_id is not None)):
                by_diff, by_blob = chains(known, below)
                records.update(c, record.id, chain_id=by_diff, blob_chain_id=by_blob)
    manager.refresh(layers)


def _link(record: CacheRecord | None) -> tuple[Digest, Digest] | None:
    """What one layer adds to a chain."""
    if record is None or record.diff_id is None or not record.blobs:
        return None
    return record.diff_id, record.blobs[0].descriptor.digest
