"""Registries that misbehave: they serve an OCI layout over http on loopback, and one thing about each is wrong."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.support.beacon import WAIT
from tests.support.oci import MANIFEST


class LayoutRegistry:
    """Serves the layout's image as any repository and tag, byte for byte. ``host`` is ``127.0.0.1:PORT``.

    Subclasses change single answers: ``deny`` and ``refuse`` (a status in place of an answer) and ``change`` (other bytes).
    ``asked`` are the paths of all requests, ``sent`` every Authorization that came.
    """

    def __init__(self, layout: str) -> None:
        self._layout = layout
        with open(os.path.join(layout, "index.json"), encoding="utf-8") as f:
            (top,) = json.load(f)["manifests"]
        self.manifest_digest: str = top["digest"]
        with open(self._path(self.manifest_digest), "rb") as f:
            self.manifest = f.read()
        self.layers: list[str] = [layer["digest"] for layer in json.loads(self.manifest)["layers"]]
        self.asked: list[str] = []
        self.sent: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def deny(self, path: str) -> tuple[int, dict[str, str]] | None:
        """(status, headers) to refuse with; None to answer."""
        return None

    def refuse(self, authorization: str) -> tuple[int, dict[str, str]] | None:
        """As ``deny``, by what was sent as Authorization (empty: nothing)."""
        return None

    def change(self, digest: str, data: bytes) -> bytes:
        """The bytes to give for a digest in place of ``data``."""
        return data

    def before_body(self, digest: str, handler: BaseHTTPRequestHandler, data: bytes) -> bytes:
        """Called when the headers are sent; gives what is left to send."""
        return data

    def document(self, path: str) -> tuple[str, str, bytes] | None:
        """(digest, media type, bytes) of a request's path."""
        digest = path.rpartition("/")[2]
        if "/manifests/" in path:
            return self.manifest_digest, MANIFEST, self.manifest
        try:
            with open(self._path(digest), "rb") as f:
                return digest, "application/octet-stream", f.read()
        except (FileNotFoundError, ValueError):
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(WAIT)
        self._server.server_close()

    def _path(self, digest: str) -> str:
        algorithm, _, value = digest.partition(":")
        return os.path.join(self._layout, "blobs", algorithm, value)


class ClosedRegistry(LayoutRegistry):
    """Wants credentials that nobody has."""

    def deny(self, path: str) -> tuple[int, dict[str, str]]:
        return 401, {"WWW-Authenticate": 'Basic realm="closed"'}


class EmptyRegistry(LayoutRegistry):
    """Knows no repository."""

    def deny(self, path: str) -> tuple[int, dict[str, str]] | None:
        return (200, {}) if path == "/v2/" else (404, {})


class TamperingRegistry(LayoutRegistry):
    """One blob's bytes are not those of its digest; the length is right."""

    def __init__(self, layout: str, *, layer: int | None) -> None:
        """``layer`` None: the manifest is another one than the tag's digest says."""
        super().__init__(layout)
        self.victim = self.manifest_digest if layer is None else self.layers[layer]

    def change(self, digest: str, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if digest == self.victim else data


class StallingRegistry(LayoutRegistry):
    """Sends half of the first layer, and then nothing until ``go_on``."""

    def __init__(self, layout: str) -> None:
        super().__init__(layout)
        self._stalled, self._go_on = threading.Event(), threading.Event()

    def before_body(self, digest: str, handler: BaseHTTPRequestHandler, data: bytes) -> bytes:
        if digest != self.layers[0] or self._go_on.is_set():
            return data
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        self._stalled.set()
        self._go_on.wait(WAIT)
        return data[len(data) // 2 :]

    def wait_until_stalled(self) -> None:
        assert self._stalled.wait(WAIT), "nobody asked for the layer"

    def go_on(self) -> None:
        self._go_on.set()


def _handler(registry: LayoutRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self, *, body: bool) -> None:
            sent = self.headers.get("Authorization", "")
            registry.asked.append(self.path)
            registry.sent |= {sent} - {""}
            denied = registry.refuse(sent) or registry.deny(self.path)
            found = None if denied else registry.document(self.path)
            status, headers = denied or ((200, {}) if found or self.path == "/v2/" else (404, {}))
            digest, media_type, data = found or ("", "application/json", b"{}")
            data = registry.change(digest, data)
            if found and (asked := self.headers.get("Range")):
                start = int(asked.removeprefix("bytes=").partition("-")[0])
                headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                status, data = 206, data[start:]
            if found:
                headers = {**headers, "Docker-Content-Digest": digest, "Content-Type": media_type}
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                try:
                    self.wfile.write(registry.before_body(digest, self, data))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

    return Handler
