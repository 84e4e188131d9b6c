"""Turning failures of file operations into one line in BuildKit's words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import StepError

_DISK_FULL = "the disk is full: free space, or run `pybuild prune`"


class FileActionError(StepError):
    """A file operation could not be done."""


def from_os(error: OSError, *roots: str, op: str = "", path: str = "") -> FileActionError:
    """``mkdir /x: not a directory`` without the path of the root it happened in. ``op`` is what Go calls the operation; ``path``
    stands in for the error's own where that is relative to something."""
    reason = (error.strerror or str(error)).lower()
    where = path or (error.filename if isinstance(error.filename, str) else "")
    for root in roots:
        where = where.removeprefix(root)
    hint = _DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    what = " ".join(filter(None, (op, where)))
    return FileActionError(f"{what}: {reason}" if what else reason, hint=hint)


@contextmanager
def named(op: str, path: str) -> Iterator[None]:
    """OSErrors of the block are of this operation on this path in the root."""
    try:
        yield
    except OSError as e:
        raise from_os(e, op=op, path=path) from e
