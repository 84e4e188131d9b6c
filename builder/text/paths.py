"""Go's ``path`` package: names with slashes, by their text alone."""

from __future__ import annotations

import posixpath


def clean(path: str) -> str:
    """The shortest equal path; ``.`` for an empty one. A leading ``//`` is one slash (POSIX, and so Python, keeps two)."""
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path


def rooted(path: str) -> str:
    """``path`` cleaned as seen from ``/``: ``..`` leads no higher."""
    return clean("/" + path)


def join(*parts: str) -> str:
    """All parts with slashes between, cleaned; unlike ``os.path.join`` an absolute part does not drop those before it."""
    given = [part for part in parts if part]
    return clean("/".join(given)) if given else ""


def base(path: str) -> str:
    """The last name; ``/`` where there are only slashes, ``.`` for an empty path."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def split(path: str) -> tuple[str, str]:
    """Up to the last slash, with it, and the rest."""
    at = path.rfind("/") + 1
    return path[:at], path[at:]


def folder(path: str) -> str:
    """Go's ``path.Dir``: what lies before the last slash, cleaned."""
    return clean(split(path)[0])
