"""Trees of files: reading, copying, hashing, and layer tars in both directions.

All work goes by directory file descriptors below one root; nothing here knows of records, snapshots or registries.
"""
