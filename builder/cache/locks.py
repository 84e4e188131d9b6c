"""The names of the cache's locks in ROOT/locks, and who holds them for how long (docs/concurrency.md has the order)."""

from __future__ import annotations

from contextlib import AbstractContextManager

from builder.oci.digest import Digest
from builder.state.layout import Layout
from builder.state.locks import named_lock

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
