"""Git over smart http on loopback: ``git http-backend`` behind a server that keeps what it was asked, and may redirect."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self


class GitServer:
    """Serves the repositories below ``area``. ``moved`` maps the beginning of a path to what stands there in the redirect's target.

    ``asked`` are (path with query, Authorization or empty) of all requests. ``private`` are the methods that get nothing without
    Authorization.
    """

    def __init__(self, area: str = "", *, moved: Mapping[str, str] | None = None, private: Collection[str] = ()) -> None:
        self.area, self.private = area, private
        self.moved = dict(moved or {})
        self.asked: list[tuple[str, str]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"

    @property
    def sent(self) -> set[str]:
        """Every Authorization that came."""
        return {value for _, value in self.asked if value}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(server: GitServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def _answer(self, body: bytes) -> None:
            sent = self.headers.get("Authorization", "")
            server.asked.append((self.path, sent))
            path, _, query = self.path.partition("?")
            old = next((p for p in server.moved if path.startswith(p)), "")
            if old:
                self._head(301, [("Location", server.moved[old] + self.path[len(old) :])])
            elif self.command in server.private and not sent:
                self._head(401, [("WWW-Authenticate", 'Basic realm="x"')])
            else:
                self._backend(path, query, body)

        def _backend(self, path: str, query: str, body: bytes) -> None:
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": server.area,
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_ADDR": "127.0.0.1",
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
            head, _, data = done.stdout.partition(b"\r\n\r\n")
            fields = [(k, v.strip()) for k, _, v in (line.partition(":") for line in head.decode().splitlines())]
            status = next((int(v.split()[0]) for k, v in fields if k == "Status"), 200)
            self._head(status, [f for f in fields if f[0] not in ("Status", "Content-Length")], data)

        def _head(self, status: int, fields: list[tuple[str, str]], data: bytes = b"") -> None:
            self.send_response(status)
            for name, value in (*fields, ("Content-Length", str(len(data)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler
