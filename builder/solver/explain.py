"""Why a step was not cached: what differs from the nearest earlier record of it.

A step's record holds the parts that its key was made of, by name: those of the definition as the op tells them, and for each
input what it is called, the names of its keys, the checksum of what counts of it, and maybe the files in that checksum. Comparing
is a function of two such records.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from builder.graph.digest import Digest
from builder.graph.values import dataclass, field

if TYPE_CHECKING:
    from builder.state.database import Database

KEPT = 8
"""Records of one step that are kept; older ones are dropped."""
_CANDIDATES = 64
Change = Literal["changed", "added", "removed"]


@dataclass(frozen=True, slots=True)
class InputRecord:
    """``keys`` are names in the key store; two inputs are the same if they share one, or ``content`` (empty: not looked at).

    ``files``: (name, digest) of what ``content`` covers, empty if the op does not tell.
    """

    name: str
    selector: str = ""
    keys: tuple[str, ...] = ()
    content: str = ""
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StepRecord:
    """``title`` is the instruction, ``stage`` where it stands."""

    kind: str
    stage: str
    title: str
    parts: tuple[tuple[str, str], ...] = ()
    inputs: tuple[InputRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. ``what`` names it (``env VERSION``, ``file app.py``, ``input [build 1/3] FROM x``)."""

    change: Change
    what: str
    old: str = ""
    new: str = ""

    def __str__(self) -> str:
        if self.change == "changed" and (self.old or self.new):
            return f"{self.what} changed: {_short(self.old)} -> {_short(self.new)}"
        return f"{self.what} was {self.change}" if self.change != "changed" else f"{self.what} changed"


@dataclass(frozen=True, slots=True)
class Miss:
    """Why a vertex ran. ``reason``: "first" (nothing like it was ever built), "different" (see ``differences``), "gone" (the same
    was built; its result is not there any more), "ignored" (--no-cache)."""

    vertex: Digest
    title: str
    reason: Literal["first", "different", "gone", "ignored"]
    differences: tuple[Difference, ...] = ()


def differences(old: StepRecord, new: StepRecord) -> tuple[Difference, ...]:
    """What made the key another one, definition first."""
    out = list(_compare(dict(old.parts), dict(new.parts), ""))
    if not out and old.title != new.title:
        out.append(Difference("changed", "instruction", old.title, new.title))
    for i in range(max(len(old.inputs), len(new.inputs))):
        if i >= len(old.inputs):
            out.append(Difference("added", f"input {new.inputs[i].name}"))
        elif i >= len(new.inputs):
            out.append(Difference("removed", f"input {old.inputs[i].name}"))
        else:
            out += _compare_inputs(old.inputs[i], new.inputs[i])
    return tuple(out)


def _compare_inputs(old: InputRecord, new: InputRecord) -> list[Difference]:
    if old.content and new.content:
        if old.content == new.content:
            return []
        if old.files and new.files:
            return list(_compare(dict(old.files), dict(new.files), "file ", values=False))
        return [Difference("changed", f"content of {new.name}")]
    if old.selector == new.selector and set(old.keys) & set(new.keys):
        return []
    return [Difference("changed", f"input {new.name}")]


def _compare(old: Mapping[str, str], new: Mapping[str, str], prefix: str, *, values: bool = True) -> Iterable[Difference]:
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if a == b:
            continue
        change: Change = "added" if a is None else "removed" if b is None else "changed"
        yield Difference(change, prefix + name, (a or "") if values else "", (b or "") if values else "")


def nearest(step: StepRecord, candidates: Sequence[StepRecord]) -> StepRecord | None:
    """The candidate of the same kind with the least differences; the same place and instruction count most, the first wins a
    tie."""

    def distance(other: StepRecord) -> tuple[int, int]:
        place = (other.title != step.title) + (other.stage != step.stage)
        return place, len(differences(other, step))

    same = [c for c in candidates if c.kind == step.kind]
    return min(same, key=distance) if same else None


def explain(vertex: Digest, step: StepRecord, candidates: Sequence[StepRecord], *, ignored: bool = False) -> Miss:
    """The miss of a step, by the earlier records of steps like it."""
    if ignored:
        return Miss(vertex, step.title, "ignored")
    old = nearest(step, candidates)
    if old is None or (old.title != step.title and old.stage != step.stage):
        return Miss(vertex, step.title, "first")
    found = differences(old, step)
    return Miss(vertex, step.title, "different" if found else "gone", found)


class Explanations(Protocol):
    """Keeps steps' records and explains misses by them. Called from several threads."""

    def ran(self, vertex: Digest, step: StepRecord, *, ignored: bool) -> None:
        """A step was executed: explain that, and keep its record."""
        ...

    def would_run(self, vertex: Digest, step: StepRecord, *, ignored: bool) -> None:
        """A step would be executed: explain that."""
        ...


_SCHEMA = """
CREATE TABLE IF NOT EXISTS solver_steps (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, stage TEXT NOT NULL, title TEXT NOT NULL,
    created REAL NOT NULL, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS solver_steps_by_title ON solver_steps (kind, title);
CREATE INDEX IF NOT EXISTS solver_steps_by_stage ON solver_steps (kind, stage)
"""


@dataclass(slots=True)
class StoredExplanations:
    """Records in the state root's database. ``misses`` are those of this process, in their order."""

    database: Database
    misses: dict[Digest, Miss] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.database.schema(_SCHEMA)

    def ran(self, vertex: Digest, step: StepRecord, *, ignored: bool) -> None:
        self.would_run(vertex, step, ignored=ignored)
        with self.database.transaction() as c:
            row = (step.kind, step.stage, step.title)
            c.execute(
                "INSERT INTO solver_steps (kind, stage, title, created, record) VALUES (?, ?, ?, ?, ?)",
                (*row, time.time(), encode_step(step)),
            )
            c.execute(
                "DELETE FROM solver_steps WHERE kind = ? AND stage = ? AND title = ? AND id NOT IN (SELECT id FROM solver_steps"
                " WHERE kind = ? AND stage = ? AND title = ? ORDER BY id DESC LIMIT ?)",
                (*row, *row, KEPT),
            )

    def would_run(self, vertex: Digest, step: StepRecord, *, ignored: bool) -> None:
        miss = explain(vertex, step, self._candidates(step), ignored=ignored)
        with self._lock:
            self.misses[vertex] = miss

    def _candidates(self, step: StepRecord) -> list[StepRecord]:
        rows = self.database.connection().execute(
            "SELECT record FROM solver_steps WHERE kind = ? AND (title = ? OR stage = ?) ORDER BY id DESC LIMIT ?",
            (step.kind, step.title, step.stage, _CANDIDATES),
        )
        return [decode_step(row[0]) for row in rows]


def encode_step(step: StepRecord) -> bytes:
    """JSON, compressed: file lists are long."""
    import zlib

    inputs = [[i.name, i.selector, i.keys, i.content, i.files] for i in step.inputs]
    return zlib.compress(json.dumps([step.kind, step.stage, step.title, step.parts, inputs]).encode("ascii"), 1)


def decode_step(data: bytes) -> StepRecord:
    import zlib

    kind, stage, title, parts, inputs = json.loads(zlib.decompress(data))
    return StepRecord(
        kind,
        stage,
        title,
        tuple((n, v) for n, v in parts),
        tuple(InputRecord(n, s, tuple(k), c, tuple((a, b) for a, b in f)) for n, s, k, c, f in inputs),
    )


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
