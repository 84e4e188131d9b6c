"""Files that a build is given, read by who named them.

A context is untrusted: a link in it may lead to any file of the host, a FIFO in it may never end. Its files are opened beneath
its own root (``read_beneath``). A path on the command line is the user's word, and read by ``runtime.linux.named``. Neither opens
anything but regular files: no device, no FIFO, nothing that hangs.
"""

from __future__ import annotations

import os

from runtime.linux import safepath


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
