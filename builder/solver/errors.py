"""The one error that a build of a graph ends with."""

from __future__ import annotations

import errno

from builder.errors import PybuildError, StoreError
from builder.graph.vertex import Vertex
from builder.solver.types import RefusedStepError


class SolveError(PybuildError):
    """A vertex failed. ``str`` is the cause's; ``vertex.meta.locations`` are the lines to show; ``cause`` has step output and the
    like."""

    def __init__(self, vertex: Vertex, cause: BaseException, *, doing: str = "") -> None:
        text = str(cause) or type(cause).__name__
        super().__init__(f"{doing}: {text}" if doing else text, hint=getattr(cause, "hint", ""))
        self.vertex = vertex
        self.cause = cause
        self.__cause__ = cause


class SchedulerError(PybuildError):
    """The scheduler broke its own rules: a bug of pybuild, never of the input."""


def wrap(vertex: Vertex, error: Exception, *, doing: str = "") -> Exception:
    """``error`` as SolveError of ``vertex``. What is neither a PybuildError nor of the operating system is a bug and stays as it
    is."""
    if isinstance(error, SolveError):
        return error
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else (error.strerror or str(error))
        hint = "free space, or run `pybuild prune`" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        error = StoreError(what, hint=hint).with_traceback(error.__traceback__)
    if isinstance(error, RefusedStepError):
        return SolveError(error.vertex, error)
    if isinstance(error, PybuildError):
        return SolveError(vertex, error, doing=doing)
    error.add_note(f"while solving {vertex.meta.name or vertex.op.kind} ({vertex.digest})")
    return error
