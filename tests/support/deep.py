"""Trees far deeper than a path may be long, made and looked at from one folder to the next."""

from __future__ import annotations

import os

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def make_deep(folder: str, depth: int, name: str = "d", *, file: str = "f", data: bytes = b"deep") -> None:
    """``depth`` folders below one another in ``folder``, with a file in the last one."""
    fd = os.open(folder, _FLAGS)
    for _ in range(depth):
        os.mkdir(name, 0o755, dir_fd=fd)
        below = os.open(name, _FLAGS, dir_fd=fd)
        os.close(fd)
        fd = below
    made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd)
    os.write(made, data)
    os.close(made)
    os.close(fd)


def depth_of(folder: str, name: str = "d", *, file: str = "f") -> tuple[int, bytes]:
    """How many folders lie below one another, and what the file in the last one holds (b"" without it)."""
    fd, depth = os.open(folder, _FLAGS), 0
    try:
        while True:
            below = os.open(name, _FLAGS, dir_fd=fd)
            os.close(fd)
            fd, depth = below, depth + 1
    except FileNotFoundError:
        pass
    try:
        with os.fdopen(os.open(file, os.O_RDONLY, dir_fd=fd), "rb") as f:
            return depth, f.read()
    except FileNotFoundError:
        return depth, b""
    finally:
        os.close(fd)
