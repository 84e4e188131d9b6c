"""A state folder that was copied with a loss: what snapshots show is not what was put into them, so they are given up.

Looked at each time a store is opened, before anything of it is used (``builder.snapshots.canary``). Layers that have a blob, here
or in a registry, are unpacked again when somebody needs them; other records go, with all that stand on them: misses. Blobs are
checked by their digests and stay, and so do cache mounts without a base, where owners and permissions came over: they are worth
most.

A store from before there were canaries is trusted if the snapshots that its own steps made are untouched: the kernel stamps each
change of a file's inode, copies and ``chown -R`` among them, and no tool can set that stamp. A step's snapshot is older than the
record of its commit then. Where one is younger, or there is none, nobody knows, and the snapshots are given up.

Snapshots of another driver are given up too: overlays and whole trees say nothing to one another. A store is one driver's while
anybody uses it, and goes over to another's where the machine has changed (a folder kept by CI, shared with a container), not
where somebody asks for one by name: that would cost him his cache.

Every process holds ROOT/locks/snapshots, shared, while it uses snapshots; who gives them up is alone. Rows go in one transaction,
then the canary is made anew, then folders are deleted: a process that is killed in between leaves a store that is found lossy once
more, or folders without rows, which the next one sweeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from builder.cache.record import COMMITTED, LAYER, LAZY, MUTABLE, READY, CacheRecord
from builder.errors import StoreError
from builder.snapshots.canary import FILES, LINKS, MODES, OWNERS
from builder.state import cancel
from builder.state.locks import share, try_lock
from builder.text.times import NS
from builder.values import dataclass

if TYPE_CHECKING:
    import sqlite3

    from builder.cache.changes import RecordChanges
    from builder.cache.deleting import Deleter
    from builder.cache.store import CacheStore

_PATIENCE = 20
"""After so many tries, somewhat more than a second, the user is told what the command waits for."""
_STAMP_NS = 300 * NS
_ADVICE = ". `cp -a` keeps everything, and so does `tar --xattrs --xattrs-include='*' --numeric-owner` in both directions"
_VITAL = {FILES, OWNERS, MODES, LINKS}
"""If one of these was lost, cache mounts are given up, too."""


class CopiedStore:
    """Finds out whether the folder is a lossy copy. ``deleter`` is asked for when it is."""

    def __init__(self, store: CacheStore, *, changes: RecordChanges, deleter: Callable[[], Deleter]) -> None:
        self._store = store
        self._changes = changes
        self._deleter = deleter

    def enter(self, *, repair: bool = True, asked_for: bool = False) -> int:
        """Say that this process uses the snapshots; gives the descriptor of the lock that says so.

        Snapshots that were lost are given up, with a warning, once no other process uses any. With ``repair`` False they are left
        as they are, and fsck tells of them. ``asked_for``: the user named what needs this snapshotter: StoreError then, if the
        folder has snapshots of another one.
        """
        path = self._store.layout.path("locks", "snapshots")
        tries = 0

        def attempt() -> int | None:
            nonlocal tries
            tries += 1
            if tries == _PATIENCE:
                self._store.warn(f"{self._fault()}: waiting for the builds that use it")
            fd = try_lock(path, shared=True)
            if fd is not None:
                if not repair or self._is_sound():
                    return fd
                os.close(fd)
            if asked_for:
                self._refuse_others()
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
        return [] if self._own_are_sound() else [self._fault()]

    def _refuse_others(self) -> None:
        snapshotter = self._store.snapshotter
        if (other := snapshotter.other()) and any(snapshotter.keys(of_another=True)):
            raise StoreError(
                f"the {snapshotter.name} snapshotter was asked for, and the state folder {self._store.layout.root} has snapshots"
                f" of the {other} one",
                hint="name another folder with --root or PYBUILD_ROOT",
            )

    def _is_sound(self) -> bool:
        """Also where there is nothing yet."""
        if self._store.snapshotter.other() or not self._own_are_sound():
            return False
        if self._store.snapshotter.lost() is None:
            self._store.snapshotter.trust()
        return True

    def _own_are_sound(self) -> bool:
        """Changes nothing: ``trust`` takes the canaries of others away, by which a kill while theirs are given up is noticed."""
        lost = self._store.snapshotter.lost()
        return lost == [] or (lost is None and self._is_untouched())

    def _is_untouched(self) -> bool:
        """Can a store without a canary be trusted? It can if it is new, or if no snapshot of its own steps was touched since."""
        keys = set(self._store.snapshotter.keys())
        if not keys:
            return True
        made_here = [
            record
            for record in self._store.records.all().values()
            if record.snapshot in keys
            and record.kind == LAYER
            and record.state in (COMMITTED, READY)
            and not any(blob.source for blob in record.blobs)
        ]
        return bool(made_here) and all(self._stamp_ns(r) <= r.created_at_ns + _STAMP_NS for r in made_here)

    def _stamp_ns(self, record: CacheRecord) -> int:
        try:
            return os.lstat(self._store.layout.path("snapshots", record.snapshot, "fs")).st_ctime_ns
        except FileNotFoundError:
            return 0  # noticed when the record is used

    def _give_up(self) -> None:
        fault, advice = self._fault(), "" if self._own_are_sound() else _ADVICE
        with self._store.lease.transaction() as c:
            self._store.lease.begin(c)  # so that a kill is noticed
            keys = set(self._store.snapshotter.keys(of_another=True))
            if advice:
                keys.update(self._store.snapshotter.keys())
            verdict = self._judge(keys)
            self._execute(c, keys, verdict)
        self._changes.removed(verdict.dropped)
        if verdict.dropped or verdict.again:
            self._store.warn(
                f"{fault}: {_count(len(verdict.dropped), 'cached step')} dropped,"
                f" {_count(len(verdict.again), 'layer')} to be unpacked again{advice}"
            )
        self._store.snapshotter.trust()
        self._deleter().sweep_leftovers()

    def _judge(self, keys: set[str]) -> _Verdict:
        lost = self._store.snapshotter.lost()
        own = set(self._store.snapshotter.keys())
        every = self._store.records.all().values()
        verdict = _Verdict(set(), set(), set())
        for record in every:
            cancel.checkpoint()
            if record.snapshot not in keys:
                continue
            if record.state == MUTABLE:
                vital = lost is None or not _VITAL.isdisjoint(lost)
                keep = record.retained and not record.parents and record.snapshot in own and not vital
                (verdict.kept if keep else verdict.dropped).add(record.id)
            elif record.kind != LAYER:
                verdict.again.add(record.id)
            else:
                found = any(blob.source or self._store.providers.has_blob(blob.descriptor) for blob in record.blobs)
                (verdict.again if found else verdict.dropped).add(record.id)
        _drop_what_stands_on(verdict, every)
        return verdict

    def _execute(self, c: sqlite3.Connection, keys: set[str], verdict: _Verdict) -> None:
        kept = {self._store.records.get(record_id) for record_id in verdict.kept}
        for record_id in verdict.again:
            record = self._store.records.get(record_id)
            assert record is not None
            self._store.records.set_state(c, record.snapshot, LAZY)
        for record_id in verdict.dropped:
            self._store.records.delete(c, record_id)
        self._store.snapshotter.forget(c, keys - {r.snapshot for r in kept if r is not None})

    def _fault(self) -> str:
        root, lost = self._store.layout.root, self._store.snapshotter.lost()
        if other := self._store.snapshotter.other():
            return f"the state folder {root} was used with the {other} snapshotter, and now with {self._store.snapshotter.name}"
        if lost is None:
            return f"the state folder {root} was copied, or is an old one: it is not known whether its files are as they were made"
        return f"the state folder {root} was copied without its {_listed(lost)}"


@dataclass(slots=True)
class _Verdict:
    """Ids of records. ``dropped`` are deleted with all that stands on them, ``again`` get new snapshots when they are needed."""

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
