"""A failure as the user sees it: the step's output, the Dockerfile's lines, one line of cause, a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.text.gojson import valid_utf8
from builder.text.redact import redact_text

if TYPE_CHECKING:
    from builder import Failure


def failure_text(found: Failure) -> str:
    """For standard error. Credentials of URLs are masked, but for ``output``: those are a step's own words."""
    parts: list[str] = []
    if found.output:
        parts += ["------", f" > {redact_text(found.title)}:", *found.output, "------"]
    if found.source:
        parts += [redact_text(line.rstrip()) for line in found.source.removesuffix("\n").split("\n")]
    parts.append(f"ERROR: {redact_text(found.message)}")
    if found.hint:
        parts.append(f"hint: {redact_text(found.hint)}")
    return valid_utf8("\n".join(parts) + "\n").replace("\0", "\ufffd")
