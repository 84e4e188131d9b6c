"""The plain display prints what BuildKit's prints."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.oci.digest import Digest
from builder.progress import tty
from builder.progress.events import Event, Log, Status, VertexCompleted, VertexKnown, VertexStarted, Warned
from builder.progress.lines import StepLines
from builder.progress.plain import PlainDisplay
from builder.progress.rawjson import RawJSONDisplay
from builder.progress.trace import Trace
from builder.progress.tty import TTYDisplay

A, B = Digest.of(b"a"), Digest.of(b"b")


def shown(*events: Event) -> list[str]:
    out = io.BytesIO()
    display = PlainDisplay(out)
    for event in events:
        display(event)
    display.close()
    return out.getvalue().decode().splitlines()


def test_a_step_has_a_number_a_name_its_output_and_its_time() -> None:
    events = [VertexStarted(A, "RUN make", 0), Log(A, 1, b"one\ntwo\n", 1.5), VertexCompleted(A, "RUN make", 2.25)]
    assert shown(*events) == ["#1 RUN make", "#1 1.500 one", "#1 1.500 two", "#1 DONE 2.2s"]


def test_a_cached_step_says_so() -> None:
    assert shown(VertexCompleted(A, "RUN make", 1, cached=True)) == ["#1 RUN make", "#1 CACHED"]


def test_an_error_and_a_cancellation_are_told_apart() -> None:
    lines = shown(
        VertexStarted(A, "a", 0),
        VertexStarted(B, "b", 0),
        VertexCompleted(A, "a", 1, error="exit code: 1"),
        VertexCompleted(B, "b", 1, error="canceled", cancelled=True),
    )
    assert lines == ["#1 a", "#1 ERROR: exit code: 1", "", "#2 b", "#2 CANCELED"]


def test_lines_are_put_together_from_chunks_and_the_last_needs_no_end() -> None:
    events = [VertexStarted(A, "a", 0), Log(A, 1, b"on", 1), Log(A, 1, b"e\r\ntw", 2), VertexCompleted(A, "a", 3)]
    assert shown(*events) == ["#1 a", "#1 1.000 one", "#1 2.000 tw", "#1 DONE 3.0s"]


def test_another_step_waits_until_the_open_one_ends() -> None:
    lines = shown(
        VertexStarted(A, "a", 0),
        VertexStarted(B, "b", 0),
        Log(B, 1, b"b1\n", 1),
        Log(A, 1, b"a1\n", 1),
        VertexCompleted(A, "a", 2),
        VertexCompleted(B, "b", 3),
    )
    assert lines == ["#1 a", "#1 1.000 a1", "#1 DONE 2.0s", "", "#2 b", "#2 1.000 b1", "#2 DONE 3.0s"]


def test_a_finished_step_interrupts_the_open_one() -> None:
    lines = shown(VertexStarted(A, "a", 0), VertexStarted(B, "b", 0), VertexCompleted(B, "b", 1), VertexCompleted(A, "a", 2))
    assert lines == ["#1 a", "#1 ...", "", "#2 b", "#2 DONE 1.0s", "", "#1 a", "#1 DONE 2.0s"]


def test_statuses_show_amounts_and_their_end() -> None:
    lines = shown(
        VertexStarted(A, "export", 0),
        Status(A, "sha256:12", 0, 3_000_000, 1),
        Status(A, "sha256:12", 10, 3_000_000, 2),
        Status(A, "sha256:12", 3_000_000, 3_000_000, 3, completed=True),
        VertexCompleted(A, "export", 3),
    )
    assert lines == [
        "#1 export",
        "#1 sha256:12 0.00B / 3.00MB",
        "#1 sha256:12 3.00MB / 3.00MB 2.0s done",
        "#1 DONE 3.0s",
    ]


def test_layers_that_are_pulled_behind_the_end_of_their_vertex_end_it_no_second_time() -> None:
    lines = shown(
        VertexStarted(A, "FROM x", 0),
        VertexCompleted(A, "FROM x", 1),
        Status(A, "layer", 0, 100, 2),
        Status(A, "layer", 50, 100, 3),
        Status(A, "layer", 100, 100, 4, completed=True),
    )
    assert lines == [
        "#1 FROM x",
        "#1 DONE 1.0s",
        "",
        "#1 FROM x",
        "#1 layer 0.00B / 100.00B",
        "#1 layer 50.00B / 100.00B 1.0s",
        "#1 layer 100.00B / 100.00B 2.0s done",
    ]


def test_a_vertex_that_begins_again_ends_once() -> None:
    runs = [e for at in range(4) for e in (VertexStarted(A, "FROM x", at), VertexCompleted(A, "FROM x", at + 0.5))]
    assert [line for line in shown(*runs) if "DONE" in line] == ["#1 DONE 0.5s"]
    soon = [e for at in (0, 0.02, 0.04) for e in (VertexStarted(A, "FROM x", at), VertexCompleted(A, "FROM x", at + 0.01))]
    assert shown(*soon, VertexStarted(A, "FROM x", 0.05), VertexCompleted(A, "FROM x", 9)) == ["#1 FROM x", "#1 DONE 9.0s"]


def test_an_error_of_a_later_run_is_told() -> None:
    again = (VertexStarted(A, "FROM x", 2), VertexCompleted(A, "FROM x", 3, error="gone"))
    assert shown(VertexStarted(A, "FROM x", 0), VertexCompleted(A, "FROM x", 1), *again)[-1] == "#1 ERROR: gone"


def test_a_warning_stands_below_its_vertex() -> None:
    lines = shown(VertexStarted(A, "load", 0), Warned("Rule: text (line 1)", digest=A), VertexCompleted(A, "load", 1), Warned("x"))
    assert lines == ["#1 load", "#1 WARN: Rule: text (line 1)", "#1 DONE 1.0s"]


def test_what_is_only_known_is_not_shown() -> None:
    assert shown(VertexKnown(A, "a"), VertexKnown(B, "b", (A,)), VertexStarted(B, "b", 0)) == ["#1 b"]


# ------------------------------------------------------------------------------------------------ output
def test_an_unfinished_line_is_shown_and_goes_on() -> None:
    out = io.BytesIO()
    display = PlainDisplay(out)
    display(VertexStarted(A, "a", 0))
    display(Log(A, 1, b"50%", 1))
    assert out.getvalue() == b"#1 a\n#1 1.000 50%"
    display(Log(A, 1, b"..100%\nnext", 2))
    assert out.getvalue() == b"#1 a\n#1 1.000 50%..100%\n#1 2.000 next"
    display.close()
    assert out.getvalue().endswith(b"next\n")


def test_an_unfinished_line_comes_again_where_another_step_came_in_between() -> None:
    lines = shown(
        VertexStarted(A, "a", 0),
        Log(A, 1, b"50%", 1),
        VertexStarted(B, "b", 1),
        VertexCompleted(B, "b", 2),
        Log(A, 1, b"..100%\n", 3),
        VertexCompleted(A, "a", 4),
    )
    assert lines == ["#1 a", "#1 1.000 50%", "#1 ...", "", "#2 b", "#2 DONE 1.0s", "", "#1 a", "#1 1.000 50%..100%", "#1 DONE 4.0s"]


def test_a_step_that_is_not_open_waits_with_a_bounded_amount_of_output() -> None:
    out = io.BytesIO()
    display = PlainDisplay(out)
    display(VertexStarted(A, "a", 0))
    display(VertexStarted(B, "b", 0))
    for _ in range(40):
        display(Log(B, 1, b"x" * 65536, 0.01))
    assert len(out.getvalue()) > 1 << 20
    display.close()
    assert out.getvalue().count(b"x") == 40 * 65536


@given(st.lists(st.tuples(st.binary(max_size=9), st.booleans()), max_size=12))
def test_all_output_is_printed_once_in_its_order(chunks: list[tuple[bytes, bool]]) -> None:
    """Whatever pieces it comes in, and is taken in."""
    chunks = [(data.replace(b"\r", b"\n"), take) for data, take in chunks]
    lines, printed, mid = StepLines(), b"", False
    for data, take in chunks:
        lines.add(data, b"0.1 ")
        if take:
            out, mid = lines.take(b"#1 ", mid_line=mid)
            printed += out
    printed += lines.take(b"#1 ", mid_line=mid)[0]
    text = b"".join(data for data, _ in chunks)
    assert b"\n".join(line.removeprefix(b"#1 0.1 ") for line in printed.split(b"\n")) == text
    assert all(line.startswith(b"#1 0.1 ") for line in printed.splitlines(keepends=True) if line != b"")


def test_the_last_lines_are_kept_and_none_in_full() -> None:
    trace = Trace()
    trace.apply(VertexStarted(A, "a", 0))
    for data in (b"0\n1", b"1\n2\n", b"3\r\n", b"".join(b"%d\n" % n for n in range(4, 100)), b"x" * 5000, b"y\nopen"):
        trace.apply(Log(A, 1, data, 1))
    view = trace.vertexes[A]
    assert list(view.kept) == [b"%d" % n for n in range(91, 100)] + [b"x" * 1024]
    assert view.partial == b"open"


events = st.one_of(
    st.builds(VertexStarted, st.sampled_from([A, B]), st.text(), st.floats(0, 100)),
    st.builds(VertexCompleted, st.sampled_from([A, B]), st.text(), st.floats(0, 100), st.booleans(), st.text(), st.booleans()),
    st.builds(Log, st.sampled_from([A, B]), st.sampled_from([1, 2]), st.binary(), st.floats(0, 100)),
    st.builds(Status, st.sampled_from([A, B]), st.text(), st.integers(0), st.integers(0), st.floats(0, 100), st.booleans()),
    st.builds(Warned, st.text(), digest=st.sampled_from([A, B, None])),
    st.builds(VertexKnown, st.sampled_from([A, B]), st.text(), st.lists(st.sampled_from([A, B])).map(tuple)),
)


@given(st.lists(events))
def test_no_sequence_of_events_breaks_a_display(sequence: list[Event]) -> None:
    out, raw = io.BytesIO(), io.BytesIO()
    displays = [PlainDisplay(out), RawJSONDisplay(raw)]
    for event in sequence:
        for display in displays:
            display(event)
    displays[0].close()
    for line in raw.getvalue().splitlines():
        json.loads(line)


def test_the_live_display_lets_no_control_character_of_a_step_through() -> None:
    class Terminal(io.BytesIO):
        def fileno(self) -> int:
            raise OSError

    out = Terminal()
    display = TTYDisplay(out, color=False)
    for event in (VertexStarted(A, "a\x1b[2J", 0), Log(A, 1, b"\x1b]0;title\x07x\n", 1), VertexCompleted(A, "a\x1b[2J", 2)):
        display(event)
    display.close()
    text = out.getvalue()
    assert b"\x1b[2J" not in text
    assert b"\x1b]0" not in text
    assert b"FINISHED" in text


def test_the_live_display_shows_warnings_below_their_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the Dockerfile come once its step is over, and has scrolled up."""
    monkeypatch.setattr(tty, "REDRAW", 60.0)  # what is drawn is drawn at the end, at once

    class Terminal(io.BytesIO):
        def fileno(self) -> int:
            raise OSError

    out = Terminal()
    display = TTYDisplay(out, color=False)
    display(VertexStarted(A, "load build definition", 0))
    display(VertexCompleted(A, "load build definition", 1))
    display(Warned("FromAsCasing", digest=A))
    display(VertexStarted(B, "RUN x", 1))
    display(Warned("while it runs", digest=B))
    display.close()
    rows = [line.rstrip() for line in out.getvalue().decode().split("\x1b[J")[-1].splitlines()]
    assert rows[0].startswith(" => load build definition")
    assert rows[1].startswith(" => WARN: FromAsCasing")
    assert rows[2].startswith("[+] Building")
    assert rows[3].startswith(" => RUN x")
    assert rows[4].startswith(" => WARN: while it runs")
