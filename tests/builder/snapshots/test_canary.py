"""The canary's names; what it finds is in tests/integration/test_copied_store.py."""

from __future__ import annotations

from builder.files.owners import SUFFIXES
from builder.snapshots import canary
from builder.snapshots.native import NativeSnapshotter
from builder.snapshots.overlay import OverlaySnapshotter
from builder.state.database import Database
from builder.state.layout import Layout


def test_every_kind_of_snapshots_is_known_to_the_others(state: tuple[Layout, Database]) -> None:
    """So that one that comes to a folder of another's sees it."""
    names = {OverlaySnapshotter(*state, userxattr=yes).name for yes in (False, True)}
    names.add(NativeSnapshotter(*state, bind=False).name)
    assert {name + suffix for name in names for suffix in ("", *SUFFIXES)} == set(canary.DRIVERS)
