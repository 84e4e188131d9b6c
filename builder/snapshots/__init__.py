"""Snapshots of root filesystems: snapshotters (overlay, native), applier, differ.

``types`` tells the life of a snapshot; ``open_snapshotter`` picks the implementation for a state root.
"""

from builder.files.types import NeedsParent
from builder.snapshots.select import open_snapshotter
from builder.snapshots.types import Applied

__all__ = ["Applied", "NeedsParent", "open_snapshotter"]
