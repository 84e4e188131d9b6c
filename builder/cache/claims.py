"""Claims: how many refs of a record this process has. A record with one is held by the process' lease, and not collected."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from builder.cache.record import GoneError

if TYPE_CHECKING:
    from builder.cache.store import CacheStore


class Claims:
    """Thread-safe: counts change under the lock of ``known``, and within it the lease is asked. The database is written outside of
    it, since another process may be writing."""

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        self._uses: dict[str, tuple[int, int]] = {}

    def claim(self, record_id: str, *, used: bool = False) -> None:
        """One more ref. GoneError (a KeyError) if the record is gone. ``used``: this is a use that keeps it from being pruned."""
        with self._store.known.lock:
            entry = self._store.known.entry(record_id)
            if entry is not None:
                entry.refs += 1
                entry.used |= used
                if self._store.lease.holds(record_id):
                    return
        if entry is None:
            raise GoneError(record_id)
        try:
            with self._store.lease.transaction() as c:
                if self._store.records.get(record_id) is None:
                    raise GoneError(record_id)
                self._store.lease.hold(c, record_id)
        except BaseException:
            with self._store.known.lock:
                entry.refs -= 1
                self._store.known.forget([record_id])
            raise

    def unclaim(self, record_id: str) -> None:
        """One ref less."""
        with self._store.known.lock:
            entry = self._store.known.known_entry(record_id)
            if entry is None:
                return
            entry.refs -= 1
            if entry.refs == 0:
                if entry.used:
                    self._uses[record_id] = (time.time_ns(), self._uses.get(record_id, (0, 0))[1] + 1)
                    entry.used = False
                self._store.lease.let_go(record_id)
                if entry.gone:
                    self._store.known.drop(record_id)

    def flush_uses(self) -> None:
        """Write when records were used, and how often: for whoever collects by that."""
        with self._store.known.lock:
            uses, self._uses = self._uses, {}
        if uses:
            with self._store.lease.transaction() as c:
                self._store.records.count_uses(c, uses)
