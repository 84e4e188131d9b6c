"""The one door to the kernel: calls, confined paths, mounts, namespaces. ``ctypes`` is loaded on first use."""
