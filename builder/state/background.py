"""Handing big buffers to a thread: hashing, compressing and writing them releases the interpreter for who makes the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import queue
    import threading

_BIG = 1 << 19
_WAITING = 4


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
        if self._queue is None:
            if len(data) < _BIG:
                self._write(data)
                return
            import queue
            import threading

            self._queue = queue.Queue(_WAITING)
            self._thread = threading.Thread(target=self._run, args=(self._queue,), name="background-write", daemon=True)
            self._thread.start()
        self._queue.put(data)

    def _run(self, waiting: queue.Queue[bytes | None]) -> None:
        # After an error it goes on taking, or the sender would wait for room for ever.
        while (data := waiting.get()) is not None:
            if self.error is None and not self._broken:
                try:
                    self._write(data)
                except BaseException as e:
                    self.error = e

    def stop(self, *, broken: bool) -> None:
        self._broken = broken
        if self._queue is not None and self._thread is not None:
            self._queue.put(None)
            self._thread.join()
