"""The inputs of a build: where the Dockerfile, the .dockerignore and the files for COPY come from.

The context is a folder (read in place), an archive file, standard input (archive or Dockerfile), a git or an http URL; the rules
are those of buildx (build/build.go, loadInputs) and of the frontend's client (frontend/dockerui/context.go).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from builder.errors import NotFoundError, UsageError
from builder.graph.ops import NO_INPUT, CopyAction, File, HTTPSource, LocalSource
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.text.strconv import truth_of
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.build.request import BuildRequest
    from builder.cache.types import Readable
    from builder.graph.ops import Source

DOCKERFILE = "Dockerfile"
_ARCHIVE_NAME = "context"
_LIMIT = 128 << 20
"""Bytes of a Dockerfile: more is no Dockerfile (and would be read into memory)."""

Solve = Callable[[Edge], "Readable"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """``main_context`` is what COPY reads; ``locals`` and ``oci_layouts`` name folders for the session.

    ``ignore_name`` is the file that ``ignore`` was read from, for messages.
    """

    dockerfile: bytes
    name: str
    ignore: bytes
    main_context: Source | Edge
    locals: Mapping[str, str] = field(default_factory=dict)
    oci_layouts: Mapping[str, str] = field(default_factory=dict)
    ignore_name: str = ""


def read_inputs(request: BuildRequest, scratch: str, solve: Solve) -> Inputs:
    """Find and read them. ``scratch`` is a private folder for archives from stdin, ``solve`` builds a remote context's source."""
    context = request.context
    if context == "-":
        return _from_stdin(request, scratch, solve)
    remote = _remote(context, request)
    if remote is not None:
        return _from_remote(request, remote, scratch, solve)
    if not os.path.exists(context):
        raise NotFoundError(f"unable to prepare context: path {context!r} not found")
    if os.path.isdir(context):
        return _from_folder(request, os.path.abspath(context))
    with open(context, "rb") as f:
        if not _is_archive(f.read(512)):
            hint = "name the Dockerfile with -f and give its folder" if DOCKERFILE.lower() in context.lower() else ""
            raise UsageError(f"unable to prepare context: {context} is neither a directory nor an archive", hint=hint)
    folder = _scratch_folder(scratch, "archive")
    os.symlink(os.path.abspath(context), os.path.join(folder, _ARCHIVE_NAME))
    return _from_archive(request, folder, solve)


# ------------------------------------------------------------------------------------------------ local
def _from_folder(request: BuildRequest, folder: str) -> Inputs:
    locals_ = {"context": folder}
    if request.file == "-":
        return Inputs(_stdin(), DOCKERFILE, _ignore_of(folder, None), LocalSource("context"), locals_)
    path = request.file or os.path.join(folder, DOCKERFILE)
    data, path = _read_dockerfile(path)
    return Inputs(data, os.path.basename(path), _ignore_of(folder, path), LocalSource("context"), locals_)


def _read_dockerfile(path: str) -> tuple[bytes, str]:
    """The file; ``dockerfile`` where ``Dockerfile`` is missing (moby/moby#10858)."""
    folder, name = os.path.split(path)
    for candidate in (name, name.lower()) if name == DOCKERFILE else (name,):
        try:
            with open(os.path.join(folder, candidate), "rb") as f:
                data = f.read(_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            raise UsageError(f"failed to read dockerfile: {path}: {e.strerror}") from e
        if len(data) > _LIMIT:
            raise UsageError(f"failed to read dockerfile: {path} is larger than {_LIMIT >> 20} MB")
        return data, os.path.join(folder, candidate)
    raise NotFoundError(f"failed to read dockerfile: open {name}: no such file or directory", hint=_dockerfiles_near(folder))


def _dockerfiles_near(folder: str) -> str:
    try:
        names = sorted(n for n in os.listdir(folder or ".") if "dockerfile" in n.lower() and not n.endswith(".dockerignore"))
    except OSError:
        return ""
    return f"there is {', '.join(names[:3])} in {folder or '.'}: name it with -f" if names else ""


def _ignore_of(folder: str, dockerfile: str | None) -> bytes:
    for path in ([f"{dockerfile}.dockerignore"] if dockerfile else []) + [os.path.join(folder, ".dockerignore")]:
        try:
            with open(path, "rb") as f:
                return f.read(_LIMIT)
        except (FileNotFoundError, IsADirectoryError):
            continue
        except OSError as e:
            raise UsageError(f"failed to read dockerignore patterns: {path}: {e.strerror}") from e
    return b""


# ------------------------------------------------------------------------------------------------ stdin and archives
def _stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("nothing to read: standard input is a terminal", hint="pipe a Dockerfile or an archive into it")
    return sys.stdin.buffer.read()


def _from_stdin(request: BuildRequest, scratch: str, solve: Solve) -> Inputs:
    if request.file == "-":
        raise UsageError("invalid argument: can't use stdin for both build context and dockerfile")
    data = _stdin()
    if not data:
        raise UsageError("failed to peek context header from STDIN: it is empty")
    if _is_archive(data[:512]):
        folder = _scratch_folder(scratch, "archive")
        with open(os.path.join(folder, _ARCHIVE_NAME), "wb") as f:
            f.write(data)
        return _from_archive(request, folder, solve)
    if request.file:
        raise UsageError("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    return Inputs(data, DOCKERFILE, b"", LocalSource("context"), {"context": _scratch_folder(scratch, "empty")})


def _from_archive(request: BuildRequest, folder: str, solve: Solve) -> Inputs:
    """An archive as context: unpacked as ADD would, so that owners and times are those of the archive."""
    source = Edge(Vertex(LocalSource("context"), meta=VertexMeta("[internal] load build context", internal=True)))
    edge = _unpacked(source, _ARCHIVE_NAME)
    data, name = _read_from(edge, request.file or DOCKERFILE, solve, {"context": folder})
    return Inputs(data, name, b"", edge, {"context": folder})


def _unpacked(archive: Edge, filename: str) -> Edge:
    copy = CopyAction(NO_INPUT, 0, 0, "/" + filename, "/", attempt_unpack=True)
    return Edge(Vertex(File((copy,)), (archive,), meta=VertexMeta("[internal] unpack build context", internal=True)))


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


def _scratch_folder(scratch: str, name: str) -> str:
    folder = os.path.join(scratch, name)
    os.makedirs(folder, mode=0o700)
    return folder


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
        from builder.values import replace

        source = git.source()
        if truth_of(request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "")):
            source = replace(source, keep_git_dir=True)
        if request.build_args.get("SOURCE_DATE_EPOCH"):
            source = replace(source, mtime_commit=True)
        return source
    if context.startswith(("http://", "https://")):
        return HTTPSource(context, filename=_ARCHIVE_NAME)
    return None


def _from_remote(request: BuildRequest, source: Source, scratch: str, solve: Solve) -> Inputs:
    name = f"[internal] load git source {request.context}" if source.kind == "git" else "[internal] load remote build context"
    edge = Edge(Vertex(source, meta=VertexMeta(name, internal=True)))
    main: Source | Edge = source
    filename = request.file or DOCKERFILE
    if isinstance(source, HTTPSource):
        if _is_archive(_peek(edge, solve)):
            main = edge = _unpacked(edge, _ARCHIVE_NAME)
        else:  # the URL is the Dockerfile itself
            main, filename = edge, _ARCHIVE_NAME
    if request.file == "-":
        return Inputs(_stdin(), DOCKERFILE, b"", main)
    if os.path.isabs(request.file):
        data, path = _read_dockerfile(request.file)
        return Inputs(data, os.path.basename(path), b"", main)
    data, name = _read_from(edge, filename, solve, {})
    return Inputs(data, name if filename != _ARCHIVE_NAME else DOCKERFILE, b"", main)


def _peek(edge: Edge, solve: Solve) -> bytes:
    ref = _solved(edge, solve, "failed to read downloaded context")
    try:
        with ref.mount() as folder, open(os.path.join(folder, _ARCHIVE_NAME), "rb") as f:
            return f.read(512)
    finally:
        ref.release()


def _solved(edge: Edge, solve: Solve, doing: str) -> Readable:
    """Says what a remote context was needed for, before the cause."""
    from builder.solver.errors import SolveError

    try:
        return solve(edge)
    except SolveError as e:
        raise SolveError(e.vertex, e, doing=doing) from e


def _read_from(edge: Edge, filename: str, solve: Solve, locals_: Mapping[str, str]) -> tuple[bytes, str]:
    """The Dockerfile out of a solved context: nothing outside of it can be named, by a link neither."""
    from runtime.errors import UnsafePathError
    from runtime.linux.safepath import read_regular

    ref = _solved(edge, solve, "failed to read dockerfile")
    try:
        with ref.mount() as folder:
            fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                head, name = os.path.split(filename)
                for candidate in (name, name.lower()) if name == DOCKERFILE else (name,):
                    try:
                        return read_regular(fd, os.path.join(head, candidate), _LIMIT), candidate
                    except (FileNotFoundError, NotADirectoryError):
                        continue
            finally:
                os.close(fd)
    except UnsafePathError as e:
        raise UsageError(f"failed to read dockerfile: {e}") from e
    finally:
        ref.release()
    raise NotFoundError(f"failed to read dockerfile: open {filename}: no such file or directory")
