"""Cache records and their tables. Nothing here knows refs, snapshots or blobs: rows in, rows out.

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

import sqlite3
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from builder.errors import StoreError
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.state.database import Database

LAYER, MERGE, DIFF = "layer", "merge", "diff"
MUTABLE, COMMITTED, LAZY, READY = "mutable", "committed", "lazy", "ready"

REGULAR, INTERNAL, FRONTEND = "regular", "internal", "frontend"
LOCAL_SOURCE, GIT_CHECKOUT, CACHE_MOUNT = "source.local", "source.git.checkout", "exec.cachemount"
"""Record types: client.UsageRecordType of BuildKit."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, snapshot TEXT NOT NULL, retained INTEGER NOT NULL,
    diff_id TEXT, chain_id TEXT, blob_chain_id TEXT, created_at REAL NOT NULL, last_used REAL, usage_count INTEGER NOT NULL,
    description TEXT NOT NULL, record_type TEXT NOT NULL, mount_key TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_snapshot ON records (snapshot);
CREATE INDEX IF NOT EXISTS records_chain ON records (chain_id) WHERE chain_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_blob_chain ON records (blob_chain_id) WHERE blob_chain_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_mount ON records (mount_key) WHERE mount_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS record_parents (
    child TEXT NOT NULL, position INTEGER NOT NULL, parent TEXT NOT NULL, PRIMARY KEY (child, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS record_children ON record_parents (parent);
CREATE TABLE IF NOT EXISTS record_blobs (
    record TEXT NOT NULL, position INTEGER NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    annotations TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (record, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS record_blob_digest ON record_blobs (digest);
CREATE TABLE IF NOT EXISTS measured (name TEXT PRIMARY KEY, stamp REAL NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID
"""

_COLUMNS = (
    "id, kind, state, snapshot, retained, diff_id, chain_id, blob_chain_id, created_at, last_used, usage_count, "
    "description, record_type, mount_key"
)
_LEVELS = 4


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """The stored thing behind refs, as the database has it.

    ``parents``: of a layer none or one, of a merge all, of a diff lower and upper. ``snapshot`` may be shared by records of the
    same chainID. ``retained``: not deleted when its writer lets go (cache mounts). Times in seconds since the epoch.
    """

    id: str
    kind: str
    state: str
    snapshot: str
    retained: bool
    diff_id: Digest | None
    chain_id: Digest | None
    blob_chain_id: Digest | None
    created_at: float
    last_used: float | None
    usage_count: int
    description: str
    record_type: str
    mount_key: str | None
    parents: tuple[str, ...] = ()

    @property
    def parent(self) -> str | None:
        """What a layer stands on."""
        return self.parents[0] if self.kind == LAYER and self.parents else None


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A blob of a record's layer. The first one (``position`` 0) is the layer's own; others have the same tar compressed otherwise.

    ``source``: see ``types.Layer``.
    """

    descriptor: Descriptor
    source: str = ""


class Records:
    """The tables. Methods that change something take the connection of the transaction they are part of."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.schema(SCHEMA)

    # ------------------------------------------------------------------------------------------------------ reading
    def rows(self, sql: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """A query outside of a transaction, or inside the calling thread's one."""
        try:
            return self._database.connection().execute(sql, arguments).fetchall()
        except sqlite3.Error as e:
            raise StoreError(f"metadata database: {e}", hint="if it is damaged, move the state folder away") from e

    def load(self, record_id: str, known: Container[str]) -> dict[str, CacheRecord]:
        """The record and those ancestors that are not ``known``, by id; empty if there is no such record.

        A few levels are asked for one by one: mostly the parents are known. A chain that is not is read in one query.
        """
        found: dict[str, CacheRecord] = {}
        level = [record_id]
        for _ in range(_LEVELS):
            marks = ",".join("?" * len(level))
            batch = self._make(
                self.rows(f"SELECT {_COLUMNS} FROM records WHERE id IN ({marks})", level),
                self.rows(f"SELECT child, parent FROM record_parents WHERE child IN ({marks}) ORDER BY child, position", level),
            )
            found.update(batch)
            level = sorted({p for r in batch.values() for p in r.parents if p not in known and p not in found})
            if not level:
                return found
        chain = (
            "WITH RECURSIVE chain (id) AS (SELECT value FROM json_each(?) UNION "
            "SELECT parent FROM record_parents JOIN chain ON child = chain.id) "
        )
        import json

        start = (json.dumps(level),)
        rows = self.rows(f"{chain} SELECT {_COLUMNS} FROM records WHERE id IN chain", start)
        edges = self.rows(f"{chain} SELECT child, parent FROM record_parents WHERE child IN chain ORDER BY child, position", start)
        found.update(self._make(rows, edges))
        return found

    def get(self, record_id: str) -> CacheRecord | None:
        return self._select("id = ?", record_id).get(record_id)

    def all(self) -> dict[str, CacheRecord]:
        """Every record by id, oldest first."""
        return self._make(
            self.rows(f"SELECT {_COLUMNS} FROM records ORDER BY created_at, id"),
            self.rows("SELECT child, parent FROM record_parents ORDER BY child, position"),
        )

    def by_blob_chain(self, blob_chain_id: Digest) -> list[CacheRecord]:
        return list(self._select("blob_chain_id = ?", blob_chain_id).values())

    def by_chain(self, chain_id: Digest) -> list[CacheRecord]:
        return list(self._select("chain_id = ?", chain_id).values())

    def by_mount_key(self, key: str) -> list[CacheRecord]:
        return list(self._select("mount_key = ?", key).values())

    def blobs(self, record_id: str) -> tuple[LayerBlob, ...]:
        """The layer's own blob first; none if it has none yet."""
        return self.all_blobs("record = ?", record_id).get(record_id, ())

    def all_blobs(self, where: str = "1", *arguments: object) -> dict[str, tuple[LayerBlob, ...]]:
        """Blobs by record id."""
        out: dict[str, list[LayerBlob]] = {}
        columns = "record, digest, media_type, size, annotations, source"
        rows = self.rows(f"SELECT {columns} FROM record_blobs WHERE {where} ORDER BY record, position", arguments)
        for record, digest, media_type, size, notes, source in rows:
            descriptor = Descriptor(media_type, Digest(digest), size, _annotations(notes))
            out.setdefault(record, []).append(LayerBlob(descriptor, source))
        return {record: tuple(blobs) for record, blobs in out.items()}

    def _select(self, where: str, value: str) -> dict[str, CacheRecord]:
        rows = self.rows(f"SELECT {_COLUMNS} FROM records WHERE {where} ORDER BY created_at, id", (value,))
        edges: list[tuple[Any, ...]] = []
        for row in rows:
            edges += self.rows("SELECT child, parent FROM record_parents WHERE child = ? ORDER BY position", (row[0],))
        return self._make(rows, edges)

    def _make(self, rows: Iterable[tuple[Any, ...]], edges: Iterable[tuple[Any, ...]]) -> dict[str, CacheRecord]:
        parents: dict[str, list[str]] = {}
        for child, parent in edges:
            parents.setdefault(child, []).append(parent)
        made: dict[str, CacheRecord] = {}
        for row in rows:
            record_id, kind, state, snapshot, retained, diff_id, chain_id, blob_chain_id, *rest = row
            created_at, last_used, usage_count, description, record_type, mount_key = rest
            diff, chain, blob_chain = (None if d is None else Digest(d) for d in (diff_id, chain_id, blob_chain_id))
            below = tuple(parents.get(record_id, ()))
            made[record_id] = CacheRecord(
                record_id, kind, state, snapshot, bool(retained), diff, chain, blob_chain,
                created_at, last_used, usage_count, description, record_type, mount_key, below,
            )  # fmt: skip
        return made

    # ------------------------------------------------------------------------------------------------------ changing
    def insert(self, c: sqlite3.Connection, record: CacheRecord) -> None:
        """Add the record. KeyError if one of its parents is gone."""
        for position, parent in enumerate(record.parents):
            if c.execute("SELECT 1 FROM records WHERE id = ?", (parent,)).fetchone() is None:
                raise KeyError(parent)
            c.execute("INSERT INTO record_parents VALUES (?, ?, ?)", (record.id, position, parent))
        values = (
            record.id, record.kind, record.state, record.snapshot, record.retained,
            record.diff_id, record.chain_id, record.blob_chain_id, record.created_at, record.last_used, record.usage_count,
            record.description, record.record_type, record.mount_key,
        )  # fmt: skip
        c.execute(f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def add_blob(self, c: sqlite3.Connection, record_id: str, blob: LayerBlob) -> None:
        """Remember one more blob of the record, the first as its own; one with the same digest is replaced."""
        d = blob.descriptor
        row = c.execute("SELECT position FROM record_blobs WHERE record = ? AND digest = ?", (record_id, d.digest)).fetchone()
        if row is None:
            row = c.execute("SELECT coalesce(max(position) + 1, 0) FROM record_blobs WHERE record = ?", (record_id,)).fetchone()
        c.execute(
            "INSERT OR REPLACE INTO record_blobs VALUES (?, ?, ?, ?, ?, ?, ?)",
            (record_id, row[0], d.digest, d.media_type, d.size, _dump(d.annotations), blob.source),
        )

    def drop_blobs(self, c: sqlite3.Connection, record_id: str) -> None:
        c.execute("DELETE FROM record_blobs WHERE record = ?", (record_id,))

    def set_state(self, c: sqlite3.Connection, snapshot: str, state: str) -> None:
        """Of every record that shares the snapshot."""
        c.execute("UPDATE records SET state = ? WHERE snapshot = ?", (state, snapshot))

    def delete(self, c: sqlite3.Connection, record_id: str) -> tuple[list[str], list[Digest]]:
        """Delete the record; gives the snapshots and blobs that no record names any more."""
        row = c.execute("SELECT snapshot FROM records WHERE id = ?", (record_id,)).fetchone()
        blobs = [Digest(d) for (d,) in c.execute("SELECT digest FROM record_blobs WHERE record = ?", (record_id,))]
        for table, column in (("records", "id"), ("record_parents", "child"), ("record_blobs", "record")):
            c.execute(f"DELETE FROM {table} WHERE {column} = ?", (record_id,))
        snapshots = []
        if row and c.execute("SELECT 1 FROM records WHERE snapshot = ?", (row[0],)).fetchone() is None:
            snapshots.append(row[0])
        return snapshots, [b for b in blobs if c.execute("SELECT 1 FROM record_blobs WHERE digest = ?", (b,)).fetchone() is None]

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
                stack += [(child, False) for (child,) in self.rows("SELECT child FROM record_parents WHERE parent = ?", (at,))]
        return order


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


def _annotations(text: str) -> tuple[tuple[str, str], ...]:
    if not text:
        return ()
    import json

    return tuple((str(k), str(v)) for k, v in json.loads(text))


def _dump(annotations: tuple[tuple[str, str], ...]) -> str:
    if not annotations:
        return ""
    import json

    return json.dumps(annotations)
