"""The inputs of a build: where the Dockerfile, the .dockerignore and the files for COPY come from.

The context is a folder (read in place), an archive file, standard input (archive or Dockerfile), a git or an http URL; the rules
are those of buildx (build/build.go, loadInputs) and of the frontend's client (frontend/dockerui/context.go). An ignore file counts
in a folder only: what an archive or a repository holds was chosen by who made it (dockerui's MainContext).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, BinaryIO

from builder.build.dockerfile import DOCKERFILE, LIMIT, Dockerfile, IgnoreFile, find_dockerfile, find_ignore
from builder.build.given import read_beneath
from builder.errors import NotFoundError, UsageError
from builder.graph.ops import NO_INPUT, CopyAction, File, HTTPSource, LocalSource
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.text.quoting import quote
from builder.text.redact import redact_text
from builder.text.strconv import truth_of
from builder.values import dataclass, field, replace
from runtime.errors import UnsafePathError
from runtime.linux.named import descriptor_of
from runtime.linux.safepath import open_named

if TYPE_CHECKING:
    from builder.build.request import BuildRequest
    from builder.cache.types import Readable
    from builder.graph.ops import Source

_ARCHIVE_NAME = "context"
_HEAD = 1024
"""Bytes that tell an archive from a Dockerfile."""
_URL_LIMIT = 2 << 20
"""Bytes of a Dockerfile that -f names by URL: buildx's limit (build/url.go)."""

Solve = Callable[[Edge, Mapping[str, str]], "Readable"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """``main_context`` is what COPY reads; ``locals`` and ``oci_layouts`` name folders for the session.

    ``ignore_name`` is the file that ``ignore`` was read from, for messages. ``warnings`` are told when the build is over.
    """

    dockerfile: bytes
    name: str
    ignore: bytes
    main_context: Source | Edge
    locals: Mapping[str, str] = field(default_factory=dict)
    oci_layouts: Mapping[str, str] = field(default_factory=dict)
    ignore_name: str = ""
    warnings: tuple[str, ...] = ()


def read_inputs(request: BuildRequest, scratch: str, solve: Solve) -> Inputs:
    """Find and read them. ``scratch`` is a private folder for archives from stdin; ``solve`` builds what the Dockerfile has to be
    read from, given the folders of its local sources."""
    context = request.context
    if not context:
        raise UsageError('please specify build context (e.g. "." for the current directory)')
    if context == "-" or descriptor_of(context) is not None:
        return _from_stream(request, scratch, solve)
    remote = _remote(context, request)
    if remote is not None:
        return _from_remote(request, remote, solve)
    if os.path.isdir(context):
        return _from_folder(request, os.path.abspath(context), solve)
    if not os.path.exists(context):
        raise NotFoundError(f"unable to prepare context: path {quote(context)} not found")
    if not _is_archive(_head_of(context)):
        hint = "name the Dockerfile with -f and give its folder" if DOCKERFILE.lower() in context.lower() else ""
        raise UsageError(f"unable to prepare context: {context} is neither a directory nor an archive", hint=hint)
    # Read in place, by its real name: a link in the folder of a local source is not followed out of it.
    folder, name = os.path.split(os.path.realpath(context))
    return _from_archive(request, folder, name, solve, _apart(request, solve, outside=True))


# ------------------------------------------------------------------------------------------------ local
def _from_folder(request: BuildRequest, folder: str, solve: Solve) -> Inputs:
    found = _apart(request, solve)
    if found is None:
        # The folder of -f is the user's word and may lie anywhere; the file is looked for beneath it, as buildx sends it.
        head, name = os.path.split(request.file.rstrip("/"))
        place = (os.path.abspath(head) if head or name else folder) or "/"
        found = find_dockerfile(place, name)
        ignore = find_ignore(folder, (place, found.name))
    else:
        ignore = find_ignore(folder)
    return _inputs(found, LocalSource("context"), {"context": folder}, ignore)


def _inputs(
    found: Dockerfile, main: Source | Edge, locals_: Mapping[str, str] | None = None, ignore: IgnoreFile | None = None
) -> Inputs:
    ignore = ignore or IgnoreFile()
    warnings = tuple(w for w in (found.warning, ignore.warning) if w)
    return Inputs(found.data, found.name, ignore.data, main, locals_ or {}, ignore_name=ignore.name, warnings=warnings)


# ----------------------------------------------------------------------------------------------- a Dockerfile that is in no context
def _apart(request: BuildRequest, solve: Solve, *, outside: bool = False) -> Dockerfile | None:
    """The Dockerfile of a -f that names no file of the context: standard input, ``<(...)``, a URL. None for any other.

    ``outside``: an absolute path is a file of this machine, since the context is somewhere else.
    """
    file = request.file
    if file == "-":
        return Dockerfile(_all_of(_stream("/dev/stdin", request)))
    if descriptor_of(file) is not None:
        return Dockerfile(_all_of(_stream(file, request)))
    if file.startswith(("http://", "https://")):
        return Dockerfile(_download(file, solve))
    if outside and os.path.isabs(file):
        return find_dockerfile(*os.path.split(file))
    return None


def _download(url: str, solve: Solve) -> bytes:
    shown = redact_text(url)
    edge = Edge(Vertex(HTTPSource(url, filename=DOCKERFILE), meta=VertexMeta(f"[internal] load {shown}", internal=True)))
    ref = _solved(edge, solve, "failed to read dockerfile")
    try:
        with ref.mount() as folder:
            return read_beneath(folder, DOCKERFILE, _URL_LIMIT)
    except UnsafePathError as e:
        raise UsageError(f"Dockerfile {shown} bigger than allowed max size ({_URL_LIMIT >> 20} MB)") from e
    finally:
        ref.release()


# ------------------------------------------------------------------------------------------------ streams and archives
def _stream(path: str, request: BuildRequest) -> BinaryIO:
    """What ``/dev/stdin`` or ``/dev/fd/N`` stands for."""
    number = descriptor_of(path)
    assert number is not None
    if any(descriptor_of(s.file) == number for s in request.secrets):
        raise UsageError(f"invalid argument: can't use {path} for both a secret and the build context or dockerfile")
    if number == 0:
        if sys.stdin is None:
            raise UsageError("nothing to read: there is no standard input")
        return sys.stdin.buffer
    try:
        return os.fdopen(os.dup(number), "rb")
    except OSError as e:
        raise NotFoundError(f"open {path}: {(e.strerror or '').lower()}") from e


def _all_of(stream: BinaryIO) -> bytes:
    data = stream.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise UsageError(f"failed to read dockerfile: what comes in is larger than {LIMIT >> 20} MB")
    return data


def _from_stream(request: BuildRequest, scratch: str, solve: Solve) -> Inputs:
    from_stdin = not descriptor_of(request.context)
    if from_stdin and (request.file == "-" or descriptor_of(request.file) == 0):
        raise UsageError("invalid argument: can't use stdin for both build context and dockerfile")
    stream = _stream("/dev/stdin" if from_stdin else request.context, request)
    head = stream.read(_HEAD)
    if not head:
        where = "STDIN" if from_stdin else request.context
        raise UsageError(f"failed to peek context header from {where}: it is empty")
    if _is_archive(head):
        from shutil import copyfileobj

        folder = os.path.join(scratch, "archive")
        os.mkdir(folder, 0o700)
        with open(os.path.join(folder, _ARCHIVE_NAME), "xb") as f:
            f.write(head)
            copyfileobj(stream, f, 1 << 20)
        return _from_archive(request, folder, _ARCHIVE_NAME, solve, _apart(request, solve))
    if request.file:
        raise UsageError("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    if not head.strip(b"\0"):
        raise UsageError("failed to read dockerfile: the archive on standard input holds no files")
    folder = os.path.join(scratch, "empty")
    os.mkdir(folder, 0o700)
    return _inputs(Dockerfile(head + _all_of(stream)), LocalSource("context"), {"context": folder})


def _from_archive(request: BuildRequest, folder: str, name: str, solve: Solve, apart: Dockerfile | None) -> Inputs:
    """An archive as context: unpacked as ADD would, so that owners and times are those of the archive."""
    source = Edge(Vertex(LocalSource("context"), meta=VertexMeta("[internal] load build context", internal=True)))
    edge = _unpacked(source, name)
    locals_ = {"context": folder}
    return _inputs(apart or _read_from(edge, request.file, solve, locals_), edge, locals_)


def _unpacked(archive: Edge, filename: str) -> Edge:
    copy = CopyAction(NO_INPUT, 0, 0, "/" + filename, "/", attempt_unpack=True)
    return Edge(Vertex(File((copy,)), (archive,), meta=VertexMeta("[internal] unpack build context", internal=True)))


def _head_of(path: str) -> bytes:
    """The first bytes of a regular file, b"" for anything else."""
    try:
        with io.FileIO(open_named(path)) as f:
            return f.read(_HEAD)
    except UnsafePathError:
        return b""
    except OSError as e:
        raise UsageError(f"unable to prepare context: open {path}: {(e.strerror or '').lower()}") from e


def _is_archive(start: bytes) -> bool:
    """tar, or one of the compressions that moby unpacks (archive.DetectCompression, and the ustar magic)."""
    magics = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
    return start.startswith(magics) or _is_tar_header(start)


def _is_tar_header(block: bytes) -> bool:
    if len(block) < 512:
        return False
    try:
        stated = int(block[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    return stated == sum(block[:148]) + 256 + sum(block[156:512])


# ------------------------------------------------------------------------------------------------ remote
def _remote(context: str, request: BuildRequest) -> Source | None:
    """The source of a URL; None for anything that is a path."""
    from builder.graph.gitref import parse_git_ref

    if os.path.exists(context):
        return None
    try:
        git = parse_git_ref(context)
    except ValueError as e:
        raise UsageError(f"invalid context {context}: {e}") from e
    if git is not None:
        source = git.source()
        if truth_of(request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "")):
            source = replace(source, keep_git_dir=True)
        if request.build_args.get("SOURCE_DATE_EPOCH"):
            source = replace(source, mtime_commit=True)
        return source
    if context.startswith(("http://", "https://")):
        return HTTPSource(context, filename=_ARCHIVE_NAME)
    return None


def _from_remote(request: BuildRequest, source: Source, solve: Solve) -> Inputs:
    name = f"[internal] load git source {request.context}" if source.kind == "git" else "[internal] load remote build context"
    edge = Edge(Vertex(source, meta=VertexMeta(name, internal=True)))
    main: Source | Edge = source
    alone = False
    if isinstance(source, HTTPSource):
        alone = not _is_archive(_peek(edge, solve))
        main = edge = edge if alone else _unpacked(edge, _ARCHIVE_NAME)
    found = _apart(request, solve, outside=True)
    if found is None and alone:  # the URL is the Dockerfile itself
        found = replace(_read_from(edge, _ARCHIVE_NAME, solve), name=DOCKERFILE)
    return _inputs(found or _read_from(edge, request.file, solve), main)


def _peek(edge: Edge, solve: Solve) -> bytes:
    ref = _solved(edge, solve, "failed to read downloaded context")
    try:
        with ref.mount() as folder:
            return _head_of(os.path.join(folder, _ARCHIVE_NAME))
    finally:
        ref.release()


def _solved(edge: Edge, solve: Solve, doing: str, locals_: Mapping[str, str] | None = None) -> Readable:
    """Says what a remote context was needed for, before the cause."""
    from builder.solver.errors import SolveError

    try:
        return solve(edge, locals_ or {})
    except SolveError as e:
        raise SolveError(e.vertex, e, doing=doing) from e


def _read_from(edge: Edge, filename: str, solve: Solve, locals_: Mapping[str, str] | None = None) -> Dockerfile:
    """The Dockerfile out of a solved context: nothing outside of it can be named, by a link neither."""
    ref = _solved(edge, solve, "failed to read dockerfile", locals_)
    try:
        with ref.mount() as folder:
            return find_dockerfile(folder, filename)
    finally:
        ref.release()
