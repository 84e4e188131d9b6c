"""Progress as one JSON object a line, in the shape of buildx' ``--progress=rawjson``: client.SolveStatus as Go encodes it.

Bytes are base64, what is empty is left out, a vertex comes first without a start: as it was loaded.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import BinaryIO

from builder.progress.events import Event, Log, Status, VertexCompleted, VertexKnown, VertexStarted, Warned
from builder.progress.trace import Trace
from builder.text.gojson import JSONObject
from builder.text.redact import redact_text
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
            self._out.write(json.dumps(self._encode(event), separators=(",", ":")).encode() + b"\n")
            self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""

    def _time(self, at: float) -> str:
        return format_rfc3339(int((at + self._offset) * 1e9))

    def _encode(self, event: Event) -> JSONObject:
        if isinstance(event, Warned):
            return {"warnings": [_warning(event)]}
        if isinstance(event, Log):
            return {"logs": [self._log(event)]}
        if isinstance(event, Status):
            return {"statuses": [self._status(event)]}
        return {"vertexes": [self._vertex(event)]}

    def _vertex(self, event: VertexKnown | VertexStarted | VertexCompleted) -> JSONObject:
        vertex: JSONObject = {"digest": event.digest}
        if inputs := self.trace.inputs.get(event.digest):
            vertex["inputs"] = list(inputs)
        if event.name:
            vertex["name"] = event.name
        if isinstance(event, VertexKnown):
            return vertex
        view = self.trace.vertexes.get(event.digest)
        vertex["started"] = self._time(view.started if view else event.time)
        if isinstance(event, VertexCompleted):
            vertex["completed"] = self._time(event.time)
            if event.cached:
                vertex["cached"] = True
            if event.error:
                vertex["error"] = event.error
        return vertex

    def _status(self, event: Status) -> JSONObject:
        view = self.trace.vertexes.get(event.digest)
        started = view.statuses[event.id].started if view else event.time
        status: JSONObject = {"id": event.id, "vertex": event.digest}
        if event.total:
            status["total"] = event.total
        status |= {"current": event.current, "timestamp": self._time(event.time), "started": self._time(started)}
        if event.completed:
            status["completed"] = self._time(event.time)
        return status

    def _log(self, event: Log) -> JSONObject:
        data = base64.b64encode(event.data).decode("ascii")
        return {"vertex": event.digest, "stream": event.stream, "data": data, "timestamp": self._time(event.time)}


def _warning(event: Warned) -> JSONObject:
    warning: JSONObject = {"vertex": event.digest} if event.digest is not None else {}
    warning |= {"level": 1, "short": _base64(event.short)}
    if event.detail:
        warning["detail"] = [_base64(event.detail)]
    if event.url:
        warning["url"] = event.url
    if event.file is not None:
        name, text = event.file
        data = _base64(redact_text(text.decode("utf-8", "surrogateescape")))
        warning["sourceInfo"] = {"filename": name, "data": data, "language": "Dockerfile"}
    if event.lines:
        warning["range"] = [{"start": {"line": first}, "end": {"line": last}} for first, last in event.lines]
    return warning


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")
