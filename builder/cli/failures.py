"""Any exception to the text and exit code it ends with."""

from __future__ import annotations

import errno

from builder.cli.report import excerpt, failure


def describe_failure(error: Exception) -> tuple[str, int]:
    """(text for standard error, exit code)."""
    from builder.build.result import BuildError
    from builder.errors import PybuildError
    from frontend.errors import FrontendError
    from runtime.errors import RuntimeFault

    name, source = "", b""
    if isinstance(error, BuildError):
        name, source, error = error.dockerfile_name, error.dockerfile, error.cause
    if isinstance(error, FrontendError):
        ranges = [(r.start, r.end) for r in error.ranges]
        return failure(str(error), source=excerpt(name, source, ranges)), 1
    if isinstance(error, PybuildError):
        return _known(error, name, source), error.exit_code
    if isinstance(error, RuntimeFault):
        return failure(str(error), hint=error.hint), 1
    if isinstance(error, OSError) and error.errno is not None:
        hint = "free space, or run `pybuild prune`" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        where = f"{error.filename}: " if error.filename else ""
        return failure(f"{where}{error.strerror}", hint=hint), 1
    text = f"internal error: {type(error).__name__}: {error}"
    return failure(text, hint="this is a bug of pybuild; --debug shows the traceback"), 1


def _known(error: Exception, name: str, source: bytes) -> str:
    from builder.errors import StepError
    from builder.solver.errors import SolveError

    hint = getattr(error, "hint", "")
    if not isinstance(error, SolveError):
        return failure(str(error), hint=hint)
    meta = error.vertex.meta
    output = error.cause.output if isinstance(error.cause, StepError) else ()
    lines = excerpt(name, source, [(x.start, x.end) for x in meta.locations])
    return failure(f"failed to build: failed to solve: {error}", output=output, title=meta.name, source=lines, hint=hint)
