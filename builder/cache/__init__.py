"""The cache manager: records and refs, leases, content hashes, garbage collection, remote cache."""
