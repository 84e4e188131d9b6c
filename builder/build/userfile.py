"""Reading a small file that the user named."""

from __future__ import annotations

import errno


def read_user_file(path: str, limit: int) -> bytes:
    """The bytes of a regular file, links followed, at most ``limit``. OSError for anything else: opening a FIFO would wait for its
    writer, and a device may never end."""
    from runtime.errors import UnsafePathError
    from runtime.linux.named import read_named

    try:
        return read_named(path, limit)
    except UnsafePathError as e:
        raise OSError(errno.EINVAL, str(e), path) from None
