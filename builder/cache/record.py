"""A cache record as a value, and as a row of the database. Nothing here knows the database, refs, snapshots or blobs.

States of a record::

                    new()                          commit()                     finalize()
        (nothing) ---------> MUTABLE (one writer) ----------> COMMITTED ----------------------+
            |                                      metadata only, read-only by promise        v
            |   get_by_blob(), merge(), diff()                              unlazy()        READY
            +------------------------------------> LAZY ----------------------------------> its snapshot is there
                                                   blobs or parents tell what it will be

READY and LAZY hold for the record alone: its files can be mounted once all its ancestors are READY too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from builder.errors import StoreError
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest, chain_id
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.state.tables import Row

RecordKind = Literal["layer", "merge", "diff"]
LAYER: Final = "layer"
MERGE: Final = "merge"
DIFF: Final = "diff"

RecordState = Literal["mutable", "committed", "lazy", "ready"]
MUTABLE: Final = "mutable"
COMMITTED: Final = "committed"
LAZY: Final = "lazy"
READY: Final = "ready"

RecordType = Literal["regular", "internal", "frontend", "source.local", "source.git.checkout", "exec.cachemount"]
"""What a record is for: client.UsageRecordType of BuildKit."""
REGULAR: Final = "regular"
INTERNAL: Final = "internal"
FRONTEND: Final = "frontend"
LOCAL_SOURCE: Final = "source.local"
GIT_CHECKOUT: Final = "source.git.checkout"
CACHE_MOUNT: Final = "exec.cachemount"


class GoneError(StoreError, KeyError):
    """There is no such record any more. Whoever can do without catches it as a KeyError."""

    def __init__(self, record_id: str) -> None:
        super().__init__(f"cache record {record_id} is gone", hint="build again")

    __str__ = Exception.__str__  # a KeyError's text is in quotes


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A blob of a record's layer; ``source``: see ``types.Layer``."""

    descriptor: Descriptor
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRecord:
    """The stored thing behind refs, as the database has it.

    ``parents``: of a layer none or one, of a merge all, of a diff lower and upper. ``snapshot`` may be shared by records of the
    same chainID. ``retained``: not deleted when its writer lets go (cache mounts). ``blobs``: the first one is the layer's own; the
    others have the same tar compressed otherwise. Times in nanoseconds since the epoch.
    """

    id: str
    kind: RecordKind
    state: RecordState
    snapshot: str
    retained: bool = False
    parents: tuple[str, ...] = ()
    diff_id: Digest | None = None
    chain_id: Digest | None = None
    blob_chain_id: Digest | None = None
    created_at_ns: int
    last_used_ns: int | None = None
    usage_count: int = 0
    description: str = ""
    record_type: RecordType = REGULAR
    mount_key: str | None = None
    blobs: tuple[LayerBlob, ...] = ()

    @property
    def parent(self) -> str | None:
        """What a layer stands on."""
        return self.parents[0] if self.kind == LAYER and self.parents else None


def to_row(record: CacheRecord) -> Row:
    """The columns of ``schema.RECORDS``."""
    return (
        record.id, record.kind, record.state, record.snapshot, int(record.retained), " ".join(record.parents),
        record.diff_id, record.chain_id, record.blob_chain_id, record.created_at_ns, record.last_used_ns, record.usage_count,
        record.description, record.record_type, record.mount_key, _blobs_text(record.blobs),
    )  # fmt: skip


def from_row(row: Row) -> CacheRecord:
    """The record of a row that fits its seal."""
    (
        record_id, kind, state, snapshot, retained, parents, diff_id, chain, blob_chain, created_at_ns, last_used_ns, usage_count,
        description, record_type, mount_key, blobs,
    ) = row  # fmt: skip
    return CacheRecord(
        id=record_id,
        kind=kind,
        state=state,
        snapshot=snapshot,
        retained=bool(retained),
        parents=tuple(parents.split()),
        diff_id=None if diff_id is None else Digest(diff_id),
        chain_id=None if chain is None else Digest(chain),
        blob_chain_id=None if blob_chain is None else Digest(blob_chain),
        created_at_ns=created_at_ns,
        last_used_ns=last_used_ns,
        usage_count=usage_count,
        description=description,
        record_type=record_type,
        mount_key=mount_key,
        blobs=_blobs(blobs) if blobs else (),
    )


def chains(layers: list[tuple[Digest, Digest]], below: CacheRecord | None = None) -> tuple[Digest, Digest]:
    """(chainID, blobChainID) of layers, each (diffID, digest of its own blob), on what is ``below`` and has both.

    The chainID is the OCI image-spec's (config.md, "Layer ChainID"), the blobChainID the same over pairs of blob and diffID.
    """
    by_diff = [diff_id for diff_id, _ in layers]
    by_blob = [chain_id([digest, diff_id]) for diff_id, digest in layers]
    if below is not None and below.chain_id is not None and below.blob_chain_id is not None:
        by_diff.insert(0, below.chain_id)
        by_blob.insert(0, below.blob_chain_id)
    return chain_id(by_diff), chain_id(by_blob)


def contradiction(record: CacheRecord, below: CacheRecord | None) -> str:
    """What a layer says of itself that can't be true of one on ``below``, or "". Each row is sealed by itself; this is what two of
    them must agree on, whatever wrote them."""
    if record.kind == LAYER and record.chain_id is not None:
        if record.diff_id is None or not record.blobs:
            return "it has a chainID, but no layer"
        if below is None or (below.chain_id is not None and below.blob_chain_id is not None):
            expected = chains([(record.diff_id, record.blobs[0].descriptor.digest)], below)
            if expected != (record.chain_id, record.blob_chain_id):
                return "its chainID is not that of its layers"
    return ""


def walk_up(start: CacheRecord, of: Callable[[str], CacheRecord], skip: Callable[[CacheRecord], bool]) -> list[CacheRecord]:
    """The record and its ancestors, parents before children, each once; those that ``skip`` names are left out with all below."""
    order: list[CacheRecord] = []
    seen: set[str] = set()
    stack: list[tuple[CacheRecord, bool]] = [(start, False)]
    while stack:
        record, done = stack.pop()
        if done:
            order.append(record)
        elif record.id not in seen and not skip(record):
            seen.add(record.id)
            stack.append((record, True))
            stack += [(of(parent), False) for parent in reversed(record.parents)]
    return order


def layers_of(start: CacheRecord, of: Callable[[str], CacheRecord]) -> list[CacheRecord]:
    """The records that are layers of this one, bottom first (BuildKit: layerWalk). A record may be there several times."""
    out: list[CacheRecord] = []
    stack = [(start, False)]
    while stack:
        record, is_layer = stack.pop()
        if is_layer:
            out.append(record)
        elif record.kind == MERGE:
            stack += [(of(p), False) for p in reversed(record.parents)]
        elif record.kind == DIFF:
            lower, upper = (of(p) for p in record.parents)
            # One layer more than lower: that layer's blob is the difference.
            out.append(upper if upper.parent == lower.id else record)
        else:
            chain = [record]
            while (below := chain[-1].parent) is not None and of(below).kind == LAYER:
                chain.append(of(below))
            stack += [(layer, True) for layer in chain]
            if below is not None:
                # A layer on a merge or a diff: those layers first, then these again.
                stack.append((of(below), False))
    return out


def _blobs(text: str) -> tuple[LayerBlob, ...]:
    return tuple(
        LayerBlob(Descriptor(media_type, Digest(digest), size, tuple((k, v) for k, v in notes)), source)
        for digest, media_type, size, source, notes in json.loads(text)
    )


def _blobs_text(blobs: tuple[LayerBlob, ...]) -> str:
    if not blobs:
        return ""
    each = [(b.descriptor, b.source) for b in blobs]
    return json.dumps([[d.digest, d.media_type, d.size, source, d.annotations] for d, source in each])
