"""The tables of cache records: all SQL about them. Records in, records out (``record``): refs, snapshots, blobs are unknown here.

A record is one row with everything it says, its parents and blobs too, under one seal: a row that is damaged or lost is a record
that is gone, never one with other parents. ``record_children`` and ``blob_records`` repeat the rows for the opposite question: who
stands on a record, who names a blob? Only deleting asks them. If one of their rows is lost, a record too many is deleted, which is
a miss.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict, Unpack

from builder.cache.record import CacheRecord, GoneError, LayerBlob, from_row, to_row
from builder.oci.digest import Digest
from builder.state.schema import BLOB_RECORDS, MEASURED, RECORD_CHILDREN, RECORDS
from builder.values import replace

if TYPE_CHECKING:
    from builder.cache.record import RecordState
    from builder.state.database import Database
    from builder.state.tables import Row

_LEVELS = 4
_OLDEST_FIRST = "created_at_ns, id"
_CHAIN = (
    "WITH RECURSIVE chain (id) AS (SELECT value FROM json_each(?) UNION "
    "SELECT r.parents FROM records r JOIN chain ON r.id = chain.id) SELECT id FROM chain"
)
"""All the records that single parents lead to; a record of several stands for itself."""


class ChangedFields(TypedDict, total=False):
    """The fields of a stored record that change."""

    state: RecordState
    created_at_ns: int
    diff_id: Digest | None
    chain_id: Digest | None
    blob_chain_id: Digest | None
    blobs: tuple[LayerBlob, ...]


class Records:
    """The tables. Methods that change something take the connection of the transaction they are part of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------------------------------------------------ reading
    def get(self, record_id: str) -> CacheRecord | None:
        """The record as it is now; inside a transaction as that has left it."""
        rows = self._database.find(RECORDS, id=record_id)
        return from_row(rows[0]) if rows else None

    def load(self, record_id: str, known: Container[str]) -> dict[str, CacheRecord]:
        """The record and those ancestors that are not ``known``, by id; empty if there is no such record.

        A few levels are asked for one by one: mostly the parents are known. A chain that is not is read in one query.
        """
        found: dict[str, CacheRecord] = {}
        missing = [record_id]
        levels = 0
        while missing:
            ids = missing
            if levels >= _LEVELS:
                ids = [at for (at,) in self._database.rows(_CHAIN, (json.dumps(missing),))]
            batch = self._among(ids)
            found.update(batch)
            if not batch:
                break
            missing = sorted({p for r in batch.values() for p in r.parents if p not in known and p not in found})
            levels += 1
        return found if record_id in found else {}

    def all(self) -> dict[str, CacheRecord]:
        """Every record by id, oldest first."""
        return _by_id(self._database.select(RECORDS, f"ORDER BY {_OLDEST_FIRST}"))

    def ids(self) -> list[str]:
        return [at for (at,) in self._database.rows("SELECT id FROM records")]

    def by_blob_chain(self, blob_chain_id: Digest) -> list[CacheRecord]:
        return [from_row(row) for row in self._database.find(RECORDS, _OLDEST_FIRST, blob_chain_id=blob_chain_id)]

    def by_chain(self, chain_id: Digest) -> list[CacheRecord]:
        return [from_row(row) for row in self._database.find(RECORDS, _OLDEST_FIRST, chain_id=chain_id)]

    def by_mount_key(self, key: str) -> list[CacheRecord]:
        return [from_row(row) for row in self._database.find(RECORDS, _OLDEST_FIRST, mount_key=key)]

    def blobs(self, record_id: str) -> tuple[LayerBlob, ...]:
        """As they are now, the layer's own first; none if it has none yet."""
        record = self.get(record_id)
        return record.blobs if record is not None else ()

    def descendants(self, record_id: str) -> list[str]:
        """The record and all that stand on it, children before parents."""
        order: list[str] = []
        seen: set[str] = set()
        stack = [(record_id, False)]
        while stack:
            at, done = stack.pop()
            if done:
                order.append(at)
            elif at not in seen:
                seen.add(at)
                stack.append((at, True))
                stack += [(child, False) for _, child in self._database.find(RECORD_CHILDREN, parent=at)]
        return order

    def snapshots(self) -> set[str]:
        """Every snapshot that a record names."""
        return {snapshot for (snapshot,) in self._database.rows("SELECT snapshot FROM records")}

    def named_blobs(self) -> set[str]:
        """Digests of every blob that a record names."""
        return {digest for (digest,) in self._database.rows("SELECT digest FROM blob_records")}

    def size_of(self, name: str, stamp_ns: int) -> int | None:
        """A size that was measured before, if ``stamp_ns`` was the same then."""
        rows = self._database.find(MEASURED, name=name)
        return int(rows[0][2]) if rows and rows[0][1] == stamp_ns else None

    def _among(self, ids: Iterable[str]) -> dict[str, CacheRecord]:
        wanted = list(ids)
        if len(wanted) == 1:
            record = self.get(wanted[0])
            return {} if record is None else {record.id: record}
        rows = self._database.select(RECORDS, "WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(wanted),))
        return _by_id(rows)

    # ------------------------------------------------------------------------------------------------------ changing
    def insert(self, c: sqlite3.Connection, record: CacheRecord) -> None:
        """Add the record. GoneError if one of its parents is gone."""
        for parent in record.parents:
            if self.get(parent) is None:
                raise GoneError(parent)
        self._database.put(c, RECORDS, [to_row(record)])
        self._link(c, record)

    def update(self, c: sqlite3.Connection, record_id: str, **changes: Unpack[ChangedFields]) -> CacheRecord:
        """Change fields of the record as it is stored; gives its new form. GoneError if it is gone."""
        record = self._there(record_id)
        changed = replace(record, **changes)
        self._database.put(c, RECORDS, [to_row(changed)])
        if changed.blobs != record.blobs:
            self._unlink(c, record)
            self._link(c, changed)
        return changed

    def set_state(self, c: sqlite3.Connection, snapshot: str, state: RecordState) -> None:
        """Of every record that shares the snapshot."""
        rows = self._database.find(RECORDS, snapshot=snapshot)
        self._database.put(c, RECORDS, [to_row(replace(from_row(row), state=state)) for row in rows])

    def count_uses(self, c: sqlite3.Connection, uses: Mapping[str, tuple[int, int]]) -> None:
        """``uses``: by record when it was used last, and how many times more. Of one that is gone nothing is written."""
        found = self._among(uses)
        changed = [
            replace(record, last_used_ns=uses[at][0], usage_count=record.usage_count + uses[at][1]) for at, record in found.items()
        ]
        self._database.put(c, RECORDS, map(to_row, changed))

    def add_blob(self, c: sqlite3.Connection, record_id: str, blob: LayerBlob) -> None:
        """Remember one more blob of the record, the first as its own; one with the same digest is replaced. GoneError if the record
        is gone."""

        blobs = list(self._there(record_id).blobs)
        digests = [b.descriptor.digest for b in blobs]
        at = digests.index(blob.descriptor.digest) if blob.descriptor.digest in digests else len(blobs)
        blobs[at : at + 1] = [blob]
        self.update(c, record_id, blobs=tuple(blobs))

    def void_chains(self, c: sqlite3.Connection, record_id: str) -> list[str]:
        """The record's layer is another one: what it and all that stands on it knew of chains is void. Gives their ids."""
        found = self._among(self.descendants(record_id))
        void = [replace(r, chain_id=None, blob_chain_id=None) for r in found.values()]
        self._database.put(c, RECORDS, map(to_row, void))
        return [r.id for r in void]

    def forget_mounts(self, c: sqlite3.Connection, key: str, *, based: bool) -> list[str]:
        """Take the key away from the records of a cache mount: those without a base, or with ``based`` those on any; their ids."""
        if based:
            rows = self._database.select(RECORDS, "WHERE substr(mount_key, 1, ?) = ? ORDER BY id", (len(key) + 1, f"{key}:"))
        else:
            rows = self._database.find(RECORDS, "id", mount_key=key)
        self._database.put(c, RECORDS, [to_row(replace(from_row(row), mount_key=None)) for row in rows])
        return [row[0] for row in rows]

    def remember_size(self, c: sqlite3.Connection, name: str, stamp_ns: int, size: int) -> None:
        self._database.put(c, MEASURED, [(name, stamp_ns, size)])

    def forget_sizes(self, c: sqlite3.Connection, names: Iterable[str]) -> None:
        c.executemany("DELETE FROM measured WHERE name = ?", [(name,) for name in names])

    def delete(self, c: sqlite3.Connection, record_id: str) -> tuple[list[str], list[Digest]]:
        """Delete the record; gives the snapshots and blobs that no record names any more."""
        record = self.get(record_id)
        c.execute("DELETE FROM records WHERE id = ?", (record_id,))
        if record is None:
            return [], []
        self._unlink(c, record)
        blobs = [b.descriptor.digest for b in record.blobs]
        shared = c.execute("SELECT 1 FROM records WHERE snapshot = ?", (record.snapshot,)).fetchone() is not None
        return ([] if shared else [record.snapshot]), [b for b in blobs if not self.names_blob(b)]

    def is_needed(self, record_id: str) -> bool:
        """Does something stand on the record, or is it gone?"""
        query = (
            "SELECT NOT EXISTS (SELECT 1 FROM records WHERE id = ?1) OR EXISTS (SELECT 1 FROM record_children WHERE parent = ?1)"
        )
        return bool(self._database.rows(query, (record_id,))[0][0])

    def names_blob(self, digest: Digest) -> bool:
        return bool(self._database.rows("SELECT 1 FROM blob_records WHERE digest = ?", (digest,)))

    def _there(self, record_id: str) -> CacheRecord:
        record = self.get(record_id)
        if record is None:
            raise GoneError(record_id)
        return record

    def _link(self, c: sqlite3.Connection, record: CacheRecord) -> None:
        for table, rows in zip(_REPEATED, _repeated(record), strict=True):
            self._database.put(c, table, rows)

    def _unlink(self, c: sqlite3.Connection, record: CacheRecord) -> None:
        for table, rows in zip(_REPEATED, _repeated(record), strict=True):
            first, second = table.columns
            c.executemany(f"DELETE FROM {table.name} WHERE {first} = ? AND {second} = ?", rows)

    # ------------------------------------------------------------------------------------------------------ the whole
    def contradictions(self, records: Mapping[str, CacheRecord]) -> list[str]:
        """Names of the tables that should repeat ``records``, all there are, and say something else."""
        expected: tuple[set[Row], ...] = tuple(set() for _ in _REPEATED)
        for record in records.values():
            for rows, more in zip(expected, _repeated(record), strict=True):
                rows.update(more)
        return [t.name for t, rows in zip(_REPEATED, expected, strict=True) if set(self._database.select(t)) != rows]

    def repeat(self, c: sqlite3.Connection, records: Iterable[CacheRecord]) -> None:
        """Make the tables that repeat the rows anew; ``records`` are all of them."""
        for table in _REPEATED:
            c.execute(f"DELETE FROM {table.name}")
        for record in records:
            self._link(c, record)


def _by_id(rows: Iterable[Row]) -> dict[str, CacheRecord]:
    return {row[0]: from_row(row) for row in rows}


_REPEATED = (RECORD_CHILDREN, BLOB_RECORDS)


def _repeated(record: CacheRecord) -> tuple[list[Row], list[Row]]:
    """The record's rows in ``_REPEATED``."""
    return [(parent, record.id) for parent in record.parents], [(b.descriptor.digest, record.id) for b in record.blobs]
