"""Calling work off: one token for a piece of work, and the places where work looks at it.

    token = Token()
    with scope(token):          # this thread's work, and that of threads made by builder.state.threads, belongs to the token
        checkpoint()            # CancelledError once token.set() was called, from any thread or a signal handler's
        readable(sock, 60.0)    # waits for a descriptor, and for the token beside it
        sleep(1.0)

A token is ambient, as a cancel scope is in trio: handing it down as an argument would put it into a hundred signatures, and one
forgotten would be a download that nobody can end. The alternative, closing what the work reads from, has to know every socket and
pipe, and says nothing to loops that only compute. Where work loops over what a user made (entries, chunks, files), it calls
``checkpoint``; where it waits, it waits with one of the functions here, and for nothing else without a bound of its own.

The token can be polled: its descriptor is an eventfd that becomes readable for good. It is made when it is first asked for, so
that work which never waits never pays for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from builder.errors import CancelledError

T = TypeVar("T")
_TEXT = "the build was cancelled"
LOOK_UP_SECONDS = 0.2
"""How long a main thread may wait for other threads at one go. Of two signals at once the kernel gives one to any thread: there it
wakes nobody, and who sleeps for good would never run the handlers."""


class HasFileno(Protocol):
    """A socket, a pipe, a file."""

    def fileno(self) -> int: ...


class Token:
    """Set once, for good; thread-safe. ``parent``: this one is set with it, but not the other way round.

    ``is_set``, ``set`` and ``wait`` are those of threading.Event.
    """

    __slots__ = ("__weakref__", "_children", "_fd", "_lock", "_set", "_wakers")

    def __init__(self, parent: Token | None = None) -> None:
        import weakref

        self._set = False
        self._fd = -1
        self._wakers: list[Callable[[], object]] = []
        self._lock = threading.RLock()  # a signal handler may call ``set`` in the thread that is just inside
        self._children: weakref.WeakSet[Token] = weakref.WeakSet()
        if parent is not None:
            with parent._lock:
                parent._children.add(self)
                self._set = parent._set

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Call the work off. May be called by a signal handler."""
        with self._lock:
            if self._set:
                return
            self._set = True
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)
            children, wakers = list(self._children), list(self._wakers)
        for wake in wakers:
            wake()
        for child in children:
            child.set()

    def fileno(self) -> int:
        """The descriptor that is readable once the token is set. It is the token's own: nobody else reads or closes it."""
        with self._lock:
            if self._fd < 0:
                self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                if self._set:  # also by a handler that ran since the line above
                    os.eventfd_write(self._fd, 1)
            return self._fd

    def wait(self, timeout: float | None = None) -> bool:
        """Is it set, within ``timeout`` seconds?"""
        return self._set or bool(_poll([(self.fileno(), True)], timeout)) or self._set

    @contextmanager
    def calling(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call ``wake`` when the token is set while the block runs: for a loop that waits for something else than descriptors. It
        is called by whoever sets the token, a signal handler among them."""
        with self._lock:
            self._wakers.append(wake)
            late = self._set
        try:
            if late:
                wake()
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)

    def check(self) -> None:
        """CancelledError if it is set."""
        if self._set:
            raise CancelledError(_TEXT)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


_NEVER = Token()
_current: ContextVar[Token] = ContextVar("cancellation", default=_NEVER)


def current() -> Token:
    """The token that this thread's work belongs to; one that is never set outside of every scope."""
    return _current.get()


@contextmanager
def scope(token: Token) -> Iterator[Token]:
    """The block's work belongs to ``token``."""
    before = _current.set(token)
    try:
        yield token
    finally:
        _current.reset(before)


def checkpoint() -> None:
    """CancelledError if this work was called off: to be called in every loop over what a user made. Costs 0.1 us."""
    if _current.get()._set:
        raise CancelledError(_TEXT)


def sleep(seconds: float) -> None:
    """CancelledError as soon as the work is called off."""
    token = _current.get()
    if token.wait(seconds):
        raise CancelledError(_TEXT)


def readable(source: HasFileno | int, timeout: float | None = None) -> bool:
    """Wait until ``source`` can be read (or has ended); False after ``timeout`` seconds. CancelledError."""
    return _ready(source, timeout, write=False)


def readable_of(sources: Iterable[int]) -> list[int]:
    """Wait until one of several descriptors can be read; those that can. CancelledError."""
    token = _current.get()
    ready = _poll([*((fd, True) for fd in sources), *([] if token is _NEVER else [(token.fileno(), True)])], None)
    if token._set:
        raise CancelledError(_TEXT)
    return ready


def poll_now(fd: int) -> bool:
    """Can the descriptor be read at once, or has it ended?"""
    return bool(_poll([(fd, True)], 0))


def writable(target: HasFileno | int, timeout: float | None = None) -> bool:
    """Wait until ``target`` takes bytes; False after ``timeout`` seconds. CancelledError."""
    return _ready(target, timeout, write=True)


def retry(attempt: Callable[[], T | None], *, first: float = 0.002, longest: float = 0.1) -> T:
    """Call ``attempt`` until it gives something, with longer and longer waits in between (seconds): for what can't be polled, as
    flock(2) can't. CancelledError."""
    checkpoint()
    got = attempt()
    wait = first
    while got is None:
        sleep(wait)
        wait = min(wait * 2, longest)
        got = attempt()
    return got


def _ready(file: HasFileno | int, timeout: float | None, *, write: bool) -> bool:
    token = _current.get()
    fd = file if isinstance(file, int) else file.fileno()
    if token is _NEVER:
        return bool(_poll([(fd, not write)], timeout))
    ready = _poll([(fd, not write), (token.fileno(), True)], timeout)
    if token._set:
        raise CancelledError(_TEXT)
    return fd in ready


def _poll(files: list[tuple[int, bool]], timeout: float | None) -> list[int]:
    """Of (descriptor, for reading?) those that are ready; none after ``timeout`` seconds."""
    import select

    poll = select.poll()
    for fd, reading in files:
        poll.register(fd, select.POLLIN if reading else select.POLLOUT)
    return [fd for fd, _ in poll.poll(None if timeout is None else max(0.0, timeout) * 1000)]
