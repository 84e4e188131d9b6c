"""``.dockerignore`` files: text to patterns (moby's ignorefile)."""

from __future__ import annotations

from builder.text.patterns import clean
from frontend.errors import FrontendError
from frontend.gotext import SPACE, byte_length

DEFAULT_NAME = ".dockerignore"
_MAX_LINE = 65535  # bytes; bufio.Scanner's


def candidate_names(dockerfile: str) -> tuple[str, str]:
    """Where to look, in this order: ``NAME.dockerignore`` beside the Dockerfile, ``.dockerignore`` in the context."""
    return f"{dockerfile}{DEFAULT_NAME}", DEFAULT_NAME


def read_patterns(text: str) -> tuple[str, ...]:
    """The patterns of an ignore file, cleaned, without a leading ``/``, ``!`` kept in front.

    ``#`` starts a comment in the first column only. Raises ``FrontendError`` for a line that is too long.
    """
    patterns: list[str] = []
    for line in text.removeprefix("\ufeff").split("\n"):
        if len(line) * 4 > _MAX_LINE and byte_length(line) > _MAX_LINE:
            raise FrontendError("bufio.Scanner: token too long")
        if not line.startswith("#") and (pattern := line.strip(SPACE)):
            patterns.append(_clean_pattern(pattern))
    return tuple(patterns)


def _clean_pattern(pattern: str) -> str:
    mark = "!" if pattern.startswith("!") else ""
    pattern = pattern[len(mark) :].strip(SPACE)
    if not pattern:
        return mark
    pattern = clean(pattern)
    return mark + (pattern[1:] if len(pattern) > 1 and pattern[0] == "/" else pattern)
