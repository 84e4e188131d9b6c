"""Which commands may be run once more on a store that starts anew."""

from __future__ import annotations

import pytest

from builder.cli import main


@pytest.mark.parametrize(
    ("args", "restarts"),
    [
        (["build", "."], True),
        (["-f", "x-", "."], True),
        (["fsck"], False),
        (["build", "-"], False),
        (["-f-", "."], False),
        (["--file=-", "."], False),
        (["-f", "/dev/fd/63", "."], False),
        (["--secret", "id=x,src=/dev/fd/63", "."], False),
        (["--secret=id=x,src=/dev/stdin", "."], False),
    ],
)
def test_what_is_read_from_a_stream_is_not_read_twice(args: list[str], restarts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret out of a pipe would be empty the second time, and the build would succeed with it."""
    seen: list[str] = []
    monkeypatch.setattr("builder.state.recovery.restart", lambda error, path: seen.append(path))
    main._recover(RuntimeError("damage"), args, "/nowhere")
    assert bool(seen) == restarts
