"""``pybuild build``, ``graph`` and ``--call``: a request to the library, its events to a display, results to files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from builder import UsageError, Warned
from builder.cli.common import open_root
from builder.cli.displays import is_for_programs, open_display
from builder.cli.terminals import check_terminals
from builder.text import gojson
from builder.text.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder import Build, BuildRequest, BuildResult, Event


def build(request: BuildRequest, flags: dict[str, Any]) -> int:
    """Build, show it, write what tools read after it; the exit code."""
    check_terminals(request)
    request.check()
    _check_files(request, flags)
    with open_root(flags) as root:
        job = root.build(request)
        job.explained = flags["explain"]
        display = open_display(flags["progress"], quiet=flags["quiet"])
        try:
            result = job.run(display)
            _write_files(result, flags)
        except (Exception, KeyboardInterrupt):
            display.close()
            _warn(job.warnings, display, flags)
            _explain(job, failed=True)
            raise
        display.close()
        _explain(job, failed=False)
    _warn(result.warnings, display, flags)
    if not flags["quiet"] and not is_for_programs(flags["progress"]):
        _show_findings(result.findings)
        if not request.outputs:
            hint = "name an image with -t, push it with --push, or write it with --output"
            sys.stderr.write(f"[Warning] No output specified: the build result only remains in the build cache; {hint}\n")
    return 0


def graph(request: BuildRequest, form: str, flags: dict[str, Any]) -> int:
    """Convert and print."""
    check_terminals(request)
    with open_root(flags) as root:
        display = open_display("auto", quiet=False)
        try:
            found = root.build(request).graph(display)
        finally:
            display.close()
    print(found.to_json() if form == "json" else found.to_dot())
    return 0


def call(request: BuildRequest, method: str, form: str, flags: dict[str, Any]) -> int:
    """Answer a question about the Dockerfile on standard output; 1 if a check found something."""
    check_terminals(request)
    as_json = _format(form)
    with open_root(flags) as root:
        display = open_display(flags["progress"], quiet=flags["quiet"])
        job = root.build(request)
        try:
            answer = job.answer(method, display)
        finally:
            display.close()
            _warn(job.warnings, display, flags)
    # The JSON forms repeat the Dockerfile as it is, for programs; people are shown no credentials.
    sys.stdout.write(gojson.text(answer.document, indent=2) if as_json else redact_text(answer.text))
    sys.stdout.flush()
    if answer.error and not as_json:
        error = redact_text(answer.error)
        sys.stderr.write(f"ERROR: {error}" if error.endswith("\n") else f"ERROR: {error}\n")
    return answer.status


def _format(form: str) -> bool:
    if form in ("", "format=text"):
        return False
    if form == "format=json":
        return True
    raise UsageError(f"unknown option {form!r} for --call", hint="formats are format=text and format=json")


def _explain(job: Build, *, failed: bool) -> None:
    """Why steps ran, on standard error, if that was asked for."""
    if not job.explained:
        return
    from builder.cli.why import misses_text, past_misses

    found = past_misses(job.misses)
    if found or not failed:
        sys.stderr.write("\n" + (misses_text(found) if found else "Nothing ran: everything was cached.\n"))


def _check_files(request: BuildRequest, flags: dict[str, Any]) -> None:
    """Names that can't be written are refused before the build; an id of an earlier build does not outlive one that fails."""
    if not flags["iidfile"] and not flags["metadata_file"]:
        return
    from builder import find_place

    if flags["metadata_file"]:
        find_place(flags["metadata_file"])
    if flags["iidfile"]:
        if any(spec.type in ("local", "tar") for spec in request.outputs):
            raise UsageError("local and tar exporters are incompatible with image ID file")
        place = find_place(flags["iidfile"])
        if place.is_file and place.status is not None:
            _forget(place.path)


def _forget(path: str) -> None:
    import os

    try:
        os.unlink(path)
    except OSError:
        try:
            os.truncate(path, 0)  # mounted, or in a folder without permission
        except OSError as e:
            raise UsageError(f"removing image ID file: {path}: {e.strerror}") from e


def _write_files(result: BuildResult, flags: dict[str, Any]) -> None:
    """As buildx: of a build that made no image too, with nothing in them."""
    identity = str(result.image_id or "")
    if flags["iidfile"]:
        _write(flags["iidfile"], identity.encode())
    if flags["metadata_file"]:
        _write(flags["metadata_file"], result.metadata())
    if flags["quiet"]:
        print(identity)


def _write(path: str, data: bytes) -> None:
    from builder import user_file

    with user_file(path) as write:
        write(data)


def _warn(texts: Sequence[str], display: Callable[[Event], object], flags: dict[str, Any]) -> None:
    """After the display: also of a build that failed, since what it did not know may be why."""
    for text in texts:
        if is_for_programs(flags["progress"]):
            display(Warned(text))
        elif not flags["quiet"]:
            sys.stderr.write(f"[Warning] {text}\n")


def _show_findings(findings: Sequence[str]) -> None:
    """The linter's."""
    if findings:
        count = f"{len(findings)} warning{'s' if len(findings) > 1 else ''} found (use --debug to expand):"
        sys.stderr.write(f"\n {count}\n" + "".join(f" - {line}\n" for line in findings))
