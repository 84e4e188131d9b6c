"""What there is to say about an error: its parts, for whoever shows them."""

from __future__ import annotations

import errno

from builder.build.result import BuildError
from builder.errors import PybuildError, StepError
from builder.values import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """``message`` is one line of cause. ``source``: the Dockerfile's lines around it, marked. ``output``: the last lines of the
    step called ``title``. ``hint``: what can be done. ``internal``: a fault of pybuild, not of what it was given."""

    message: str
    source: str = ""
    output: tuple[str, ...] = ()
    title: str = ""
    hint: str = ""
    exit_code: int = 1
    internal: bool = False


def describe(error: Exception) -> Failure:
    """Of anything that the library raises, CancelledError too. Credentials are not masked yet (``builder.text.redact``)."""
    from frontend.errors import FrontendError
    from runtime.errors import RuntimeFault

    name, text = "", b""
    if isinstance(error, BuildError):
        name, text, error = error.dockerfile_name, error.dockerfile, error.cause
    if isinstance(error, FrontendError):
        return Failure(str(error), _excerpt(name, text, [(r.start, r.end) for r in error.ranges]))
    if isinstance(error, PybuildError):
        return _known(error, name, text)
    if isinstance(error, RuntimeFault):
        return Failure(str(error), hint=error.hint)
    if isinstance(error, OSError) and error.errno is not None:
        hint = "free space, or run `pybuild prune`" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        where = f"{error.filename}: " if error.filename else ""
        return Failure(f"{where}{error.strerror}", hint=hint)
    hint = "this is a bug of pybuild; --debug shows the traceback"
    return Failure(f"internal error: {type(error).__name__}: {error}", hint=hint, internal=True)


def _known(error: PybuildError, name: str, text: bytes) -> Failure:
    from builder.solver.errors import SolveError

    if not isinstance(error, SolveError):
        return Failure(str(error), hint=error.hint, exit_code=error.exit_code)
    meta = error.vertex.meta
    return Failure(
        f"failed to build: failed to solve: {error}",
        _excerpt(name, text, [(x.start, x.end) for x in meta.locations]),
        tuple(error.cause.output) if isinstance(error.cause, StepError) else (),
        meta.name,
        error.hint,
        error.exit_code,
    )


def _excerpt(name: str, text: bytes, lines: list[tuple[int, int]]) -> str:
    from frontend.errors import Range
    from frontend.excerpt import excerpt

    return excerpt(name, text, [Range(start, end) for start, end in lines])
