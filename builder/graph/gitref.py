"""Git references as Dockerfiles and contexts name them: ``URL#ref:subdir`` and ``URL?ref=...&subdir=...``.

What counts as one, and how it is read, is BuildKit's rule (frontend/dockerfile/dfgitutil, util/gitutil):

- ``git://`` and ``ssh://`` URLs, and ``user@host:path``, always;
- ``http(s)://`` only when the path ends with ``.git``;
- ``github.com/...`` (build contexts only: for ADD and COPY it is a path).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.text.paths import rooted
from builder.text.strconv import truth_of
from builder.values import dataclass, replace

if TYPE_CHECKING:
    from builder.graph.ops import GitSource

_SCHEMES = ("http", "https", "ssh", "git")
_FLAGS = ("submodules", "keep-git-dir", "fetch-by-commit")
_USER = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")


@dataclass(frozen=True, slots=True)
class GitRef:
    """``remote`` has neither fragment nor query. ``ref`` is a branch, tag or commit, or empty; None for a flag: not said.

    ``mtime`` is empty, ``checkout`` or ``commit``.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    mtime: str = ""
    fetch_by_commit: bool = False
    indistinguishable_from_local: bool = False
    """``github.com/foo/bar``: might as well be a folder. A git reference for build contexts only."""
    """``http://`` or ``git://``."""

    @property
    def url(self) -> str:
        """The remote as git takes it."""
        return "https://" + self.remote if self.indistinguishable_from_local else self.remote

    def source(self, *, keep_git_dir: bool = False, checksum: str = "", mtime_commit: bool = False) -> GitSource:
        """The source operation; the arguments are what an instruction or the build adds to the reference."""
        from builder.graph.ops import GitSource

        return GitSource(
            remote=self.url,
            ref=self.ref,
            subdir=self.subdir,
            keep_git_dir=bool(self.keep_git_dir) or keep_git_dir,
            checksum=self.checksum or checksum,
            skip_submodules=self.submodules is False,
            mtime_commit=mtime_commit if not self.mtime else self.mtime == "commit",
            fetch_by_commit=self.fetch_by_commit,
        )


def parse_git_ref(text: str) -> GitRef | None:
    """The reference, or None when ``text`` is not one. ValueError when it is one with a query that can't be."""
    if text.startswith(("./", "../")):
        return None
    scheme, separator, _ = text.partition("://")
    if separator and scheme.isascii() and scheme.isalnum():
        parts = _parse_url(text, scheme.lower())
    elif text.startswith("github.com/"):
        rest, fragment = _cut(text, "#")
        rest, query = _cut(rest, "?")
        parts = GitRef(rest, indistinguishable_from_local=True), _unquote(fragment), query
    else:
        parts = _parse_scp(text)
    if parts is None:
        return None
    base, fragment, query = parts
    if fragment:
        ref, subdir = _cut(fragment, ":")
        base = replace(base, ref=ref, subdir=rooted(subdir)[1:])
    return _with_query(base, query) if query else base


def _parse_url(text: str, scheme: str) -> tuple[GitRef, str, str] | None:
    if scheme not in _SCHEMES:
        return None
    rest, fragment = _cut(text, "#")
    rest, query = _cut(rest, "?")
    rest = rest.partition("://")[2]
    authority, slash, path = rest.partition("/")
    port = authority.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    if (port and not (port.isascii() and port.isdigit())) or any(ord(c) <= 32 or c == "\x7f" for c in text):
        return None
    if scheme in ("http", "https") and not _unquote(slash + path).endswith(".git"):
        return None
    return GitRef(f"{scheme}://{rest}"), _unquote(fragment), query


def _parse_scp(text: str) -> tuple[GitRef, str, str] | None:
    """``user@host:path?query#fragment``."""
    user, at, rest = text.partition("@")
    host, colon, path = rest.partition(":")
    if not (at and colon and user and host and _USER.issuperset(user) and _HOST.issuperset(host)) or "\n" in text:
        return None
    # Of the expression's reluctant groups the first "?" ends the path, unless a "#" comes before it.
    path, fragment = _cut(path, "#")
    path, query = _cut(path, "?")
    return GitRef(f"{user}@{host}:{path}"), fragment, query


def _with_query(base: GitRef, query: str) -> GitRef:
    from urllib.parse import parse_qs

    values = parse_qs(query, keep_blank_values=True)
    tag = branch = ""
    changes: dict[str, str | bool] = {}
    ref, subdir = base.ref, base.subdir
    for key in sorted(values):
        if len(values[key]) > 1:
            raise ValueError(f"query {_quote(key)} has multiple values")
        value = values[key][0]
        if not value and key not in _FLAGS:
            raise ValueError(f"query {_quote(key)} has no value")
        match key:
            case "ref":
                if ref not in ("", value):
                    raise ValueError(f"ref conflicts: {_quote(ref)} vs {_quote(value)}")
                ref = value
            case "subdir":
                if subdir not in ("", value):
                    raise ValueError(f"subdir conflicts: {_quote(subdir)} vs {_quote(value)}")
                subdir = value
            case "tag":
                tag = "refs/tags/" + value.removeprefix("refs/tags/")
            case "branch":
                branch = "refs/heads/" + value.removeprefix("refs/heads/")
            case "checksum" | "commit":
                changes["checksum"] = value
            case "submodules" | "keep-git-dir" | "fetch-by-commit":
                changes[key.replace("-", "_")] = _boolean(key, value)
            case "mtime":
                if value not in ("checkout", "commit"):
                    raise ValueError(f'invalid mtime value: {_quote(value)} (must be "checkout" or "commit")')
                changes["mtime"] = value
            case _:
                raise ValueError(f"unexpected query {_quote(key)}")
    for name in filter(None, (tag, branch)):
        if tag and name == branch:
            raise ValueError("branch conflicts with tag")
        if ref not in ("", name):
            raise ValueError(f"ref conflicts: {_quote(ref)} vs {_quote(name)}")
        ref = name
    return replace(base, ref=ref, subdir=subdir, **changes)  # type: ignore[arg-type]


def _boolean(key: str, value: str) -> bool:
    """Go's strconv.ParseBool; no value is yes."""
    flag = truth_of(value) if value else True
    if flag is None:
        raise ValueError(f"invalid {key} value: {_quote(value)}")
    return flag


def _cut(text: str, separator: str) -> tuple[str, str]:
    head, _, tail = text.partition(separator)
    return head, tail


def _unquote(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def is_commit(text: str) -> bool:
    """A full SHA-1 or SHA-256 object name, in lower case as git prints it."""
    return len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text)
