"""The records of executed steps, in the state root's database. Nothing is written, nor made, by a build that executes nothing.

The database keeps the last ``KEPT`` records of a step, none older than ``_DAYS``, and no more than ``_BYTES`` in all.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from builder.solver.explain import InputRecord, Miss, Past, StepRecord, explain
from builder.state.schema import SOLVER_STEPS
from builder.text.times import NS
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.oci.digest import Digest
    from builder.state.database import Database

KEPT = 8
_CANDIDATES = 64
_DAYS = 35
_BYTES = 32 << 20

@dataclass(frozen=True, slots=True)
class LoggedBuild:
    """A build that executed something. ``scope`` says of what; ``started_ns`` is when its first step ended."""

    id: str
    scope: str
    started_ns: int


@dataclass(slots=True)
class StepLog:
    """``build`` names this build, ``scope`` what is built (context and Dockerfile). Thread-safe. ``planned`` has the misses of a
    plan by vertex."""

    database: Database
    build: str
    scope: str
    planned: dict[Digest, Miss] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ran(self, vertex: Digest, step: StepRecord, *, ignored: bool, failed: bool) -> None:
        place = (self.scope, step.kind, step.stage, step.title)
        with self.database.transaction() as c:
            (last,) = c.execute("SELECT coalesce(max(id), 0) FROM solver_steps").fetchone()
            row = (last + 1, self.build, *place, time.time_ns(), ignored, failed, encode_step(step))
            self.database.put(c, SOLVER_STEPS, [row])
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
        steps = [_Logged(*row) for row in self.database.select(SOLVER_STEPS, "WHERE build = ? ORDER BY id", (id,))]
        return [
            explain(s.step, self._past(scope, s.step, before=s.id, build=id), ignored=bool(s.ignored), failed=bool(s.failed))
            for s in steps
        ]

    def last(self) -> LoggedBuild | None:
        """The last build that executed anything."""
        newest = self.database.select(SOLVER_STEPS, "ORDER BY id DESC LIMIT 1")
        if not newest:
            return None
        build = _Logged(*newest[0]).build
        steps = [_Logged(*row) for row in self.database.select(SOLVER_STEPS, "WHERE build = ? ORDER BY id", (build,))]
        return LoggedBuild(build, steps[0].scope, min(s.created_ns for s in steps))

    def trim(self) -> None:
        """Drop what is old, and the oldest of what is too much."""
        trim(self.database)

    def _past(self, scope: str, step: StepRecord, *, before: int = 2**62, build: str = "") -> list[Past]:
        """Earlier executions of steps that may be compared with ``step``: those of the same scope first, newest first."""
        rows = self.database.select(
            SOLVER_STEPS,
            "WHERE id IN (SELECT id FROM solver_steps WHERE kind = :kind AND title = :title"
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
        return [Past(s.step, s.created_ns, bool(s.failed), s.scope == scope) for s in (_Logged(*row) for row in rows)]


class _Logged(NamedTuple):
    """A row of the table."""

    id: int
    build: str
    scope: str
    kind: str
    stage: str
    title: str
    created_ns: int
    ignored: int
    failed: int
    record: bytes

    @property
    def step(self) -> StepRecord:
        return decode_step(self.record)


def trim(database: Database) -> None:
    """See ``StepLog.trim``."""
    with database.transaction() as c:
        c.execute("DELETE FROM solver_steps WHERE created_ns < ?", (time.time_ns() - _DAYS * 86400 * NS,))
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
