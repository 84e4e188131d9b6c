"""Paths in images: how BuildKit joins them (util/system/path.go, client/llb/fileop.go)."""

from __future__ import annotations

from builder.text.paths import join
from builder.text.quoting import quote
from frontend.errors import ConvertError


def checked(path: str) -> str:
    """``path``, if it can be one: the kernel takes a NUL byte for its end. Raises ``ConvertError``."""
    if "\0" in path:
        raise ConvertError(f"invalid path {quote(path)}: a path can't contain a NUL byte")
    return path


def unix_form(path: str, os: str) -> str:
    """A path as typed for images of ``os``, in slashes: for windows without its drive. ValueError for one that is not on C:,
    ``ConvertError`` as ``checked``."""
    checked(path)
    if os != "windows":
        return path
    path = path.replace("\\", "/")
    if path[1:] == ":":
        raise ValueError(f'No relative path specified in "{path}"')
    if path.startswith("//"):
        raise ValueError("UNC paths are not supported")
    drive, colon, rest = path.partition(":")
    if not colon:
        return path
    if drive.lower() != "c":
        raise ValueError("The specified path is not on the system drive (C:)")
    return rest


def os_form(path: str, os: str) -> str:
    """A path in slashes as images of ``os`` write it."""
    return path.replace("/", "\\") if os == "windows" else path


def normalize(parent: str, path: str, *, keep_slash: bool) -> str:
    """``path`` as seen from ``parent``. An absolute one stays as written; with ``keep_slash`` so does an end of ``/`` or ``/.``."""
    result = path or parent or "/"
    if not result.startswith("/"):
        result = join("/", parent, result)
    return _with_end(result, path) if keep_slash else result


def destination(directory: str, path: str) -> str:
    """Where COPY and ADD write: absolute and clean, but with the trailing ``/`` or ``/.`` that decides between file and folder."""
    path = path if path.startswith("/") else normalize(directory, "./" if path in (".", "") else path, keep_slash=True)
    return _with_end(join("/", path), path)


def _with_end(path: str, written: str) -> str:
    if written.endswith("/"):
        return path if path.endswith("/") else path + "/"
    if written.endswith("/."):
        return path + "." if path == "/" else path + "/."
    return path
