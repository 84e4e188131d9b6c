"""Raw progress is what buildx prints: client.SolveStatus, a JSON object a line."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

from builder.oci.digest import Digest
from builder.progress.events import Event, Log, Status, VertexCompleted, VertexKnown, VertexStarted, Warned
from builder.progress.rawjson import RawJSONDisplay

A, B = Digest.of(b"a"), Digest.of(b"b")


def printed(*events: Event) -> list[dict[str, Any]]:
    out = io.BytesIO()
    display = RawJSONDisplay(out)
    for event in events:
        display(event)
    display.close()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_vertex_is_known_then_begun_then_ended() -> None:
    known, begun, ended = printed(VertexKnown(B, "b", (A,)), VertexStarted(B, "b", 1), VertexCompleted(B, "b", 2, error="no"))
    assert known == {"vertexes": [{"digest": B, "inputs": [A], "name": "b"}]}
    (vertex,) = begun["vertexes"]
    assert list(vertex) == ["digest", "inputs", "name", "started"]
    (vertex,) = ended["vertexes"]
    assert list(vertex) == ["digest", "inputs", "name", "started", "completed", "error"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", vertex["started"])


def test_what_was_found_in_the_cache_says_so() -> None:
    assert printed(VertexCompleted(A, "a", 1, cached=True))[0]["vertexes"][0]["cached"] is True


def test_statuses_leave_out_what_is_not_known() -> None:
    _, one, two = printed(VertexStarted(A, "a", 0), Status(A, "x", 0, 0, 1), Status(A, "x", 5, 9, 2, completed=True))
    assert list(one["statuses"][0]) == ["id", "vertex", "current", "timestamp", "started"]
    assert list(two["statuses"][0]) == ["id", "vertex", "total", "current", "timestamp", "started", "completed"]
    assert two["statuses"][0]["started"] == one["statuses"][0]["timestamp"]


def test_output_is_base64() -> None:
    (line,) = printed(Log(A, 2, b"\xff\n", 1))
    assert {k: v for k, v in line["logs"][0].items() if k != "timestamp"} == {"vertex": A, "stream": 2, "data": "/wo="}


def test_warnings_are_base64_and_name_their_place() -> None:
    (line,) = printed(Warned("Rule: é", "why", "https://x", ((2, 3),), ("Dockerfile", b"ADD http://u:p@h/x /"), A))
    source = {"filename": "Dockerfile", "data": _base64("ADD http://xxxxx:xxxxx@h/x /"), "language": "Dockerfile"}
    assert line["warnings"] == [
        {
            "vertex": A,
            "level": 1,
            "short": _base64("Rule: é"),
            "detail": [_base64("why")],
            "url": "https://x",
            "sourceInfo": source,
            "range": [{"start": {"line": 2}, "end": {"line": 3}}],
        }
    ]
    assert printed(Warned("x")) == [{"warnings": [{"level": 1, "short": _base64("x")}]}]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
