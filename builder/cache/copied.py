"""A state folder that was copied with a loss: what snapshots show is not what was put into them, so they are given up.

Looked at each time a store is opened, before anything of it is used (``builder.snapshots.canary``). Layers that have a blob, here
or in a registry, are unpacked again when somebody needs them; other records go, with all that stand on them: misses. Blobs are
checked by their digests and stay, and so do cache mounts without a base, where owners and permissions came over: they are worth
most.

A store from before there were canaries is trusted if the snapshots that its own steps made are untouched: the kernel stamps each
change of a file's inode, copies and ``chown -R`` among them, and no tool can set that stamp. A step's snapshot is older than the
record of its commit then. Where one is younger, or there is none, nobody knows, and the snapshots are given up.

Every process holds ROOT/locks/snapshots, shared, while it uses snapshots; who gives them up is alone. Rows go in one transaction,
then the canary is made anew, then folders are deleted: a process that is killed in between leaves a store that is found lossy once
more, or folders without rows, which the next one sweeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from builder.cache.record import COMMITTED, LAYER, LAZY, MUTABLE, READY, CacheRecord
from builder.snapshots.canary import FILES, LINKS, MODES, OWNERS
from builder.state import cancel
from builder.state.locks import share, try_lock
from builder.values import dataclass

if TYPE_CHECKING:
    import sqlite3

    from builder.cache.changes import RecordChanges
    from builder.cache.deleting import Deleter
    from builder.cache.leases import Lease
    from builder.cache.providers import Providers
    from builder.cache.records import Records
    from builder.snapshots.types import Snapshotter
    from builder.state.layout import Layout

_PATIENCE = 20
"""Tries before a user is told what is waited for; somewhat over a second."""
_STAMP_SECONDS = 300.0
_VITAL = {FILES, OWNERS, MODES, LINKS}
"""What even a cache mount can't do without."""


class CopiedStore:
    """Finds out whether the folder is a lossy copy. ``deleter`` is asked for when it is."""

    def __init__(
        self,
        *,
        changes: RecordChanges,
        records: Records,
        lease: Lease,
        providers: Providers,
        deleter: Callable[[], Deleter],
        snapshotter: Snapshotter,
        layout: Layout,
        warn: Callable[[str], None],
    ) -> None:
        self._changes = changes
        self._records = records
        self._lease = lease
        self._providers = providers
        self._deleter = deleter
        self._snapshotter = snapshotter
        self._layout = layout
        self._warn = warn

    def enter(self, *, repair: bool = True) -> int:
        """An fd that says that this process uses the snapshots. Gives those up that were lost; a warning tells. Waits for processes
        that use them meanwhile. ``repair`` False: they are left as they are, for fsck to tell."""
        path = self._layout.path("locks", "snapshots")
        tries = 0

        def attempt() -> int | None:
            nonlocal tries
            tries += 1
            if tries == _PATIENCE:
                self._warn(f"{self._fault(self._snapshotter.lost())}: waiting for the builds that use it")
            fd = try_lock(path, shared=True)
            if fd is not None:
                if not repair or self._is_sound():
                    return fd
                os.close(fd)
            fd = try_lock(path)
            if fd is not None:
                try:
                    if not self._is_sound():
                        self._give_up()
                    share(fd)
                except BaseException:
                    os.close(fd)
                    raise
            return fd

        return cancel.retry(attempt)

    def problems(self) -> list[str]:
        """A line for fsck if the snapshots are not what they were."""
        lost = self._snapshotter.lost()
        return [self._fault(lost)] if lost or (lost is None and not self._is_untouched()) else []

    def _is_sound(self) -> bool:
        """Also where there is nothing yet."""
        lost = self._snapshotter.lost()
        if lost is None and self._is_untouched():
            self._snapshotter.trust()
            return True
        return lost == []

    def _is_untouched(self) -> bool:
        """A store without a canary: is it new, or are the snapshots of its own steps as old as they say?"""
        keys = set(self._snapshotter.keys())
        if not keys:
            return True
        made_here = [
            record
            for record in self._records.all().values()
            if record.snapshot in keys
            and record.kind == LAYER
            and record.state in (COMMITTED, READY)
            and not any(blob.source for blob in record.blobs)
        ]
        return bool(made_here) and all(self._stamp(r) <= r.created_at + _STAMP_SECONDS for r in made_here)

    def _stamp(self, record: CacheRecord) -> float:
        try:
            return os.lstat(self._layout.path("snapshots", record.snapshot, "fs")).st_ctime
        except FileNotFoundError:
            return 0.0  # noticed when the record is used

    def _give_up(self) -> None:
        lost = self._snapshotter.lost()
        with self._lease.transaction() as c:
            self._lease.begin(c)  # so that a kill is noticed
            verdict = self._judge(lost)
            self._execute(c, verdict)
        self._changes.removed(verdict.dropped)
        if verdict.dropped or verdict.again:
            self._warn(
                f"{self._fault(lost)}: {_count(len(verdict.dropped), 'cached step')} dropped,"
                f" {_count(len(verdict.again), 'layer')} to be unpacked again. `cp -a` keeps everything, and so does"
                " `tar --xattrs --xattrs-include='*' --numeric-owner` in both directions"
            )
        self._snapshotter.trust()
        self._deleter().sweep_leftovers()

    def _judge(self, lost: list[str] | None) -> _Verdict:
        keys = set(self._snapshotter.keys())
        every = self._records.all().values()
        verdict = _Verdict(set(), set(), set())
        for record in every:
            cancel.checkpoint()
            if record.snapshot not in keys:
                continue
            if record.state == MUTABLE:
                keep = record.retained and not record.parents and lost is not None and _VITAL.isdisjoint(lost)
                (verdict.kept if keep else verdict.dropped).add(record.id)
            elif record.kind != LAYER:
                verdict.again.add(record.id)
            else:
                found = any(blob.source or self._providers.has_blob(blob.descriptor) for blob in record.blobs)
                (verdict.again if found else verdict.dropped).add(record.id)
        _drop_what_stands_on(verdict, every)
        return verdict

    def _execute(self, c: sqlite3.Connection, verdict: _Verdict) -> None:
        kept = {self._records.get(record_id) for record_id in verdict.kept}
        for record_id in verdict.again:
            record = self._records.get(record_id)
            assert record is not None
            self._records.set_state(c, record.snapshot, LAZY)
        for record_id in verdict.dropped:
            self._records.delete(c, record_id)
        self._snapshotter.forget(c, set(self._snapshotter.keys()) - {r.snapshot for r in kept if r is not None})

    def _fault(self, lost: list[str] | None) -> str:
        root = self._layout.root
        if lost is None:
            return f"the state folder {root} was copied, or is an old one: it is not known whether its files are as they were made"
        return f"the state folder {root} was copied without its {_listed(lost)}"


@dataclass(slots=True)
class _Verdict:
    """Ids of records. ``dropped`` with all that stand on them; ``again``: snapshots to be made once more when needed."""

    dropped: set[str]
    again: set[str]
    kept: set[str]


def _drop_what_stands_on(verdict: _Verdict, every: Iterable[CacheRecord]) -> None:
    children: dict[str, list[str]] = {}
    for record in every:
        for parent in record.parents:
            children.setdefault(parent, []).append(record.id)
    todo = list(verdict.dropped)
    while todo:
        todo += [child for child in children.get(todo.pop(), ()) if child not in verdict.dropped]
        verdict.dropped.update(todo)
    verdict.again -= verdict.dropped
    verdict.kept -= verdict.dropped


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
