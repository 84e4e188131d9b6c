"""Which display shows a build: a terminal gets the live one, anything else plain lines. All of it goes to standard error."""

from __future__ import annotations

import os
import sys
from typing import Protocol

from builder import Event, UsageError


class Display(Protocol):
    """A sink with an end."""

    def __call__(self, event: Event) -> None: ...
    def close(self) -> None: ...


class _Quiet:
    def __call__(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass


def open_display(kind: str, *, quiet: bool) -> Display:
    """``kind`` as --progress has it; BUILDKIT_PROGRESS stands in for auto."""
    kind = _resolved(kind)
    if quiet or kind in ("quiet", "none"):
        return _Quiet()
    if kind == "auto":
        kind = "tty" if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" else "plain"
    if kind == "plain":
        from builder.progress.plain import PlainDisplay

        return PlainDisplay(sys.stderr.buffer)
    if kind == "tty":
        if not sys.stderr.isatty():
            raise UsageError("failed to get console: --progress=tty needs a terminal on standard error")
        from builder.progress.tty import TTYDisplay

        return TTYDisplay(sys.stderr.buffer)
    if kind == "rawjson":
        from builder.progress.rawjson import RawJSONDisplay

        return RawJSONDisplay(sys.stderr.buffer)
    raise UsageError(f"invalid progress mode {kind!r}", hint="modes are auto, plain, tty, rawjson, quiet")


def is_for_programs(kind: str) -> bool:
    """Does the display print JSON alone? What is said behind it has to be an event too."""
    return _resolved(kind) == "rawjson"


def _resolved(kind: str) -> str:
    return os.environ.get("BUILDKIT_PROGRESS", kind) if kind == "auto" else kind
