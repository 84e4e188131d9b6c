"""A client of the OCI distribution-spec: resolve, fetch, push, auth, mirrors. httpx stands behind one seam (``transport``)."""
