"""A trace says what was done, in lines or for Chrome's viewer, and costs nothing when nobody asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import UsageError
from builder.state import trace


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    trace.stop()


def test_off_nothing_is_kept_or_called() -> None:
    trace.start({}, debug=False)
    assert not trace.is_on()
    trace.event("solver", "probe")
    with trace.span("net", "GET"):
        pass
    assert trace.stop() == []


def test_a_file_has_a_line_for_each_event(tmp_path: Path) -> None:
    trace.start({"PYBUILD_TRACE": str(tmp_path / "t")}, debug=False)
    trace.event("solver", "probe", edge="RUN make", found=2)
    with pytest.raises(ValueError, match="no"), trace.span("net", "GET", url="https://me:secret@example.org/x"):
        raise ValueError("no")
    trace.stop()
    probe, get = (tmp_path / "t").read_text().splitlines()
    assert "solver  probe edge=RUN make found=2 [MainThread]" in probe
    assert "net     GET" in get
    assert "ms url=" in get
    assert "error=ValueError: no" in get
    assert "secret" not in get


def test_a_json_file_is_chromes_and_whole_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace.start({"PYBUILD_TRACE": str(path)}, debug=False)
    with trace.span("step", "run", name="x"):
        trace.event("cache", "hit")
    text = path.read_text()  # before it is closed: a killed process leaves this
    inner, outer = json.loads(text.rstrip().removesuffix(",") + "]")
    assert (inner["name"], inner["ph"], outer["name"], outer["ph"]) == ("hit", "i", "run", "X")
    assert outer["ts"] <= inner["ts"] <= outer["ts"] + outer["dur"]
    assert outer["args"] == {"name": "x"}


def test_debug_keeps_the_last_events() -> None:
    trace.start({}, debug=True)
    for number in range(trace.KEPT + 5):
        trace.event("solver", f"e{number}")
    kept = trace.stop()
    assert len(kept) == trace.KEPT
    assert f"e{trace.KEPT + 4}" in kept[-1]


def test_a_file_that_can_not_be_written_is_an_error_of_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PYBUILD_TRACE"):
        trace.start({"PYBUILD_TRACE": str(tmp_path / "missing" / "t")}, debug=False)
