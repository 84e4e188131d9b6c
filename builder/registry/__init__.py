"""Registries by the OCI distribution-spec: resolve, fetch and push, with mirrors and credentials. ``transport`` is the one place
that opens connections; ``agent`` follows redirects and tries again; ``client`` speaks the protocol."""
