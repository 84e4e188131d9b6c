"""The content store: nothing under a wrong digest, whatever breaks off, and every blob fetched once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from builder.content.store import CHUNK, ContentStore
from builder.errors import DamagedBlobError, IntegrityError, NotFoundError, SourceError
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.state.layout import Layout

DATA = bytes(range(256)) * 20_000


def descriptor(data: bytes = DATA) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(data), len(data))


@pytest.fixture
def store(tmp_path: object) -> ContentStore:
    layout = Layout(str(tmp_path))
    layout.create()
    return ContentStore(layout)


class Provider:
    """Hands out ``data`` in small chunks; breaks off after ``until`` bytes."""

    def __init__(self, data: bytes = DATA, until: int | None = None) -> None:
        self.data = data
        self.until = until
        self.offsets: list[int] = []

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        self.offsets.append(offset)
        yield self._chunks(offset)

    def _chunks(self, offset: int) -> Iterator[bytes]:
        for at in range(offset, len(self.data), 70_000):
            if self.until is not None and at >= self.until:
                raise SourceError("connection reset")
            yield self.data[at : at + 70_000]


def left_over(store: ContentStore) -> list[str]:
    return os.listdir(store.layout.ingest)


def test_put_and_read(store: ContentStore) -> None:
    digest = store.put(b"{}")
    assert (digest, store.put(b"{}")) == (Digest.of(b"{}"), digest)
    assert store.has(digest)
    assert store.read(digest) == b"{}"
    assert store.size(digest) == 2
    assert [(d, size) for d, size, _ in store.walk()] == [(digest, 2)]


def test_a_blob_is_read_only(store: ContentStore) -> None:
    assert os.stat(store.path(store.put(b"x"))).st_mode & 0o777 == 0o444


def test_who_waits_for_a_download_can_open_it_until_it_has_its_name(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user may not write to a file that says it is read-only, not even to find out that it is finished."""
    modes = []
    rename = os.rename

    def renamed(old: str, new: str) -> None:
        modes.append(os.stat(old).st_mode & 0o777)
        rename(old, new)

    monkeypatch.setattr(os, "rename", renamed)
    store.ingest(descriptor(), Provider()._chunks(0))
    assert modes[-1:] == [0o600]


def test_what_is_not_there(store: ContentStore) -> None:
    digest = Digest.of(b"nothing")
    assert not store.has(digest)
    for read in (store.size, store.open, store.read):
        with pytest.raises(NotFoundError):
            read(digest)
    store.delete(digest)


def test_a_digest_is_no_path(store: ContentStore) -> None:
    for text in ("sha256:../../etc/passwd", "sha256:" + "/" * 64, "../x:00", "sha256"):
        with pytest.raises(ValueError, match="digest"):
            store.path(Digest(text))


def test_a_damaged_blob_is_not_read(store: ContentStore) -> None:
    digest = store.put(b"good")
    os.chmod(store.path(digest), 0o600)
    with open(store.path(digest), "wb") as file:
        file.write(b"evil")
    with pytest.raises(IntegrityError, match="damaged"):
        store.read(digest)


def test_a_blob_that_was_damaged_is_not_handed_out_as_whole(store: ContentStore) -> None:
    digest = store.put(b"good")
    other = ContentStore(store.layout)  # another process: what this one stored itself it need not doubt
    os.chmod(other.path(digest), 0o600)
    with open(other.path(digest), "wb") as file:
        file.write(b"evil")
    with pytest.raises(DamagedBlobError, match="damaged"):
        list(other.checked(digest))
    assert not other.has(digest)


def test_a_document_over_the_limit_is_not_read(store: ContentStore) -> None:
    with pytest.raises(IntegrityError, match="more than 3 bytes"):
        store.read(store.put(b"four"), limit=3)


def test_writer_without_commit_leaves_nothing(store: ContentStore) -> None:
    with store.writer() as w:
        w.write(DATA)
    assert left_over(store) == []
    assert list(store.walk()) == []


def test_writer_gives_digest_and_size(store: ContentStore) -> None:
    with store.writer() as w:
        for at in range(0, len(DATA), 999):
            w.write(DATA[at : at + 999])
        assert w.commit() == (Digest.of(DATA), len(DATA))
    with store.writer() as again:
        again.write(DATA)
        assert again.commit() == (Digest.of(DATA), len(DATA))
    assert b"".join(store.chunks(Digest.of(DATA), 5)) == DATA[5:]
    assert left_over(store) == []


def test_ingest_verifies(store: ContentStore) -> None:
    store.ingest(descriptor(), [DATA[:100], DATA[100:]])
    assert store.read(Digest.of(DATA), 1 << 30) == DATA

    def untouched() -> Iterator[bytes]:
        raise AssertionError("a blob that is there is not read again")
        yield b""

    store.ingest(descriptor(), untouched())


@pytest.mark.parametrize(("data", "text"), [(DATA[:-1] + b"!", "have digest"), (DATA + b"x", "more than"), (b"", "broke off")])
def test_wrong_bytes_are_refused(store: ContentStore, data: bytes, text: str) -> None:
    with pytest.raises(IntegrityError, match=text):
        store.ingest(descriptor(), [data])
    assert not store.has(Digest.of(DATA))
    assert not store.has(Digest.of(data))


def test_an_empty_blob(store: ContentStore) -> None:
    store.ingest(descriptor(b""), [])
    assert store.read(Digest.of(b"")) == b""


def partial_size(store: ContentStore) -> int:
    """Bytes that a broken-off download left."""
    return sum(entry.stat().st_size for entry in os.scandir(store.layout.ingest))


def test_fetch_resumes_where_it_broke_off(store: ContentStore) -> None:
    with pytest.raises(SourceError, match="reset"):
        store.fetch(descriptor(), Provider(until=1_000_000))
    have = partial_size(store)
    assert have == 1_050_000
    provider = Provider()
    seen: list[int] = []
    store.fetch(descriptor(), provider, seen.append)
    assert provider.offsets == [have]
    assert seen[-1] == len(DATA)
    assert store.read(Digest.of(DATA), 1 << 30) == DATA
    assert left_over(store) == []


def test_a_resumed_blob_with_a_bad_start_is_dropped(store: ContentStore) -> None:
    with pytest.raises(SourceError):
        store.fetch(descriptor(), Provider(b"?" * len(DATA), until=500_000))
    with pytest.raises(IntegrityError):
        store.fetch(descriptor(), Provider())
    assert partial_size(store) == 0
    store.fetch(descriptor(), Provider())
    assert store.has(Digest.of(DATA))


def test_tee_gives_the_bytes_while_they_come_in(store: ContentStore) -> None:
    assert b"".join(store.tee(descriptor(), Provider())) == DATA
    assert b"".join(store.tee(descriptor(), None)) == DATA
    with pytest.raises(NotFoundError):
        store.tee(descriptor(b"other"), None)


def test_a_dropped_tee_can_be_resumed(store: ContentStore) -> None:
    chunks = store.tee(descriptor(), Provider())
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert partial_size(store) == 70_000
    assert b"".join(store.tee(descriptor(), Provider())) == DATA


def test_a_stored_blob_of_another_size_is_refused(store: ContentStore) -> None:
    store.put(b"abc")
    wrong = Descriptor("x", Digest.of(b"abc"), 4)
    with pytest.raises(IntegrityError, match="names 4 bytes, there are 3"):
        store.fetch(wrong, Provider())


def _fetch_in_child(root: str, queue: multiprocessing.SimpleQueue[int], start: object) -> None:
    provider = Provider()
    start.wait()  # type: ignore[attr-defined]
    ContentStore(Layout(root)).fetch(descriptor(), provider)
    queue.put(len(provider.offsets))


def test_processes_that_want_one_blob_fetch_it_once(store: ContentStore) -> None:
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    start = context.Barrier(4)
    children = [context.Process(target=_fetch_in_child, args=(store.layout.root, queue, start)) for _ in range(4)]
    for child in children:
        child.start()
    fetched = sum(queue.get() for _ in children)
    for child in children:
        child.join()
    assert fetched == 1
    assert left_over(store) == []


def test_sweep_takes_what_nobody_holds(store: ContentStore) -> None:
    ingest = store.layout.ingest
    open(f"{ingest}/.new-crashed", "w").close()
    with pytest.raises(SourceError):
        store.fetch(descriptor(), Provider(until=500_000))
    with store.writer() as held:
        held.write(b"x" * 2 * CHUNK)
        store.sweep(os.stat(ingest).st_mtime_ns + 60 * 10**9)
        assert len(left_over(store)) == 2
        assert held.commit()[1] == 2 * CHUNK
    store.sweep(os.stat(ingest).st_mtime_ns + 30 * 24 * 3600 * 10**9)
    assert left_over(store) == []
