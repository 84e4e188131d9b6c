"""Files that the user names, on the command line, in a variable or in a configuration: links are followed wherever they lead, and
what the shell makes of ``<(...)`` is read like a file. No device, no FIFO, nothing that hangs or has no end.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime.errors import UnsafePathError
from runtime.linux import safepath

# /dev/fd is what bash names in a process substitution, /proc/self/fd what zsh does.
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")


def read_named(path: str, limit: int) -> bytes:
    """A file that the user names: regular, an open descriptor (read to its end, once), or /dev/null. OSError, UnsafePathError."""
    number = descriptor_of(path)
    if number is not None:
        return read_descriptor(number, limit)
    if path == os.devnull:
        return b""
    return safepath.read_named(path, limit)


def check_regular(path: str) -> None:
    """UnsafePathError if there is something at ``path`` that is no regular file, for those that a library opens. OSError where it
    can't be read."""
    os.close(safepath.open_named(path))


def descriptor_of(path: str) -> int | None:
    """The descriptor that ``/dev/stdin``, ``/dev/fd/N`` or ``/proc/self/fd/N`` stands for."""
    if path == "/dev/stdin":
        return 0
    folder, slash, number = path.rpartition("/")
    fits = folder + slash in _DESCRIPTORS and len(number) < 10 and number.isascii() and number.isdigit()
    return int(number) if fits else None


def read_descriptor(number: int, limit: int) -> bytes:
    """All that comes from descriptor ``number``, a regular file from its begin. OSError, UnsafePathError over ``limit`` bytes."""
    mode = os.fstat(number).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    at = 0
    data = bytearray()
    while len(data) <= limit:
        size = min(limit + 1 - len(data), 1 << 20)
        chunk = os.pread(number, size, at) if stat.S_ISREG(mode) else os.read(number, size)
        if not chunk:
            return bytes(data)
        at += len(chunk)
        data += chunk
    raise UnsafePathError(f"descriptor {number} has more than {limit} bytes")
