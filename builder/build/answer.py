"""Questions about a Dockerfile that need no build: buildx' ``--call``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.text.gojson import JSON
    from frontend.convert import ConvertOptions, MetaResolver

METHODS = ("check", "lint", "outline", "targets")


@dataclass(frozen=True, slots=True)
class Answer:
    """For people (``text``) and for programs (``document``, of JSON's types). ``status`` is the exit code that buildx has for it, 1
    for a check that found something; ``error`` the line that it then ends with."""

    text: str
    document: JSON
    error: str = ""
    status: int = 0


def check_method(method: str) -> None:
    """UsageError if there is no such question."""
    if method not in METHODS:
        raise UsageError(f"--call={method} is not supported", hint="methods are build, check, outline, targets")


def answer(method: str, dockerfile: bytes, options: ConvertOptions, resolver: MetaResolver) -> Answer:
    """``method`` is one of METHODS; ``lint`` is ``check``. Errors of the Dockerfile are the frontend's."""
    from frontend import requests

    match method:
        case "targets":
            targets = requests.list_targets(dockerfile)
            return Answer(targets.text(), targets.json())
        case "outline":
            outline = requests.outline(dockerfile, options, resolver)
            return Answer(outline.text(), outline.json())
    found = requests.check(dockerfile, options, resolver)
    return Answer(found.text(), found.json(), found.error_text(), found.status)
