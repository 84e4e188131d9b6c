"""For code that must not wait for ever: a test of it fails instead of hanging."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deadline(seconds: float = 20.0) -> Iterator[None]:
    """AssertionError in the block after so long, also in the middle of a system call. For the main thread."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
