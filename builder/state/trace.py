"""What a process did and when, for people who want to know why a build was slow, or why it decided as it did.

PYBUILD_TRACE=FILE writes it: a line an event, or, where FILE ends in ``.json``, Chrome's trace format (chrome://tracing, Perfetto).
``--debug`` keeps the last events in memory and shows them with an error. Off, which is the rule, an event costs one comparison.

    trace.event("solver", "edge", edge=..., wanted="COMPLETE")    a moment
    with trace.span("net", "GET", url=...): ...                   something that takes time, shown when it is over

Categories: solver (each look at an edge; each content key that is asked for, and why), cache (layers unpacked), lock (waits), net
(requests), process (git), step (sandboxes), export. Values are shown as text; credentials of URLs are masked.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

KEPT = 300
"""Events that ``remember`` keeps."""

_tracer: Tracer | None = None
_NOTHING: AbstractContextManager[None] = nullcontext()


def event(category: str, name: str, /, **values: object) -> None:
    """Something happened now."""
    if _tracer is not None:
        _tracer.add(category, name, time.monotonic_ns(), 0, values)


def span(category: str, name: str, /, **values: object) -> AbstractContextManager[None]:
    """The block takes time; an error that ends it is told."""
    return _NOTHING if _tracer is None else _tracer.span(category, name, values)


def is_on() -> bool:
    """For call sites whose values cost something to make."""
    return _tracer is not None


def start(environ: dict[str, str] | os._Environ[str], *, debug: bool) -> None:
    """Begin, if the environment or ``debug`` asks for it. UsageError if the file can't be written."""
    global _tracer
    path = environ.get("PYBUILD_TRACE", "")
    if path or debug:
        _tracer = Tracer(path, keep=KEPT if debug else 0)


def stop() -> list[str]:
    """End; the lines that were kept."""
    global _tracer
    tracer, _tracer = _tracer, None
    if tracer is None:
        return []
    tracer.close()
    return list(tracer.kept)


class Tracer:
    """Events to a file, or to the last few in memory. Thread-safe; forked children write to the same file."""

    def __init__(self, path: str, *, keep: int) -> None:
        self.kept: deque[str] = deque(maxlen=keep)
        self._began = time.monotonic_ns()
        self._chrome = path.endswith(".json")
        self._fd = -1
        if path:
            from builder.errors import UsageError

            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
            except OSError as e:
                raise UsageError(f"PYBUILD_TRACE: can't write {path}: {e.strerror}") from e
            os.set_blocking(self._fd, True)
            if self._chrome:
                self._write("[\n")  # the format allows the closing bracket to be missing: a killed process leaves a whole trace

    def add(self, category: str, name: str, at_ns: int, took_ns: int, values: dict[str, object]) -> None:
        from builder.text.redact import redact_text

        shown: dict[str, object] = {k: v if isinstance(v, int | float) else redact_text(str(v)) for k, v in values.items()}
        thread = threading.current_thread().name
        if self._chrome:
            self._write(self._chrome_line(category, name, at_ns, took_ns, shown))
        if (self._fd >= 0 and not self._chrome) or self.kept.maxlen:
            took = f" {took_ns / 1e6:.1f}ms" if took_ns else ""
            rest = "".join(f" {k}={v}" for k, v in shown.items())
            line = f"{(at_ns - self._began) / 1e9:9.4f} {category:7} {name}{took}{rest} [{thread}]"
            self.kept.append(line)
            if self._fd >= 0 and not self._chrome:
                self._write(line + "\n")

    @contextmanager
    def span(self, category: str, name: str, values: dict[str, object]) -> Iterator[None]:
        begin = time.monotonic_ns()
        try:
            yield
        except BaseException as e:
            values = {**values, "error": f"{type(e).__name__}: {e}"}
            raise
        finally:
            self.add(category, name, begin, time.monotonic_ns() - begin, values)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _chrome_line(self, category: str, name: str, at_ns: int, took_ns: int, values: dict[str, object]) -> str:
        import json

        doc = {
            "name": name,
            "cat": category,
            "ph": "X" if took_ns else "i",
            "ts": (at_ns - self._began) / 1e3,
            "dur": took_ns / 1e3,
            "pid": os.getpid(),
            "tid": threading.get_native_id(),
            "args": values,
        }
        return json.dumps(doc) + ",\n"

    def _write(self, text: str) -> None:
        try:
            os.write(self._fd, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk must not end a build because somebody watches it
