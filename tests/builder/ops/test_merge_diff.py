"""MergeOp and DiffOp: keys, and what they ask of the cache manager."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from builder.errors import StepError
from builder.graph.ops import NO_INPUT, Diff, Exec, Merge
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.ops.diff import DiffOp
from builder.ops.merge import MergeOp
from builder.session import Session
from builder.solver.types import OpContext


class Ref:
    def __init__(self, held: list[str], id: str) -> None:
        self.held, self.id = held, id
        held.append(id)

    def clone(self) -> Ref:
        return Ref(self.held, self.id)

    def release(self) -> None:
        self.held.remove(self.id)

    def commit(self) -> Ref:
        return self


class Cache:
    def __init__(self) -> None:
        self.held: list[str] = []
        self.calls: list[Any] = []

    def merge(self, refs: Any, *, description: str) -> Ref:
        self.calls.append(("merge", [r.id for r in refs], description))
        return Ref(self.held, "merged")

    def diff(self, lower: Any, upper: Any, *, description: str) -> Ref | None:
        self.calls.append(("diff", lower and lower.id, upper and upper.id))
        return None if lower is not None and upper is not None and lower.id == upper.id else Ref(self.held, "difference")

    def new(self, parent: Any, *, description: str) -> Ref:
        return Ref(self.held, "empty")


def build(kind: Any, op: Any, inputs: int) -> tuple[Any, Cache]:
    cache = Cache()
    edges = tuple(Edge(Vertex(Exec((str(i),)))) for i in range(inputs))
    return kind(Vertex(op, edges, meta=VertexMeta(name="n")), SimpleNamespace(cache=cache), Session()), cache


def run(kind: Any, op: Any, inputs: int) -> tuple[list[Any], list[str]]:
    """Calls, and what is held at the end: the inputs and the result."""
    behaviour, cache = build(kind, op, inputs)
    refs = [Ref(cache.held, f"in{i}") for i in range(inputs)]
    (result,) = behaviour.exec(OpContext(None), refs)  # type: ignore[arg-type]
    assert sorted(cache.held) == sorted([*(r.id for r in refs), result.id])
    return cache.calls, result.id


def digest_of(kind: Any, op: Any, inputs: int) -> str:
    cache_map, last = build(kind, op, inputs)[0].cache_map(None, 0)
    assert last
    assert len(cache_map.deps) == inputs
    assert all(d.content is None and not d.selector for d in cache_map.deps)
    return str(cache_map.digest)


def test_a_merge_keeps_the_order_of_its_inputs() -> None:
    calls, result = run(MergeOp, Merge(), 3)
    assert calls == [("merge", ["in0", "in1", "in2"], "n")]
    assert result == "merged"


def test_a_merge_of_nothing_is_refused() -> None:
    with pytest.raises(StepError, match="no inputs"):
        build(MergeOp, Merge(), 0)


def test_a_diff_has_two_sides() -> None:
    assert run(DiffOp, Diff(0, 1), 2) == ([("diff", "in0", "in1")], "difference")
    assert run(DiffOp, Diff(NO_INPUT, 0), 1) == ([("diff", None, "in0")], "difference")
    assert run(DiffOp, Diff(0, NO_INPUT), 1) == ([("diff", "in0", None)], "difference")


def test_no_difference_is_an_empty_root() -> None:
    assert run(DiffOp, Diff(0, 0), 1)[1] == "empty"
    assert run(DiffOp, Diff(NO_INPUT, NO_INPUT), 0) == ([], "empty")


def test_a_side_that_is_not_there_is_refused() -> None:
    with pytest.raises(StepError, match="invalid input index 1 for diff op with 1 inputs"):
        build(DiffOp, Diff(0, 1), 1)


def test_keys_tell_the_operations_apart() -> None:
    keys = {
        digest_of(MergeOp, Merge(), 2),
        digest_of(MergeOp, Merge(), 1),
        digest_of(DiffOp, Diff(0, 1), 2),
        digest_of(DiffOp, Diff(1, 0), 2),
    }
    keys |= {digest_of(DiffOp, Diff(NO_INPUT, 0), 1), digest_of(DiffOp, Diff(0, NO_INPUT), 1)}
    assert len(keys) == 6
