"""``--call=check|outline|targets``: questions that build nothing."""

from __future__ import annotations

import sys

from builder.build.pipeline import opened
from builder.build.request import BuildRequest
from builder.errors import UsageError
from builder.text import gojson


def run_call(request: BuildRequest, method: str, form: str, *, root: str, config: str) -> int:
    """Answer on standard output; 1 if a check found something."""
    from frontend import requests

    as_json = _format(form)
    with opened(request, root, config, None) as build:
        inputs = build.read()
        options, resolver = build.options(), build.resolver()
        if method == "targets":
            targets = requests.list_targets(inputs.dockerfile)
            text, doc, error, status = targets.text(), targets.json(), "", 0
        elif method == "outline":
            outline = requests.outline(inputs.dockerfile, options, resolver)
            text, doc, error, status = outline.text(), outline.json(), "", 0
        else:
            result = requests.check(inputs.dockerfile, options, resolver)
            text, doc, error, status = result.text(), result.json(), result.error_text(), result.status
    sys.stdout.write(gojson.text(doc, indent=2) if as_json else text)
    sys.stdout.flush()
    if error and not as_json:
        sys.stderr.write(f"ERROR: {error}" if error.endswith("\n") else f"ERROR: {error}\n")
    return status


def _format(form: str) -> bool:
    if form in ("", "format=text"):
        return False
    if form == "format=json":
        return True
    raise UsageError(f"unknown option {form!r} for --call", hint="formats are format=text and format=json")
