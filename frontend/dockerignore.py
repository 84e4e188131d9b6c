"""``.dockerignore`` files: text to patterns (moby's ignorefile)."""

from __future__ import annotations

from builder.text.chars import SPACE, byte_length
from builder.text.paths import clean
from builder.text.patterns import BadPatternError, read_pattern
from frontend.errors import FrontendError

DEFAULT_NAME = ".dockerignore"
_MAX_LINE = 65535  # bytes; bufio.Scanner's


def read_patterns(text: str, name: str = DEFAULT_NAME) -> tuple[str, ...]:
    """The patterns of an ignore file, cleaned, without a leading ``/``, ``!`` kept in front.

    ``#`` starts a comment in the first column only. Raises ``FrontendError`` for a line that is too long and for a pattern that
    is malformed; the message begins with ``name`` and the line.
    """
    patterns: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if len(line) * 4 > _MAX_LINE and byte_length(line) > _MAX_LINE:
            raise FrontendError(f"{name}:{number}: line is longer than {_MAX_LINE} bytes (bufio.Scanner: token too long)")
        if not line.startswith("#") and (pattern := line.strip(SPACE)):
            pattern = _clean_pattern(pattern)
            if pattern == "!" or "[" in pattern or "\\" in pattern:  # others can't be malformed
                try:
                    read_pattern(pattern)
                except BadPatternError as e:
                    raise FrontendError(f"{name}:{number}: {e}") from None
            patterns.append(pattern)
    return tuple(patterns)


def _clean_pattern(pattern: str) -> str:
    mark = "!" if pattern.startswith("!") else ""
    pattern = pattern[len(mark) :].strip(SPACE)
    if not pattern:
        return mark
    pattern = clean(pattern)
    return mark + (pattern[1:] if len(pattern) > 1 and pattern[0] == "/" else pattern)
