"""Sources of ADD that are fetched: http(s) files and git repositories."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from builder.graph.gitref import parse_git_ref
from builder.graph.ops import HTTPSource
from builder.oci.digest import Digest
from frontend.errors import ConvertError

if TYPE_CHECKING:
    from builder.graph.gitref import GitRef


def git_ref(text: str) -> GitRef | None:
    """The git repository that ``text`` names; None for a path, which ``github.com/a/b`` is here. Raises ``ConvertError``."""
    try:
        ref = parse_git_ref(text)
    except ValueError as e:
        raise ConvertError(str(e)) from None
    return None if ref is None or ref.indistinguishable_from_local else ref


def is_http_source(text: str) -> bool:
    """``https://host/repo.git`` is a git repository, not a file."""
    return text.startswith(("http://", "https://")) and not _is_git(text)


def is_remote(text: str) -> bool:
    return is_http_source(text) or _is_git(text)


def http_source(url: str, checksum: str) -> HTTPSource:
    """The file at ``url``, named as the last element of its path."""
    digest = None
    if checksum:
        try:
            digest = Digest.parse(checksum)
        except ValueError as e:
            raise ConvertError(str(e)) from None
    return HTTPSource(url, digest, http_filename(url))


def http_filename(url: str) -> str:
    from urllib.parse import unquote, urlsplit

    try:
        path = unquote(urlsplit(url).path)
    except ValueError:
        path = ""
    return posixpath.basename(path.rstrip("/")) or "__unnamed__"


def _is_git(text: str) -> bool:
    try:
        return parse_git_ref(text) is not None
    except ValueError:
        return False
