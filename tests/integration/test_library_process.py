"""The library leaves its caller's process alone: threads, asyncio, several builds at once, and nothing left when it goes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder import (
    BuildError,
    BuildRequest,
    CancelledError,
    Log,
    NotFoundError,
    PybuildError,
    Reference,
    Root,
    Session,
    SolveError,
    Token,
    UsageError,
    cancel,
    llb,
)
from tests.support.cli import REPOSITORY

pytestmark = pytest.mark.integration
Context = Callable[[dict[str, "str | bytes"]], str]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    with Root.open(str(tmp_path / "root")) as opened:
        yield opened


def namespaces() -> list[str]:
    return [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "user", "pid")] + [str(os.getuid())]


def test_the_callers_process_stays_where_it_is(tmp_path: Path, context: Context, busybox: str) -> None:
    before = namespaces()
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo made > /made\n"})
    with Root.open(str(tmp_path / "root")) as root:
        result = root.build(BuildRequest(context=folder)).run()
        record = result.targets[0].record
        assert record is not None
        with root.mount(record) as files:
            assert Path(files, "made").read_text() == "made\n"
        assert not Path(files, "made").exists()
        assert namespaces() == before
        assert not root.images()
        assert {usage.id for usage in root.usage()} > {record}


def test_two_threads_build_at_once(root: Root, context: Context, busybox: str) -> None:
    """Each waits for the other's mark: one after the other they would wait for ever."""
    results: dict[str, object] = {}

    def build(mine: str, other: str) -> None:
        wait = f"touch /m/{mine}; until [ -e /m/{other} ]; do :; done"
        folder = context({"Dockerfile": f"FROM {busybox}\nRUN --mount=type=cache,id=marks,target=/m {wait}\n"})
        results[mine] = root.build(BuildRequest(context=folder)).run()

    threads = [threading.Thread(target=build, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.keys() == {"a", "b"}


def test_asyncio_builds_in_its_threads(root: Root, context: Context, busybox: str) -> None:
    async def both() -> list[object]:
        folders = [context({"Dockerfile": f"FROM {busybox}\nRUN echo {n}\n"}) for n in range(2)]
        return list(await asyncio.gather(*(asyncio.to_thread(root.build(BuildRequest(context=f)).run) for f in folders)))

    assert len(asyncio.run(both())) == 2


def test_errors_come_over_as_what_they_are(root: Root, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo said; exit 3\n"})
    with pytest.raises(BuildError, match="exit code: 3") as caught:
        root.build(BuildRequest(context=folder)).run()
    assert isinstance(caught.value.cause, SolveError)
    assert caught.value.dockerfile.startswith(b"FROM")
    with pytest.raises(NotFoundError) as missing:
        root.save_image(Reference.parse("nothing"), lambda _: None)
    assert str(missing.value)
    with pytest.raises(NotFoundError, match="/nonexistent"):
        root.build(BuildRequest(context="/nonexistent")).run()


def test_an_error_of_a_sink_ends_the_build_and_is_raised(root: Root, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo begun && sleep 3600\n"})

    def sink(event: object) -> None:
        if isinstance(event, Log):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        root.build(BuildRequest(context=folder)).run(sink)
    assert not root.images()


def test_a_graph_is_cancelled_by_the_callers_token(root: Root, busybox: str) -> None:
    token = Token()

    def sink(event: object) -> None:
        if isinstance(event, Log):
            token.set()

    step = llb.image(busybox).run("echo begun; sleep 3600")
    with cancel.scope(token), pytest.raises((CancelledError, SolveError)):
        root.solve([step], sink=sink)
    token = Token()
    with pytest.raises((CancelledError, SolveError)):
        root.solve([step], sink=sink, token=token)
    assert root.solve([llb.image(busybox).run("true")])


def test_a_folder_of_the_callers_is_a_result_too(root: Root, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/file").write_text("content")
    (record,) = root.solve([llb.local("here")], Session.of(locals={"here": str(tmp_path / "context")}))
    with root.mount(record) as folder:
        assert Path(folder, "file").read_text() == "content"


def test_an_empty_graph_is_refused_in_words(root: Root) -> None:
    with pytest.raises(UsageError, match="an empty state has nothing to build"):
        root.solve([llb.scratch()])


def test_secrets_go_along_and_functions_are_refused_in_words(root: Root, busybox: str) -> None:
    step = llb.image(busybox).run("cat /proc/self/environ > /dev/null")
    assert root.solve([step], Session.of(secrets={"id": b"value"}))
    with pytest.raises(PybuildError, match="can't be handed to the process that builds"):
        root.solve([step], Session(secret=lambda _: b"value"))


def test_an_archive_is_handed_over_in_pieces(root: Root, context: Context, busybox: str, tmp_path: Path) -> None:
    from builder import OutputSpec

    folder = context({"Dockerfile": f"FROM {busybox}\n"})
    name = Reference.parse("app")
    root.build(BuildRequest(context=folder, tags=(name,), outputs=(OutputSpec("image"),))).run()
    pieces: list[bytes] = []
    root.save_image(name, pieces.append)
    root.save_image(name, str(tmp_path / "app.tar"))
    assert b"".join(pieces) == (tmp_path / "app.tar").read_bytes()


def test_a_closed_root_and_another_process_are_refused(tmp_path: Path) -> None:
    root = Root.open(str(tmp_path / "root"))
    child = os.fork()
    if child == 0:
        try:
            root.images()
        except UsageError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    root.close()
    with pytest.raises(UsageError, match="closed"):
        root.images()


def test_a_root_that_can_not_be_opened_is_the_callers_error(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(PybuildError, match="can't use the state folder"):
        Root.open(str(tmp_path / "root"))


CALLER = """
import os, sys
from builder import BuildRequest, Log, Root
root = Root.open(sys.argv[1])
for event in root.build(BuildRequest(context=sys.argv[2])).events():
    if isinstance(event, Log):
        print(event.data.decode().strip(), flush=True)
        os.kill(os.getpid(), 9)
"""


def test_a_caller_that_is_killed_leaves_nothing(tmp_path: Path, context: Context, busybox: str) -> None:
    """The process that builds has the writing end of our pipe too: it is read to its end when that is gone."""
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo begun && sleep 3600\n"})
    env = {**os.environ, "PYTHONPATH": REPOSITORY}
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(tmp_path / "root"), folder], env=env, stdout=subprocess.PIPE)
    out, _ = caller.communicate(timeout=60)
    assert out == b"begun\n"
    assert caller.returncode == -9
    with Root.open(str(tmp_path / "root")) as root:
        assert root.check()[0] == []
