"""pybuild as a library: what ``from builder import ...`` gives is enough for the examples, and holds what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY

pytestmark = pytest.mark.integration
EXAMPLES = os.path.join(REPOSITORY, "examples", "api")
Context = Callable[[dict[str, "str | bytes"]], str]


def python(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the library enters a mount namespace."""
    environ = {**os.environ, "PYBUILD_ROOT": str(root), "PYTHONPATH": REPOSITORY}
    return subprocess.run([sys.executable, *args], env=environ, capture_output=True, text=True, timeout=150, check=False)


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_surface_is_importable_name_by_name() -> None:
    import builder

    for name in dir(builder):
        assert getattr(builder, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        builder.nothing  # noqa: B018 - the access is the test


def test_a_build_with_events_and_a_mounted_result(tmp_path: Path, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo heard && echo made > /made\n"})
    out = ok(python(tmp_path / "root", f"{EXAMPLES}/build.py", folder, str(tmp_path / "app.tar")))
    assert "heard\n" in out
    assert "done   [2/2] RUN" in out
    assert "linux/" in out
    assert "sha256:" in out
    assert "its files can be read at /" in out
    assert (tmp_path / "app.tar").exists()
    again = ok(python(tmp_path / "root", f"{EXAMPLES}/build.py", folder))
    assert "cached [2/2] RUN" in again
    assert "(no image was asked for)" in again


def test_a_failed_build_tells_its_error_as_a_value(tmp_path: Path, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN exit 3\n"})
    done = python(tmp_path / "root", f"{EXAMPLES}/build.py", folder)
    assert done.returncode == 1
    assert "exit code: 3" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_graph_made_by_hand(tmp_path: Path, context: Context, busybox: str) -> None:
    folder = context({"a": "one two\nthree\n", "b": "four\n"})
    first = ok(python(tmp_path / "root", f"{EXAMPLES}/graph.py", busybox, folder))
    assert first.endswith("lines 3\nwords 4\n")
    assert "done   run cat" in first
    again = ok(python(tmp_path / "root", f"{EXAMPLES}/graph.py", busybox, folder))
    assert again.count("cached run cat") == 2


CANCEL = """
import sys, threading
from builder import BuildRequest, CancelledError, BuildError, Log, Root
with Root.open() as root:
    build = root.build(BuildRequest(context=sys.argv[1]))
    for event in build.events():
        if isinstance(event, Log):
            build.cancel()
    try:
        build.result()
    except BuildError as e:
        assert isinstance(e.cause, CancelledError), repr(e.cause)
        print("cancelled", e.exit_code)
"""


def test_a_build_is_cancelled_while_it_runs(tmp_path: Path, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo begun && sleep 3600\n"})
    assert ok(python(tmp_path / "root", "-c", CANCEL, folder)) == "cancelled 130\n"


TWICE = """
import sys
from builder import BuildRequest, Root, PybuildError
with Root.open() as root:
    build = root.build(BuildRequest(context=sys.argv[1]))
    print(len(build.run().targets))
    try:
        build.run()
    except PybuildError as e:
        print(e)
"""


def test_a_build_is_used_once(tmp_path: Path, context: Context) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    assert ok(python(tmp_path / "root", "-c", TWICE, folder)) == "1\na build is used once: make another one\n"
