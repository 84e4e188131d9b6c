"""The content store (blobs by digest), tar and compression."""
