"""Threads below the solver: several jobs at once, a producer that runs ahead of its consumer, a writer in the background.

Inflating, hashing, compressing and writing big buffers release the interpreter's lock, so that threads do gain there. Every thread
works under the cancellation token of who started it, or under one below that: when its result is not wanted any more it is called
off, and it is waited for. Nothing goes on in the background once the function that started it has returned.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.state.cancel import LOOK_UP_SECONDS, Token, checkpoint, current, scope

if TYPE_CHECKING:
    import queue

THREADS = 4
_AHEAD = 8
_BIG = 1 << 19
_WAITING = 4


def start(work: Callable[[], object], name: str) -> threading.Thread:
    """A daemon thread under the caller's token."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name=name, daemon=True)
    thread.start()
    return thread


def run(jobs: Sequence[Callable[[], None]], threads: int = THREADS) -> None:
    """Do all jobs, the first ones first, ``threads`` at a time. A failure calls the others off; the first error is raised when all
    stand still."""
    if len(jobs) <= 1:
        for job in jobs:
            job()
        return
    waiting = iter(jobs)
    lock = threading.Lock()
    errors: list[BaseException] = []
    token = Token(current())

    def work() -> None:
        with scope(token):
            while True:
                with lock:
                    job = None if errors else next(waiting, None)
                if job is None:
                    return
                try:
                    job()
                except BaseException as e:
                    with lock:
                        errors.append(e)
                    token.set()

    workers = [start(work, "layer-job") for _ in range(min(threads, len(jobs)) - 1)]
    work()
    for worker in workers:
        while worker.is_alive():
            worker.join(LOOK_UP_SECONDS)
    if errors:
        raise errors[0]


@contextmanager
def ahead(source: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """``source`` read by a thread of its own, a few chunks ahead. Its error is raised where its next chunk would come.

    When the block ends early the source is called off and closed, and the thread is gone.
    """
    import queue

    chunks: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
    errors: list[BaseException] = []
    token = Token(current())

    def produce() -> None:
        with scope(token):
            try:
                for chunk in source:
                    chunks.put(chunk)
                    if token.is_set():
                        break
            except BaseException as e:
                errors.append(e)
            finally:
                close = getattr(source, "close", None)
                if close is not None:
                    close()
                chunks.put(None)

    def consume() -> Iterator[bytes]:
        while (chunk := chunks.get()) is not None:
            yield chunk
        ended.set()
        if errors:
            raise errors[0]

    ended = threading.Event()
    producer = start(produce, "layer-reader")
    try:
        yield consume()
    finally:
        token.set()
        while not ended.is_set() and chunks.get() is not None:
            pass
        producer.join()


@contextmanager
def background(write: Callable[[bytes], object]) -> Iterator[Callable[[bytes], None]]:
    """A ``write`` that returns at once. From the first big buffer on the real one runs in a thread, in order; small streams
    never start one. When the block ends all is written, and the thread is gone, also after an error.

    An error of ``write`` is raised by a later call, or by the end of the block.
    """
    sender = _Sender(write)
    try:
        yield sender.send
    except BaseException:
        sender.stop(broken=True)
        raise
    sender.stop(broken=False)
    if sender.error is not None:
        raise sender.error


class _Sender:
    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._queue: queue.Queue[bytes | None] | None = None
        self._thread: threading.Thread | None = None
        self._broken = False
        self.error: BaseException | None = None

    def send(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        checkpoint()
        if self._queue is None:
            if len(data) < _BIG:
                self._write(data)
                return
            import queue

            waiting = self._queue = queue.Queue(_WAITING)
            self._thread = start(lambda: self._run(waiting), "background-write")
        self._queue.put(data)

    def _run(self, waiting: queue.Queue[bytes | None]) -> None:
        # After an error it goes on taking, or the sender would wait for room for ever.
        while (data := waiting.get()) is not None:
            if self.error is None and not self._broken:
                try:
                    checkpoint()  # what waits may be seconds of compressing
                    self._write(data)
                except BaseException as e:
                    self.error = e

    def stop(self, *, broken: bool) -> None:
        self._broken = broken
        if self._queue is not None and self._thread is not None:
            self._queue.put(None)
            self._thread.join()
