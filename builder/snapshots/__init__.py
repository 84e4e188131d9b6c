"""Snapshots of root filesystems: snapshotters (overlay, native), applier, differ."""
