"""The names of the cache's locks in ROOT/locks, and who holds them for how long (docs/concurrency.md has the order)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from builder.oci.digest import Digest
from builder.state.locks import named_lock

if TYPE_CHECKING:
    from builder.state.layout import Layout

SWEPT_PREFIXES = ("step-", "record-", "mounts-")
"""Lock files that nobody needs once nobody holds them: a sweep deletes them."""


def step_lock(layout: Layout, record_id: str) -> AbstractContextManager[bool]:
    """Exclusive between threads and processes, for one piece of work on the record: unpacking it, making a blob of it. It may be
    held over a download, so each record has a lock of its own."""
    return named_lock(layout.locks, f"record-{record_id}")


def mount_key_lock(layout: Layout, key: str) -> AbstractContextManager[bool]:
    """For the moment in which a record is taken or made for a cache mount's key."""
    return named_lock(layout.locks, f"mounts-{Digest.of(key.encode()).hex[:32]}")


def mount_lock_path(layout: Layout, record_id: str) -> str:
    """The file that users of a cache mount's record hold locked as long as they use it."""
    return layout.path("locks", f"mount-{record_id}")


class SharedLocks:
    """Exclusive locks of cache mounts that the threads of this process share, by record. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: dict[str, tuple[int, int]] = {}  # the locked file's descriptor, and how many use it

    def add(self, record_id: str, fd: int) -> None:
        """A lock without users; ``fd`` is closed when its last user has left."""
        with self._guard:
            self._held[record_id] = fd, 0

    def join(self, record_id: str) -> Callable[[], None] | None:
        """Use the lock as others do: gives what to call, once, to leave it. None if nobody holds it."""
        with self._guard:
            if record_id not in self._held:
                return None
            fd, users = self._held[record_id]
            self._held[record_id] = fd, users + 1
        return lambda: self._leave(record_id)

    def _leave(self, record_id: str) -> None:
        with self._guard:
            fd, users = self._held[record_id]
            if users > 1:
                self._held[record_id] = fd, users - 1
            else:
                del self._held[record_id]
                os.close(fd)
