"""Threads for layers: several jobs at once, and a producer that runs ahead of its consumer.

Inflating, hashing and writing big buffers release the interpreter's lock, so that threads do gain there.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

THREADS = 4
_AHEAD = 8


def run(jobs: Sequence[Callable[[], None]], threads: int = THREADS) -> None:
    """Do all jobs, ``threads`` at a time. After a failure no further one begins; the first error is raised when all stand still."""
    if len(jobs) <= 1:
        for job in jobs:
            job()
        return
    waiting = iter(jobs)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
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

    workers = [threading.Thread(target=work, name="cache-worker", daemon=True) for _ in range(min(threads, len(jobs)) - 1)]
    for worker in workers:
        worker.start()
    work()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


@contextmanager
def ahead(source: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """``source`` read by a thread of its own, a few chunks ahead. Its error is raised where its next chunk would come.

    When the block ends early the source is closed, and the thread is gone.
    """
    chunks: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
    stop = threading.Event()
    errors: list[BaseException] = []

    def produce() -> None:
        try:
            for chunk in source:
                chunks.put(chunk)
                if stop.is_set():
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
    producer = threading.Thread(target=produce, name="layer-reader", daemon=True)
    producer.start()
    try:
        yield consume()
    finally:
        stop.set()
        while not ended.is_set() and chunks.get() is not None:
            pass
        producer.join()
