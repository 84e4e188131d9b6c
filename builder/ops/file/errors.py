"""Turning failures of file operations into one line in BuildKit's words."""

from __future__ import annotations

from builder.errors import StepError


class FileActionError(StepError):
    """A file operation could not be done."""


def from_os(error: OSError, *roots: str) -> FileActionError:
    """``lstat /x: no such file or directory`` without the path of the root it happened in."""
    reason = (error.strerror or str(error)).lower()
    path = error.filename
    if not isinstance(path, str):
        return FileActionError(reason)
    for root in roots:
        path = path.removeprefix(root)
    return FileActionError(f"{path}: {reason}")
