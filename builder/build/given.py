"""Files that a build is given, read by who named them.

A context is untrusted: a link in it may lead to any file of the host, a FIFO in it may never end. Its files are opened beneath
its own root (``read_beneath``). A path on the command line is the user's word: links are followed, and what the shell makes of
``<(...)`` is read like a file (``read_named``). Neither opens anything but regular files: no device, no FIFO, nothing that hangs.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime.errors import UnsafePathError
from runtime.linux import safepath

# /dev/fd is what bash names in a process substitution, /proc/self/fd what zsh does.
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")


def read_beneath(folder: str, name: str, limit: int) -> bytes:
    """The regular file ``name`` of ``folder``, links ending inside of it. OSError; UnsafePathError, also over ``limit`` bytes."""
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return safepath.read_regular(root, name, limit)
    finally:
        os.close(root)


def link_out_of(folder: str, name: str) -> str:
    """Where the link ``name`` of ``folder`` leads if nothing is there inside of the folder, but something is outside; else ""."""
    path = os.path.join(folder, name)
    try:
        target = os.readlink(path)
        os.stat(path)
    except OSError:
        return ""
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(safepath.open_in_root(root, name, os.O_PATH))
    except OSError:
        return target
    finally:
        os.close(root)
    return ""


def has(folder: str, name: str) -> bool:
    """Is there anything called ``name`` in ``folder``, be it a link that leads nowhere?"""
    return os.path.lexists(os.path.join(folder, name))


def read_named(path: str, limit: int) -> bytes:
    """A file that the user names: regular, an open descriptor (read to its end, once), or /dev/null. OSError, UnsafePathError."""
    number = descriptor_of(path)
    if number is not None:
        return read_descriptor(number, limit)
    if path == os.devnull:
        return b""
    return safepath.read_named(path, limit)


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
