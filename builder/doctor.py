"""What works on this machine, what does not, what that costs and how it is mended: ``pybuild doctor``."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from runtime.doctor import Finding as Finding
from runtime.doctor import account, findings, try_runtimes

if TYPE_CHECKING:
    from builder.worker import Worker

_PROGRAMS = (
    ("git", "git contexts and ADD of repositories are refused", "sudo apt install git"),
    ("ssh-agent", "--ssh with key files is refused", "sudo apt install openssh-client"),
)


def diagnose(worker: Worker, uid: int) -> list[Finding]:
    """One finding for each capability. ``uid``: who started us."""
    from runtime import facts

    assert worker.entered is not None
    runtimes = try_runtimes(worker.runtime, worker.entered, owners=worker.keeps_owners)
    found = findings(worker.entered, facts.probe(), account(uid), runtimes)
    return [*found, _snapshots(worker), _folder(worker), *_programs()]


def _snapshots(worker: Worker) -> Finding:
    from builder.errors import PybuildError
    from builder.snapshots.select import open_snapshotter

    if worker.snapshotter.name.startswith("overlay"):
        return Finding("snapshots", "ok", "overlay")
    try:
        open_snapshotter(worker.layout, worker.database, "overlay", private=worker.may_mount)
        why, mend = "native, as configured", ""
    except PybuildError as e:
        why, mend = f"native: {e}", e.hint
    return Finding("snapshots", "limited", why, "every RUN and COPY begins with a copy of all files below it", mend)


def _folder(worker: Worker) -> Finding:
    root = worker.layout.root
    status = os.statvfs(root)
    free = status.f_bavail * status.f_frsize
    text = f"{root}, {free / 1e9:.1f} GB free"
    if free < 1 << 30:
        mend = "pybuild prune, or another folder with --root"
        return Finding("state folder", "limited", text, "a build may run out of space", mend)
    return Finding("state folder", "ok", text)


def _programs() -> list[Finding]:
    found = []
    for name, cost, mend in _PROGRAMS:
        path = shutil.which(name)
        found.append(Finding(name, "ok", path) if path else Finding(name, "missing", "not found", cost, mend))
    return found
