"""Progress as one JSON object a line, in the shape of buildx' ``--progress=rawjson`` (client.SolveStatus)."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any, BinaryIO

from builder.progress.events import Event, Log, Status, VertexCompleted, VertexStarted, Warned
from builder.progress.trace import Trace
from builder.text.times import format_rfc3339


class RawJSONDisplay:
    """A sink that prints events as they come."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._offset = time.time() - time.monotonic()
        self.trace = Trace()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.trace.apply(event)
            self._out.write(json.dumps(self._encode(event)).encode() + b"\n")
            self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""

    def _time(self, at: float) -> str:
        return format_rfc3339(int((at + self._offset) * 1e9))

    def _encode(self, event: Event) -> dict[str, Any]:
        if isinstance(event, Warned):
            return {"warnings": [{"short": event.short, "detail": event.detail, "url": event.url, "line": event.line}]}
        if isinstance(event, Log):
            data = base64.b64encode(event.data).decode()
            return {"logs": [{"vertex": event.digest, "stream": event.stream, "data": data, "timestamp": self._time(event.time)}]}
        view = self.trace.vertexes.get(event.digest)
        if isinstance(event, Status):
            started = view.statuses[event.id].started if view else event.time
            status: dict[str, Any] = {
                "id": event.id,
                "vertex": event.digest,
                "current": event.current,
                "total": event.total,
                "timestamp": self._time(event.time),
                "started": self._time(started),
            }
            if event.completed:
                status["completed"] = self._time(event.time)
            return {"statuses": [status]}
        started_at = self._time(view.started if view else event.time)
        vertex: dict[str, Any] = {"digest": event.digest, "name": event.name, "started": started_at}
        if isinstance(event, VertexCompleted):
            vertex["completed"] = self._time(event.time)
            if event.cached:
                vertex["cached"] = True
            if event.error:
                vertex["error"] = event.error
        assert isinstance(event, VertexStarted | VertexCompleted)
        return {"vertexes": [vertex]}
