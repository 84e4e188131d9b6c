"""The one place that knows the state root's layout.

ROOT/metadata.db*         SQLite, WAL: records, leases, blobs, keys, images, history (docs/schema.md)
ROOT/metadata.db.suspect  it is damaged, or was, and the store is not looked over yet (see ``recovery``)
ROOT/metadata.db.damaged  the last one that was damaged; .making, .new: one that is being written anew
ROOT/content/sha256/HEX   blobs by digest, read-only once there
ROOT/ingest/              blobs on their way in (resumable); renamed into content/
ROOT/snapshots/ID/fs      a snapshot's own files (an overlay upperdir, or a full copy with the native snapshotter)
ROOT/snapshots/ID/id      a symbolic link to "ID": whose files these are
ROOT/snapshots/ID/work-*  overlay workdir while it is mutable
ROOT/snapshots/.new-*     one that is being made; .gone-*: being deleted
ROOT/snapshots/.overlay   for which kernel overlayfs was tried; .empty: a folder to lay overlays on
ROOT/snapshots/.canary-*  shows whether whoever copied the root kept all that snapshots need (see ``builder.snapshots.canary``)
ROOT/git/                 bare repositories, one a remote
ROOT/locks/               flock files: cache keys, leases, remotes
ROOT/images.json          names of stored images once more, should the database be damaged
ROOT/reserve              a megabyte for ``pybuild prune`` on a full disk (see ``reserve``)
ROOT/tmp/p-ID/            scratch of one process; swept when it is gone (see ``scratch``)
"""

from __future__ import annotations

import os

from builder.errors import StoreError
from builder.values import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below a state root. ``create`` makes the folders. ``scratch``: the process's own folder, once it has one."""

    root: str
    scratch: str = ""

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    @property
    def database(self) -> str:
        return self.path("metadata.db")

    @property
    def content(self) -> str:
        return self.path("content")

    @property
    def ingest(self) -> str:
        return self.path("ingest")

    @property
    def snapshots(self) -> str:
        return self.path("snapshots")

    @property
    def git(self) -> str:
        return self.path("git")

    @property
    def locks(self) -> str:
        return self.path("locks")

    @property
    def tmp(self) -> str:
        """Where this process keeps what lives no longer than itself."""
        return self.scratch or self.path("tmp")

    def create(self) -> None:
        """Make the root and its folders, private to the user; StoreError when that can't be done."""
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            blobs = self.path("content", "sha256")
            for folder in (blobs, self.ingest, self.snapshots, self.git, self.locks, self.path("tmp")):
                if not os.path.isdir(folder):
                    os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as e:
            raise StoreError(
                f"can't use the state folder {self.root}: {e.strerror}",
                hint="name another one with --root or PYBUILD_ROOT",
            ) from e
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise StoreError(
                f"can't use the state folder {self.root}: Permission denied", hint="name another one with --root or PYBUILD_ROOT"
            )


def default_root() -> str:
    """PYBUILD_ROOT, else /var/lib/pybuild for root, else $XDG_DATA_HOME/pybuild."""
    if root := os.environ.get("PYBUILD_ROOT"):
        return os.path.abspath(root)
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "pybuild")
