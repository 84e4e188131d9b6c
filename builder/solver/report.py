"""Progress of vertices, by BuildKit's rule for what counts as cached (solver/jobs.go notifyStarted, solver/progress.go
vertexStream)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from builder.errors import CancelledError
from builder.oci.digest import Digest
from builder.progress.events import Sink, VertexCompleted, VertexKnown, VertexStarted
from builder.text.redact import redact_text

if TYPE_CHECKING:
    from builder.solver.vertexstate import VertexState


class Reporter:
    """Turns what happens to vertices into events. Thread-safe.

    When a vertex starts, each vertex below it that has not ended was found by its key, so nothing needed to be done for it: it is
    reported as cached at that moment, inputs first. A vertex may start and end more than once: a source when its key is made, and
    again when it is pulled.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._seen: set[Digest] = set()

    def known(self, state: VertexState) -> None:
        """It is part of what is solved."""
        inputs = tuple(s.vertex.digest for s, _ in state.inputs)
        self._sink(VertexKnown(state.vertex.digest, state.name, inputs))

    def started(self, state: VertexState) -> None:
        now = time.monotonic()
        with self._lock:
            for below in self._unseen_below(state):
                name = below.name
                self._sink(VertexStarted(below.vertex.digest, name, now))
                self._sink(VertexCompleted(below.vertex.digest, name, now, cached=True))
            self._seen.add(state.vertex.digest)
            self._sink(VertexStarted(state.vertex.digest, state.name, now))

    def completed(self, state: VertexState, error: BaseException | None = None, *, cached: bool = False) -> None:
        cancelled = isinstance(error, CancelledError)
        text = "" if error is None else redact_text(str(error)).partition("\n")[0] or type(error).__name__
        with self._lock:
            self._sink(
                VertexCompleted(
                    state.vertex.digest,
                    state.name,
                    time.monotonic(),
                    cached=cached and error is None,
                    error=text,
                    cancelled=cancelled,
                )
            )

    def at_once(self, state: VertexState, error: BaseException | None = None, *, cached: bool = False) -> None:
        """Start and end in one."""
        self.started(state)
        self.completed(state, error, cached=cached)

    def _unseen_below(self, state: VertexState) -> list[VertexState]:
        out: list[VertexState] = []
        stack: list[tuple[VertexState, bool]] = [(s, False) for s, _ in reversed(state.inputs)]
        while stack:
            s, expanded = stack.pop()
            if expanded:
                out.append(s)
            elif s.vertex.digest not in self._seen:
                self._seen.add(s.vertex.digest)
                stack.append((s, True))
                stack += [(i, False) for i, _ in reversed(s.inputs)]
        return out
