"""What a terminal is not for: reading an archive from it, or writing one to it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from builder import UsageError

if TYPE_CHECKING:
    from builder import BuildRequest

_ARCHIVES = ("tar", "oci", "docker")


def check_terminals(request: BuildRequest) -> None:
    """UsageError before anything is opened."""
    if "-" in (request.context, request.file) and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("nothing to read: standard input is a terminal", hint="pipe a Dockerfile or an archive into it")
    for spec in request.outputs:
        if spec.type in _ARCHIVES:
            check_archive(spec.dest, spec.type)


def check_archive(dest: str, form: str) -> None:
    """``dest`` empty or ``-`` is standard output. UsageError."""
    if dest in ("", "-") and os.isatty(1):
        raise UsageError(f"dest is required for {form} output: refusing to write an archive to a terminal")
