"""Which snapshotter a root is used with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import StoreError, UsageError
from builder.files.owners import REAL, choose
from builder.state.atomic import replacing
from runtime.linux.userns import in_user_namespace

if TYPE_CHECKING:
    from builder.snapshots.types import Snapshotter
    from builder.state.database import Database
    from builder.state.layout import Layout
    from runtime.linux.namespaces import Entered


def open_snapshotter(
    layout: Layout, database: Database, forced: str | None = None, *, private: bool = True
) -> Snapshotter:
    """The snapshotter named by ``forced`` ("overlay", "native"), else overlay where the root's file system can hold one.

    The process must be in its own mount namespace already if it is to mount; ``private`` False: it could get none, and mounts
    nothing, whatever it had the right to. What was found out is remembered beside the root
    and tried again when the kernel or the file system differs. StoreError where ``overlay`` is forced but can't be had.
    """
    from runtime.linux.userns import has_capability

    may_mount = private and has_capability(_CAP_SYS_ADMIN)
    if forced not in (None, "", "auto", "overlay", "overlayfs", "native"):
        raise UsageError(f"unknown snapshotter {forced!r}", hint="use overlay or native")
    if forced != "native":
        userxattr = in_user_namespace()
        reason = _cached_probe(layout, userxattr) if may_mount else "mounting needs root (CAP_SYS_ADMIN) or a user namespace"
        if reason is None:
            from builder.snapshots.overlay import OverlaySnapshotter

            return OverlaySnapshotter(layout, database, userxattr=userxattr)
        if forced in ("overlay", "overlayfs"):
            raise StoreError(
                f"can't use overlayfs in {layout.root}: {reason}",
                hint="put the root (--root, PYBUILD_ROOT) on a file system like ext4, xfs, btrfs or tmpfs",
            )
    from builder.snapshots.native import NativeSnapshotter

    return NativeSnapshotter(layout, database, bind=may_mount)


_CAP_SYS_ADMIN, _CAP_CHOWN = 21, 0


def choose_owners(entered: Entered) -> None:
    """How the owners of files are kept where the process has got to: at the files, if it may give them to others. Before a
    snapshotter is opened."""
    from runtime.linux.userns import has_capability

    if entered.kind == "user" and entered.maps is not None and entered.maps.single:
        _keep(rightless=False)
    elif entered.kind == "none" and not (os.geteuid() == 0 and has_capability(_CAP_CHOWN)):
        _keep(rightless=True)
    else:
        choose(REAL)


def _keep(*, rightless: bool) -> None:
    from builder.files.kept import Kept

    choose(Kept(rightless=rightless))


def _cached_probe(layout: Layout, userxattr: bool) -> str | None:
    """The probe mounts an overlay (some ms): done once for a kernel, a device and a kind of namespace, kept if it went well."""
    from runtime.linux.mounts import overlay_supported

    stamp = f"{os.uname().release} {os.stat(layout.snapshots).st_dev} {userxattr}"
    note = layout.path("snapshots", ".overlay")
    try:
        with open(note, encoding="utf-8") as file:
            if file.read() == stamp:
                return None
    except OSError:
        pass
    reason = overlay_supported(layout.snapshots, userxattr=userxattr)
    if reason is None:
        try:
            with replacing(note, sync=False, scratch=layout.tmp) as write:
                write(stamp.encode())
        except OSError:
            pass  # only speed is lost
    return reason
