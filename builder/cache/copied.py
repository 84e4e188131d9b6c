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
from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.cache.record import COMMITTED, LAYER, LAZY, MUTABLE, READY, CacheRecord
from builder.snapshots.canary import MODES, OWNERS
from builder.state import cancel
from builder.state.locks import share, try_lock
from builder.values import dataclass

if TYPE_CHECKING:
    import sqlite3

    from builder.cache.manager import CacheManager

_PATIENCE = 20
"""Tries before a user is told what is waited for; somewhat over a second."""
_STAMP_SECONDS = 300.0
_VITAL = {OWNERS, MODES, "files", "hard links"}
"""What even a cache mount can't do without."""


def enter(manager: CacheManager, *, repair: bool = True) -> int:
    """An fd that says that this process uses the snapshots. Gives those up that were lost; a warning tells. Waits for processes
    that use them meanwhile. ``repair`` False: they are left as they are, for fsck to tell."""
    path = manager.layout.path("locks", "snapshots")
    tries = 0

    def attempt() -> int | None:
        nonlocal tries
        tries += 1
        if tries == _PATIENCE:
            manager.warn(f"{_fault(manager, manager.snapshotter.lost())}: waiting for the builds that use it")
        fd = try_lock(path, shared=True)
        if fd is not None:
            if not repair or _is_sound(manager):
                return fd
            os.close(fd)
        fd = try_lock(path)
        if fd is not None:
            try:
                if not _is_sound(manager):
                    _give_up(manager)
                share(fd)
            except BaseException:
                os.close(fd)
                raise
        return fd

    return cancel.retry(attempt)


def problems(manager: CacheManager) -> list[str]:
    """A line for fsck if the snapshots are not what they were."""
    lost = manager.snapshotter.lost()
    return [_fault(manager, lost)] if lost or (lost is None and not _is_untouched(manager)) else []


def _is_sound(manager: CacheManager) -> bool:
    """Also where there is nothing yet."""
    lost = manager.snapshotter.lost()
    if lost is None and _is_untouched(manager):
        manager.snapshotter.trust()
        return True
    return lost == []


def _is_untouched(manager: CacheManager) -> bool:
    """A store without a canary: is it new, or are the snapshots of its own steps as old as they say?"""
    keys = set(manager.snapshotter.keys())
    if not keys:
        return True
    made_here = [
        record
        for record in manager.records.all().values()
        if record.snapshot in keys
        and record.kind == LAYER
        and record.state in (COMMITTED, READY)
        and not any(blob.source for blob in record.blobs)
    ]
    return bool(made_here) and all(_stamp(manager, r) <= r.created_at + _STAMP_SECONDS for r in made_here)


def _stamp(manager: CacheManager, record: CacheRecord) -> float:
    try:
        return os.lstat(manager.layout.path("snapshots", record.snapshot, "fs")).st_ctime
    except FileNotFoundError:
        return 0.0  # noticed when the record is used


@dataclass(slots=True)
class _Verdict:
    """Ids of records. ``dropped`` with all that stand on them; ``again``: snapshots to be made once more when needed."""

    dropped: set[str]
    again: set[str]
    kept: set[str]


def _give_up(manager: CacheManager) -> None:
    from builder.cache.gc import sweep_leftovers

    lost = manager.snapshotter.lost()
    with manager.lease.transaction() as c:
        manager.lease.begin(c)  # so that a kill is noticed
        verdict = _judge(manager, lost)
        _execute(manager, c, verdict)
    manager.removed(verdict.dropped)
    if verdict.dropped or verdict.again:
        manager.warn(
            f"{_fault(manager, lost)}: {_count(len(verdict.dropped), 'cached step')} dropped,"
            f" {_count(len(verdict.again), 'layer')} to be unpacked again. `cp -a` keeps everything, and so does"
            " `tar --xattrs --xattrs-include='*' --numeric-owner` in both directions"
        )
    manager.snapshotter.trust()
    sweep_leftovers(manager)


def _judge(manager: CacheManager, lost: list[str] | None) -> _Verdict:
    keys = set(manager.snapshotter.keys())
    every = manager.records.all().values()
    verdict = _Verdict(set(), set(), set())
    for record in every:
        if record.snapshot not in keys:
            continue
        if record.state == MUTABLE:
            keep = record.retained and not record.parents and lost is not None and _VITAL.isdisjoint(lost)
            (verdict.kept if keep else verdict.dropped).add(record.id)
        elif record.kind != LAYER:
            verdict.again.add(record.id)
        else:
            found = any(blob.source or manager.has_blob(blob.descriptor) for blob in record.blobs)
            (verdict.again if found else verdict.dropped).add(record.id)
    _drop_what_stands_on(verdict, every)
    return verdict


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


def _execute(manager: CacheManager, c: sqlite3.Connection, verdict: _Verdict) -> None:
    kept = {manager.records.get(record_id) for record_id in verdict.kept}
    for record_id in verdict.again:
        record = manager.records.get(record_id)
        assert record is not None
        manager.records.set_state(c, record.snapshot, LAZY)
    for record_id in verdict.dropped:
        manager.records.delete(c, record_id)
    manager.snapshotter.forget(c, set(manager.snapshotter.keys()) - {r.snapshot for r in kept if r is not None})


def _fault(manager: CacheManager, lost: list[str] | None) -> str:
    root = manager.layout.root
    if lost is None:
        return f"the state folder {root} was copied, or is an old one: it is not known whether its files are as they were made"
    return f"the state folder {root} was copied without its {_listed(lost)}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

