"""The records of executed steps, in the state root's database. Nothing is written, nor made, by a build that executes nothing.

The database keeps the last ``KEPT`` records of a step, none older than ``_DAYS``, and no more than ``_BYTES`` in all.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from builder.solver.explain import InputRecord, Miss, Past, StepRecord, explain
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.oci.digest import Digest
    from builder.state.database import Database

KEPT = 8
_CANDIDATES = 64
_DAYS = 35
_BYTES = 32 << 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS solver_steps (
    id INTEGER PRIMARY KEY AUTOINCREMENT, build TEXT NOT NULL, scope TEXT NOT NULL, kind TEXT NOT NULL, stage TEXT NOT NULL,
    title TEXT NOT NULL, created REAL NOT NULL, ignored INTEGER NOT NULL, failed INTEGER NOT NULL, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS solver_steps_by_title ON solver_steps (kind, title);
CREATE INDEX IF NOT EXISTS solver_steps_by_scope ON solver_steps (scope, kind, stage)
"""


@dataclass(frozen=True, slots=True)
class LoggedBuild:
    """A build that executed something. ``scope`` says of what; ``started`` is when its first step ended."""

    id: str
    scope: str
    started: float


@dataclass(slots=True)
class StepLog:
    """``build`` names this build, ``scope`` what is built (context and Dockerfile). Thread-safe. ``planned`` has the misses of a
    plan by vertex."""

    database: Database
    build: str
    scope: str
    planned: dict[Digest, Miss] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.database.schema(_SCHEMA)

    def ran(self, vertex: Digest, step: StepRecord, *, ignored: bool, failed: bool) -> None:
        place = (self.scope, step.kind, step.stage, step.title)
        row = (self.build, *place, time.time(), ignored, failed, encode_step(step))
        with self.database.transaction() as c:
            c.execute(
                "INSERT INTO solver_steps (build, scope, kind, stage, title, created, ignored, failed, record)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            c.execute(
                "DELETE FROM solver_steps WHERE id IN (SELECT id FROM solver_steps WHERE scope = ? AND kind = ? AND stage = ?"
                " AND title = ? ORDER BY id DESC LIMIT -1 OFFSET ?)",
                (*place, KEPT),
            )

    def would_run(self, vertex: Digest, step: StepRecord, *, ignored: bool) -> None:
        miss = explain(step, self._past(self.scope, step), ignored=ignored)
        with self._lock:
            self.planned[vertex] = miss

    def misses(self, build: LoggedBuild | None = None) -> list[Miss]:
        """Why the steps of a build ran, in their order; of this one, if none is given."""
        id, scope = (build.id, build.scope) if build is not None else (self.build, self.scope)
        rows = self.database.connection().execute(
            "SELECT id, ignored, failed, record FROM solver_steps WHERE build = ? ORDER BY id", (id,)
        )
        steps = [(row, ignored, failed, decode_step(record)) for row, ignored, failed, record in rows]
        return [
            explain(step, self._past(scope, step, before=row, build=id), ignored=bool(ignored), failed=bool(failed))
            for row, ignored, failed, step in steps
        ]

    def last(self) -> LoggedBuild | None:
        """The last build that executed anything."""
        row = self.database.connection().execute("SELECT build, scope FROM solver_steps ORDER BY id DESC LIMIT 1").fetchone()
        if row is None:
            return None
        (first,) = self.database.connection().execute("SELECT MIN(created) FROM solver_steps WHERE build = ?", row[:1]).fetchone()
        return LoggedBuild(row[0], row[1], first)

    def trim(self) -> None:
        """Drop what is old, and the oldest of what is too much."""
        trim(self.database)

    def _past(self, scope: str, step: StepRecord, *, before: int = 2**62, build: str = "") -> list[Past]:
        """Earlier executions of steps that may be compared with ``step``: those of the same scope first, newest first."""
        rows = self.database.connection().execute(
            "SELECT scope = :scope, created, failed, record FROM solver_steps WHERE id IN ("
            " SELECT id FROM solver_steps WHERE kind = :kind AND title = :title"
            " UNION SELECT id FROM solver_steps WHERE scope = :scope AND kind = :kind AND stage = :stage)"
            " AND id < :before AND build <> :build ORDER BY scope = :scope DESC, id DESC LIMIT :limit",
            {
                "scope": scope,
                "kind": step.kind,
                "title": step.title,
                "stage": step.stage,
                "before": before,
                "build": build,
                "limit": _CANDIDATES,
            },
        )
        return [Past(decode_step(record), created, bool(failed), bool(here)) for here, created, failed, record in rows]


def trim(database: Database) -> None:
    """See ``StepLog.trim``."""
    database.schema(_SCHEMA)
    with database.transaction() as c:
        c.execute("DELETE FROM solver_steps WHERE created < ?", (time.time() - _DAYS * 86400,))
        c.execute(
            "DELETE FROM solver_steps WHERE id IN (SELECT id FROM"
            " (SELECT id, SUM(LENGTH(record)) OVER (ORDER BY id DESC) AS total FROM solver_steps) WHERE total > ?)",
            (_BYTES,),
        )


def encode_step(step: StepRecord) -> bytes:
    """JSON, compressed: file lists are long."""
    import zlib

    inputs = [[i.name, i.selector, i.keys, i.content, i.files, i.complete, i.identity] for i in step.inputs]
    doc = [step.kind, step.stage, step.title, step.parts, inputs, step.name, step.args, step.digest]
    return zlib.compress(json.dumps(doc).encode("ascii"), 1)


def decode_step(data: bytes) -> StepRecord:
    import zlib

    kind, stage, title, parts, inputs, name, args, digest = json.loads(zlib.decompress(data))
    records = tuple(
        InputRecord(n, s, tuple(k), c, tuple((a, b) for a, b in files), complete, identity)
        for n, s, k, c, files, complete, identity in inputs
    )
    return StepRecord(kind, stage, title, tuple((n, v) for n, v in parts), records, name, tuple(args), digest)
