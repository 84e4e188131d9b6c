"""Unpacking in a child gives what unpacking here gives: files, results and errors."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from builder.errors import CancelledError, IntegrityError, LayerError, StoreError
from builder.files.apply import unpack
from builder.files.tar import DIR, LINK, Entry, TarReader
from builder.files.types import NeedsParent
from builder.snapshots import workers
from builder.snapshots.overlay import OverlaySnapshotter
from builder.snapshots.workers import unpack_in_child
from builder.state.cancel import Token, scope
from builder.state.database import Database
from builder.state.layout import Layout

Layer = Callable[..., list[bytes]]
Listing = Callable[..., dict[str, tuple[object, ...]]]


def children() -> set[str]:
    """Pids of this process's children, zombies too."""
    found: set[str] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as f:
                found.update(f.read().split())
        except FileNotFoundError:
            pass  # a thread that ended meanwhile
    return found


@pytest.fixture
def folder(tmp_path: object, root_only: None) -> str:
    os.mkdir(f"{tmp_path}/layer")
    return f"{tmp_path}/layer"


def test_the_result_is_that_of_unpack(folder: str, layer: Layer, listing: Listing, tmp_path: object) -> None:
    big = ("d/big", os.urandom(3 << 20))
    chunks = layer(Entry("d/", DIR), big, ("d/.wh.gone", b""), (".wh.other", b""), Entry("o/", DIR), ("o/.wh..wh..opq", b""))
    os.mkdir(f"{tmp_path}/here")
    assert unpack_in_child(chunks, folder, bottom=False, lower=None) == unpack(chunks, f"{tmp_path}/here", bottom=False)
    assert listing(folder, times=False) == listing(f"{tmp_path}/here", times=False)


@pytest.mark.parametrize("names", [(), ("one",), ("one", "two")])
def test_sets_of_names_survive_the_pipe(folder: str, layer: Layer, names: tuple[str, ...]) -> None:
    marks = [(f".wh.{name}", b"") for name in names]
    unpacked = unpack_in_child(layer(*marks), folder, bottom=False, lower=None)
    assert (unpacked.whiteouts, unpacked.opaques) == (frozenset(names), frozenset())


def test_errors_of_the_layer_come_back(folder: str, layer: Layer) -> None:
    with pytest.raises(LayerError, match=r"leads out of the layer") as caught:
        unpack_in_child(layer(("../x", b"")), folder, bottom=True, lower=None)
    assert type(caught.value) is LayerError
    with pytest.raises(NeedsParent, match="hard link"):
        unpack_in_child(layer(Entry("x", LINK, linkname="y")), folder, bottom=False, lower=None)


def test_errors_of_the_disk_come_back(folder: str, layer: Layer) -> None:
    with pytest.raises(StoreError, match="No such file"):
        unpack_in_child(layer(), f"{folder}/missing", bottom=True, lower=None)


def test_a_source_without_end_is_not_read_on_once_the_child_has_failed(folder: str, layer: Layer) -> None:
    with pytest.raises(LayerError, match="leads out of the layer"):
        unpack_in_child(itertools.chain(layer(("../x", b"")), itertools.repeat(bytes(1 << 20))), folder, bottom=True, lower=None)


def test_an_error_of_the_source_passes_and_ends_the_child(folder: str, layer: Layer) -> None:
    def broken() -> Iterator[bytes]:
        yield b"".join(layer(("x", b"")))[:1024]
        raise IntegrityError("wrong digest")

    before = children()
    with pytest.raises(IntegrityError, match="wrong digest"):
        unpack_in_child(broken(), folder, bottom=True, lower=None)
    assert children() <= before  # other tests of this process may have children of their own


@pytest.mark.parametrize("size", [10, 8 << 20], ids=["waits for the answer", "waits for room in the pipe"])
def test_a_child_that_is_busy_keeps_nobody_who_was_called_off(folder: str, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(workers, "unpack", lambda *_, **__: signal.pause())
    token = Token()

    def source() -> Iterator[bytes]:
        if size > 10:
            token.set()
        yield bytes(size)
        token.set()

    before = children()
    with scope(token), pytest.raises(CancelledError):
        unpack_in_child(source(), folder, bottom=True, lower=None)
    assert children() <= before


def test_the_child_holds_none_of_our_files(folder: str, layer: Layer) -> None:
    read, write = os.pipe()

    def source() -> Iterator[bytes]:
        yield from layer(("x", b"x" * 2_000_000))
        os.close(write)
        assert os.read(read, 1) == b""  # would wait for ever if the child had the other end

    unpack_in_child(source(), folder, bottom=True, lower=None)
    os.close(read)


@pytest.mark.integration
def test_layers_at_once(state: tuple[Layout, Database], layer: Layer, listing: Listing, root_only: None) -> None:
    snapshotter = OverlaySnapshotter(*state)
    together = threading.Barrier(6)
    failures: list[BaseException] = []

    def apply(number: int) -> None:
        def chunks() -> Iterator[bytes]:
            together.wait()
            yield from layer(Entry("d/", DIR), (f"d/{number}", os.urandom(300_000)), (f"d/.wh.{number - 1}", b""))

        try:
            snapshotter.apply(f"l{number}", f"l{number - 1}" if number else None, chunks())
        except BaseException as e:
            failures.append(e)
            together.abort()  # or the others would wait for this one for ever

    threads = [threading.Thread(target=apply, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with snapshotter.mount("l5") as folder:
        assert os.listdir(f"{folder}/d") == ["5"]
    out: list[bytes] = []
    snapshotter.diff("l5", "l4", out.append)
    assert [entry.name for entry in TarReader(out)] == ["d/", "d/.wh.4", "d/5"]
