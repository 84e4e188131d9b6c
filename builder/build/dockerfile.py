"""The Dockerfile and the ignore file of a folder: under which names they are looked for, and what is told where there is none.

The folder is a local context, the folder of ``-f``, or a mounted archive or repository; in each its files are opened beneath it
(``builder.build.given``). Names and order are BuildKit's (frontend/dockerui/config.go, buildx' build/opt.go), and podman's where
those find nothing.
"""

from __future__ import annotations

import os

from builder.build.given import has, link_out_of, read_beneath
from builder.errors import NotFoundError, UsageError
from builder.values import dataclass
from runtime.errors import UnsafePathError

DOCKERFILE, CONTAINERFILE = "Dockerfile", "Containerfile"
LIMIT = 128 << 20
"""Bytes of a Dockerfile or ignore file: more is neither (and would be read into memory)."""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """``name`` is the file's own, for messages; ``warning`` is what the user should know of how it was found."""

    data: bytes
    name: str = DOCKERFILE
    warning: str = ""


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """``name`` and ``data`` of the one that counts; both empty where there is none."""

    data: bytes = b""
    name: str = ""
    warning: str = ""


def find_dockerfile(folder: str, filename: str = "") -> Dockerfile:
    """``filename`` below ``folder``, or what stands there under a usual name. NotFoundError, UsageError.

    ``dockerfile`` stands in for ``Dockerfile`` (moby/moby#10858), ``Containerfile`` for both if no name was asked for.
    """
    head, name = os.path.split(filename or DOCKERFILE)
    names = [os.path.join(head, n) for n in ((name, name.lower()) if name == DOCKERFILE else (name,))]
    for candidate in names:
        data = _read(folder, candidate)
        if data is not None:
            return Dockerfile(data, os.path.basename(candidate))
    if not filename and not any(has(folder, n) for n in names):
        data = _read(folder, CONTAINERFILE)
        if data is not None:
            return Dockerfile(data, CONTAINERFILE, f"there is no {DOCKERFILE}: {CONTAINERFILE} is built")
    raise NotFoundError(f"failed to read dockerfile: open {names[0]}: no such file or directory", hint=_hint(folder, names[0]))


def _read(folder: str, name: str) -> bytes | None:
    try:
        return read_beneath(folder, name, LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (UnsafePathError, OSError) as e:
        raise UsageError(f"failed to read dockerfile: {_reason(e, name)}") from e


def _hint(folder: str, name: str) -> str:
    if target := link_out_of(folder, name):
        return f"{name} is a link to {target}, which is outside of the folder it is looked for in"
    folder = os.path.join(folder, os.path.dirname(name))
    try:
        names = sorted(n for n in os.listdir(folder) if _looks_like_one(n) and n != os.path.basename(name))
    except OSError:
        return ""
    return f"there is {', '.join(names[:3])}: name it with -f" if names else ""


def _looks_like_one(name: str) -> bool:
    return any(word in name.lower() for word in ("dockerfile", "containerfile")) and not name.endswith("ignore")


def find_ignore(context: str, dockerfile: tuple[str, str] | None = None) -> IgnoreFile:
    """The ignore file of a local context. ``dockerfile`` is (folder, name) of the one that is built, None if it is in no folder.

    ``NAME.dockerignore`` beside the Dockerfile goes before ``.dockerignore`` of the context. For a Containerfile,
    ``.containerignore`` is looked for as well, behind each. A folder of that name, or a link that leads out of the folder, doesn't
    count, as with BuildKit; but that is said, since files that were meant to be left out are in the build then. UsageError for
    what can't be read.
    """
    places = [(context, ".dockerignore")]
    if dockerfile is not None:
        folder, name = dockerfile
        places.insert(0, (folder, f"{name}.dockerignore"))
        if name == CONTAINERFILE or name.startswith(CONTAINERFILE + "."):
            places.insert(1, (folder, f"{name}.containerignore"))
            places.append((context, ".containerignore"))
    warning = ""
    for folder, name in places:
        try:
            data = read_beneath(folder, name, LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            target = link_out_of(folder, name)
            warning = warning or (f"{name} is not obeyed: it is a link out of its folder, to {target}" if target else "")
            continue
        except (UnsafePathError, OSError) as e:
            if not os.path.isdir(os.path.join(folder, name)):
                raise UsageError(f"failed to read dockerignore patterns: {_reason(e, name)}") from e
            warning = warning or f"{name} is not obeyed: it is a folder"
            continue
        if name.endswith(".containerignore"):
            warning = warning or f"{name} says what the build leaves out: there is no {name.replace('container', 'docker')}"
        return IgnoreFile(data, name, warning)
    return IgnoreFile(warning=warning)


def _reason(error: Exception, name: str) -> str:
    return f"open {name}: {(error.strerror or str(error)).lower()}" if isinstance(error, OSError) else str(error)
