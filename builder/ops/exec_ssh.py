"""The user's ssh agent, seen from inside a step (BuildKit: session/sshforward).

The step gets a socket of its own. Of the agent's protocol (draft-miller-ssh-agent) only the two requests that use keys go
through; adding, removing and locking keys, and extensions, are answered with "failure", as BuildKit's read-only agent does.
"""

from __future__ import annotations

import os
import socket
import threading

_REQUEST_IDENTITIES, _SIGN_REQUEST = 11, 13
_FAILURE = b"\0\0\0\x01\x05"
_MAX_MESSAGE = 256 << 10


class AgentForwarder:
    """Listens on ``path`` while it is entered."""

    def __init__(self, agent: str, path: str) -> None:
        self._agent = agent
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def __enter__(self) -> AgentForwarder:
        # By descriptor: a socket's path has at most 107 bytes, and the state root may lie deep.
        folder = os.open(os.path.dirname(self._path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(self._path)}")
        finally:
            os.close(folder)
        self._listener.listen(16)
        threading.Thread(target=self._accept, name="ssh-agent", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for connection in self._open:
                _shut(connection)
        _shut(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="ssh-agent", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with client, agent:
            with self._lock:
                if self._closed:
                    return
                self._open |= {client, agent}
            try:
                agent.connect(self._agent)
                while (message := _read_message(client)) is not None:
                    if message[4] in (_REQUEST_IDENTITIES, _SIGN_REQUEST):
                        agent.sendall(message)
                        answer = _read_message(agent)
                        if answer is None:
                            return
                        client.sendall(answer)
                    else:
                        client.sendall(_FAILURE)
            except OSError:
                pass  # an end that is gone ends the conversation
            finally:
                with self._lock:
                    self._open -= {client, agent}


def _read_message(connection: socket.socket) -> bytes | None:
    """One framed message, length included; None at the end, or for one that is empty or too long."""
    head = _read(connection, 4)
    size = int.from_bytes(head, "big") if head is not None else 0
    if head is None or not 1 <= size <= _MAX_MESSAGE:
        return None
    body = _read(connection, size)
    return None if body is None else head + body


def _read(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            return None
        data += chunk
    return data


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
