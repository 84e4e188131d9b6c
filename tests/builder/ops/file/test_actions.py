"""mkdir, mkfile, symlink and rm; several actions and outputs in one operation."""

from __future__ import annotations

import os
from typing import Any

import pytest

from builder.errors import StepError
from builder.graph.ops import CopyAction, MkdirAction, MkfileAction, RmAction, SymlinkAction

CASES: list[tuple[str, Any, Any, Any]] = [
    ("mkdir makes one folder", {}, MkdirAction(0, 0, "/a", 0o1750), {"a": "d* 750"}),
    ("mkdir leaves an existing folder", {"a/": 0o700}, MkdirAction(0, 0, "/a", 0o755), {"a": "d 700"}),
    (
        "mkdir with parents",
        {"a/": 0o700},
        MkdirAction(0, 0, "/a/b/c", 0o711, True),
        {"a": "d* 700", "a/b": "d* 711", "a/b/c": "d* 711"},
    ),
    (
        "mkdir goes through links inside the root",
        {"l": "-> /../t", "t/": 0},
        MkdirAction(0, 0, "/l/x", 0o755, True),
        {"l": "l /../t", "t": "d* 755", "t/x": "d* 755"},
    ),
    (
        "folders below a set-group-id one have that bit too",
        {"a/": 0o2775},
        MkdirAction(0, 0, "/a/b/c", 0o711, True),
        {"a": "d* 2775", "a/b": "d* 2711", "a/b/c": "d* 2711"},
    ),
    ("a single one too", {"a/": 0o2775}, MkdirAction(0, 0, "/a/x", 0o755), {"a": "d* 2775", "a/x": "d* 2755"}),
    ("an action gives none of these bits", {}, MkdirAction(0, 0, "/x", 0o7755), {"x": "d* 755"}),
    ("mkfile", {}, MkfileAction(0, 0, "f", b"data", 0o640), {"f": "f* 640 data"}),
    (
        "mkfile keeps the mode of a file that is there",
        {"f": ("old one", 0o600)},
        MkfileAction(0, 0, "/f", b"new", 0o644),
        {"f": "f* 600 new"},
    ),
    (
        "mkfile follows a link in the root",
        {"l": "-> /etc/f", "etc/": 0},
        MkfileAction(0, 0, "/l", b"x"),
        {"etc": "d* 755", "etc/f": "f* 644 x", "l": "l /etc/f"},
    ),
    ("symlink", {}, SymlinkAction(0, 0, "../any", "/l"), {"l": "l* ../any"}),
    ("rm of a file", {"a": "A", "b": "B"}, RmAction(0, 0, "/a"), {"b": "f 644 B"}),
    ("rm of a folder", {"a/b/c": "A", "b": "B"}, RmAction(0, 0, "a/"), {"b": "f 644 B"}),
    ("rm takes the link, not what it names", {"l": "-> d", "d/f": "F"}, RmAction(0, 0, "/l"), {"d": "d 755", "d/f": "f 644 F"}),
    ("rm goes through links to the folder", {"l": "-> d", "d/f": "F"}, RmAction(0, 0, "/l/f"), {"l": "l d", "d": "d* 755"}),
    ("rm with wildcards", {"a1": "A", "a2/x": "B", "b": "C"}, RmAction(0, 0, "/a*", False, True), {"b": "f 644 C"}),
    ("rm of nothing, allowed", {"b": "C"}, RmAction(0, 0, "/no/such", True), {"b": "f 644 C"}),
]


@pytest.mark.parametrize(("before", "do", "after"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_table(kit: Any, before: Any, do: Any, after: dict[str, str]) -> None:
    assert kit.run(do, inputs=[kit.ref(before)]) == [dict(sorted(after.items()))]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(kit: Any, umask: int) -> None:
    old = os.umask(umask)
    try:
        got = kit.run(
            MkdirAction(0, -1, "/a/b", 0o755, True),
            MkfileAction(1, -1, "/a/f", b"", 0o666),
            MkdirAction(2, 0, "/c", 0o777),
            inputs=[kit.ref({})],
        )
    finally:
        os.umask(old)
    assert got == [{"a": "d* 755", "a/b": "d* 755", "a/f": "f* 666", "c": "d* 777"}]


def test_a_timestamp_is_set(kit: Any) -> None:
    kit.run(MkdirAction(0, -1, "/a/b", 0o755, True, None, 77), MkfileAction(1, 0, "/f", b"", 0o644, None, 99), inputs=[kit.ref({})])
    root = kit.worker.cache.base + "/ref0"
    assert [os.stat(root + p).st_mtime_ns for p in ("/a/b", "/f")] == [77, 99]


@pytest.mark.parametrize("path", ["/", ".", "..", "/..", "/a/..", "", "//"])
@pytest.mark.parametrize("wildcard", [True, False])
def test_the_root_is_never_removed(kit: Any, path: str, wildcard: bool) -> None:
    ref = kit.ref({"a": "A"})
    with pytest.raises(StepError, match="invalid empty path"):
        kit.run(RmAction(0, 0, path, True, wildcard), inputs=[ref])
    assert os.listdir(kit.worker.cache.base + "/ref0") == ["a"]


@pytest.mark.parametrize(
    ("do", "text"),
    [
        (RmAction(0, 0, "/no"), "stat /no: no such file or directory"),
        (MkdirAction(0, 0, "/no/a"), "mkdir /no/a: no such file or directory"),
        (MkdirAction(0, 0, "/f", 0o755, True), "mkdir /f: not a directory"),
        (MkdirAction(0, 0, "/f/a", 0o755, True), "lstat /f/a: not a directory"),
        (MkdirAction(0, 0, "/" + "n" * 256), f"lstat /{'n' * 256}: file name too long"),
        (MkfileAction(0, 0, "/no/a", b""), "open /no/a: no such file or directory"),
        (MkfileAction(0, 0, "/d", b""), "open /d: is a directory"),
        (SymlinkAction(0, 0, "x", "/f"), "symlink x /f: file exists"),
    ],
)
def test_errors(kit: Any, do: Any, text: str) -> None:
    with pytest.raises(StepError, match=text) as error:
        kit.run(do, inputs=[kit.ref({"f": "F", "d/": 0})])
    assert kit.base not in str(error.value)


def test_a_chain_of_actions_works_on_one_ref(kit: Any) -> None:
    got = kit.run(
        MkdirAction(0, -1, "/a"), MkfileAction(1, -1, "/a/f", b"1"), RmAction(2, 0, "/old"), inputs=[kit.ref({"old": "O"})]
    )
    assert got == [{"a": "d* 755", "a/f": "f* 644 1"}]
    assert kit.worker.cache.log == ["new ref0", "commit ref0"]


def test_a_result_that_is_used_twice_is_committed_and_stays_as_it_was(kit: Any) -> None:
    got = kit.run(
        MkfileAction(0, 0, "/f", b"1"),
        MkfileAction(1, 1, "/g", b"2"),
        CopyAction(0, 2, 2, "/g", "/h"),
        inputs=[kit.ref({"o": "O"})],
    )
    assert got == [
        {"f": "f* 644 1", "o": "f 644 O"},
        {"f": "f* 644 1", "g": "f* 644 2", "o": "f 644 O"},
        {"h": "f* 644 2", "o": "f 644 O"},
    ]


def test_scratch_as_input_and_as_source(kit: Any) -> None:
    assert kit.run(MkfileAction(-1, 0, "/f", b"1"), inputs=[]) == [{"f": "f* 644 1"}]
    with pytest.raises(StepError, match="lstat /x: no such file"):
        kit.run(CopyAction(-1, -1, 0, "/x", "/y"), inputs=[])


def test_inputs_stay_the_callers_and_failures_leave_nothing(kit: Any) -> None:
    with pytest.raises(StepError):
        kit.run(MkdirAction(0, -1, "/a"), CopyAction(0, 1, 0, "/no", "/x"), inputs=[kit.ref({"o": "O"})])
    assert kit.worker.cache.log == ["new ref0", "commit ref0", "new ref2", "release ref2", "release ref0"]


@pytest.mark.parametrize(
    "actions",
    [
        (MkdirAction(5, 0, "/a"),),
        (MkdirAction(1, 0, "/a"),),
        (MkdirAction(0, -1, "/a"),),
        (MkdirAction(0, 1, "/a"),),
        (MkdirAction(0, 0, "/a"), MkdirAction(0, 0, "/b")),
        (CopyAction(0, 9, 0, "/a", "/b"),),
    ],
)
def test_a_malformed_operation_is_refused(kit: Any, actions: Any) -> None:
    with pytest.raises(StepError, match="in file op"):
        kit.op(*actions, inputs=1)
