"""The content store: blobs by digest, one file each. There is no index: a blob is there if its file is there.

A blob comes in under a temp name in ROOT/ingest, is verified while it is written, synced and renamed. A download that broke
off stays in ROOT/ingest under its digest and is resumed by whoever wants the blob next; a lock makes two processes that want
the same blob fetch it once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from builder.errors import DamagedBlobError, IntegrityError, NotFoundError
from builder.oci.digest import Digest, Running
from builder.state import locks
from builder.state.cancel import checkpoint
from builder.state.disk import store_error, store_errors, write_all
from builder.text.times import NS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from builder.content.types import BlobProvider
    from builder.oci.descriptor import Descriptor
    from builder.state.layout import Layout

CHUNK = 1 << 20
_DOCUMENT_LIMIT = 16 << 20
_SWEEP_NS = 7 * 24 * 3600 * NS


class ContentStore:
    """Blobs below ``layout.content``. Safe for any number of threads and processes. Errors of the disk are StoreError."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._own: set[Digest] = set()

    def path(self, digest: Digest) -> str:
        """Where the blob is, or would be. Never write there."""
        digest = Digest.parse(digest)  # the last line of defence: a digest becomes a file name here
        return os.path.join(self.layout.content, digest.algorithm, digest.hex)

    def has(self, digest: Digest) -> bool:
        return os.path.exists(self.path(digest))

    def size(self, digest: Digest) -> int:
        """Bytes of the blob; NotFoundError if it is not there."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise NotFoundError(f"blob {digest} is not in the content store") from None

    def open(self, digest: Digest) -> BinaryIO:
        """The blob for reading; NotFoundError if it is not there."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise NotFoundError(f"blob {digest} is not in the content store") from None
        except OSError as e:
            raise store_error(f"can't read blob {digest}", e) from e

    def read(self, digest: Digest, limit: int = _DOCUMENT_LIMIT) -> bytes:
        """The whole blob, for documents (manifests, configs); IntegrityError for more than ``limit`` bytes or damage."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise IntegrityError(f"blob {digest} has more than {limit} bytes")
        if digest.like(data) != digest:
            self._damaged(digest)
        return data

    def checked(self, digest: Digest) -> Iterator[bytes]:
        """The blob's bytes on their way out of the store. DamagedBlobError at the end if they are not those of the digest; then the
        blob is deleted: asking again makes it anew where that can be done. What this process stored itself is not hashed twice."""
        if digest in self._own:
            yield from self.chunks(digest)
            return
        running = Running(digest.algorithm)
        for chunk in self.chunks(digest):
            running.update(chunk)
            yield chunk
        if running.digest() != digest:
            self._damaged(digest)
        self._own.add(digest)

    def _damaged(self, digest: Digest) -> NoReturn:
        self.delete(digest)
        raise DamagedBlobError(f"blob {digest} was damaged in the content store", hint="it was deleted: build again")

    def chunks(self, digest: Digest, offset: int = 0) -> Iterator[bytes]:
        """The blob's bytes from ``offset``, not verified (a blob was verified when it came in)."""
        with self.open(digest) as file:
            file.seek(offset)
            while data := file.read(CHUNK):
                checkpoint()
                yield data

    def put(self, data: bytes) -> Digest:
        """Store a small blob; free if it is there. A damaged one is replaced."""
        digest = Digest.of(data)
        try:
            sound = self.read(digest, len(data)) == data
        except (NotFoundError, IntegrityError):
            self.delete(digest)
            sound = False
        if not sound:
            with self.writer() as w:
                w.write(data)
                w.commit()
        return digest

    @contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """A blob whose digest is not known yet. Without ``commit`` in the block nothing is left."""
        with store_errors("can't write to the content store"):
            name, fd = locks.new_file(self.layout.ingest, ".new-")
        w = BlobWriter(self, fd, name)
        try:
            yield w
        finally:
            w.close()

    def ingest(self, descriptor: Descriptor, chunks: Iterable[bytes], *, offset: int = 0) -> None:
        """Store the blob; free if it is there (the chunks are not touched then). ``chunks`` start at ``offset`` of the blob,
        at most the bytes that an earlier, broken-off download left. IntegrityError if size or digest differ: nothing is kept then.

        Where the chunks come from the network use ``fetch``, which resumes by itself.
        """

        @contextmanager
        def given(at: int) -> Iterator[Iterator[bytes]]:
            if at < offset:
                raise IntegrityError(f"blob {descriptor.digest}: can't resume at {offset}, there are {at} bytes")
            yield _skip(iter(chunks), at - offset)

        for _ in self._incoming(descriptor, given):
            pass

    def fetch(self, descriptor: Descriptor, provider: BlobProvider, progress: Callable[[int], None] | None = None) -> None:
        """Bring the blob in from ``provider``; free if it is there. ``progress`` is told the bytes on disk so far."""
        done = 0
        for chunk in self.tee(descriptor, provider):
            done += len(chunk)
            if progress is not None:
                progress(done)

    def tee(self, descriptor: Descriptor, provider: BlobProvider | None) -> Iterator[bytes]:
        """The whole blob as chunks, from the store or, while it comes in, from ``provider``: unpack while downloading.

        What is yielded is verified only when the iterator ends; IntegrityError then. If it is dropped before its end the
        bytes so far stay for the next try.
        """
        if self.has(descriptor.digest):
            return self._stored(descriptor)
        if provider is None:
            raise NotFoundError(f"blob {descriptor.digest} is not in the content store")
        source = provider
        return self._incoming(descriptor, lambda offset: source.open(descriptor, offset))

    def delete(self, digest: Digest) -> None:
        """Forget the blob; free if it is not there."""
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            pass
        except OSError as e:
            raise store_error(f"can't delete blob {digest}", e) from e

    def walk(self) -> Iterator[tuple[Digest, int, int]]:
        """(digest, bytes, mtime in nanoseconds since the epoch) of every blob."""
        with os.scandir(self.layout.content) as algorithms:
            for algorithm in algorithms:
                with os.scandir(algorithm.path) as blobs:
                    for blob in blobs:
                        try:
                            digest = Digest.parse(f"{algorithm.name}:{blob.name}")
                            status = blob.stat()
                        except (ValueError, FileNotFoundError):
                            continue
                        yield digest, status.st_size, status.st_mtime_ns

    def sweep(self, now_ns: int) -> None:
        """Delete what crashed writers left in ROOT/ingest: unnamed files nobody holds, downloads nobody resumed for a week."""
        with os.scandir(self.layout.ingest) as entries:
            names = [(entry.path, entry.name) for entry in entries]
        for path, name in names:
            fd = locks.try_lock_left(path)
            if fd is None:
                continue
            try:
                if name.startswith(".new-") or os.fstat(fd).st_mtime_ns < now_ns - _SWEEP_NS:
                    os.unlink(path)
            finally:
                os.close(fd)

    def _partial(self, digest: Digest) -> str:
        digest = Digest.parse(digest)
        return os.path.join(self.layout.ingest, f"{digest.algorithm}-{digest.hex}")

    def _stored(self, descriptor: Descriptor) -> Iterator[bytes]:
        size = self.size(descriptor.digest)
        if size != descriptor.size:
            raise IntegrityError(f"blob {descriptor.digest}: its descriptor names {descriptor.size} bytes, there are {size}")
        yield from self.chunks(descriptor.digest)

    def _incoming(
        self, descriptor: Descriptor, source: Callable[[int], AbstractContextManager[Iterator[bytes]]]
    ) -> Iterator[bytes]:
        """Write, hash and yield the blob's bytes: first those that are there, then those from ``source(offset)``."""
        digest, size = descriptor.digest, descriptor.size
        path = self._partial(digest)
        with store_errors(f"can't store blob {digest}"):
            fd = locks.take(path)
        try:
            if self.has(digest):  # another process was faster while we waited for the lock
                if os.fstat(fd).st_size == 0:
                    os.unlink(path)
                yield from self._stored(descriptor)
                return
            running = Running(digest.algorithm)
            done = 0
            if os.fstat(fd).st_size > size:
                os.ftruncate(fd, 0)
            while data := os.read(fd, CHUNK):
                checkpoint()
                running.update(data)
                done += len(data)
                yield data
            if done < size or (size == 0 and done == 0):
                with source(done) as chunks:
                    for data in chunks:
                        checkpoint()
                        done += len(data)
                        if done > size:
                            os.unlink(path)
                            raise IntegrityError(f"blob {digest}: more than the {size} bytes that its descriptor names")
                        with store_errors(f"can't store blob {digest}"):
                            write_all(fd, data)
                        running.update(data)
                        yield data
            if done != size:
                raise IntegrityError(f"blob {digest}: broke off after {done} of {size} bytes")
            if running.digest() != digest:
                os.unlink(path)  # nobody can resume from wrong bytes
                raise IntegrityError(f"blob {digest}: the bytes have digest {running.digest()}")
            self._keep(fd, path, digest)
        finally:
            os.close(fd)

    def _keep(self, fd: int, name: str, digest: Digest) -> None:
        with store_errors(f"can't store blob {digest}"):
            target = self.path(digest)
            # A blob that a power cut shortened would sit under a valid name for ever.
            os.fdatasync(fd)
            try:
                os.rename(name, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
                os.rename(name, target)
            # Only now: whoever waits for this download opens it by the name it had, and must be allowed to.
            os.fchmod(fd, 0o444)
        self._own.add(digest)


class BlobWriter:
    """Bytes on their way to a blob. Big writes are hashed and written in the caller's thread."""

    def __init__(self, store: ContentStore, fd: int, name: str) -> None:
        """``fd`` is the locked file ``name``: a lock is what ``sweep`` looks at, and it is gone with the process."""
        self._store = store
        self._fd = fd
        self._name = name
        self._running = Running()
        self._buffer: list[bytes] = []
        self._pending = 0
        self._size = 0
        self._kept = False

    def write(self, data: bytes) -> int:
        """StoreError if the disk is full."""
        self._buffer.append(data)
        self._pending += len(data)
        if self._pending >= CHUNK:
            self._flush()
        return len(data)

    def commit(self) -> tuple[Digest, int]:
        """Make the blob visible: its digest and size in bytes. Free if a blob with the same bytes is there."""
        self._flush()
        digest = self._running.digest()
        if not self._store.has(digest) or self._store.size(digest) != self._size:
            self._store._keep(self._fd, self._name, digest)
            self._kept = True
        return digest, self._size

    def close(self) -> None:
        if not self._kept:
            try:
                os.unlink(self._name)
            except FileNotFoundError:
                pass
        os.close(self._fd)

    def _flush(self) -> None:
        if not self._buffer:
            return
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        self._pending = 0
        self._size += len(data)
        self._running.update(data)
        with store_errors("can't write to the content store"):
            write_all(self._fd, data)



def _skip(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if count >= len(chunk):
            count -= len(chunk)
        else:
            yield chunk[count:] if count else chunk
            count = 0
