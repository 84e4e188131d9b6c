"""The network under the token: every wait of a request ends when the work is called off."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from builder.errors import CancelledError
from builder.net import sockets
from builder.net.transport import HttpxTransport, Request, TransportError
from builder.state.cancel import Token, scope

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """``serve`` gets each connection; it is closed when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as stack:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = stack.enter_context(listening.accept()[0])
                    serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("stalls", ["before the answer", "within the body"])
def test_a_stalled_answer_ends(stalls: str) -> None:
    token = Token()

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        if stalls == "within the body":
            connection.sendall(HEAD + b"12345")
        token.set()

    with server(serve) as port, scope(token), pytest.raises(CancelledError):
        HttpxTransport().send(Request("GET", f"http://127.0.0.1:{port}/x")).read(1 << 20)


def test_a_stalled_upload_ends() -> None:
    token = Token()

    def body() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        token.set()

    with server(serve) as port, scope(token), pytest.raises(CancelledError):
        HttpxTransport().send(Request("PUT", f"http://127.0.0.1:{port}/x", body=body))


def test_a_stalled_handshake_ends() -> None:
    token = Token()

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        token.set()

    with server(serve) as port, scope(token), pytest.raises(CancelledError):
        HttpxTransport().send(Request("GET", f"https://127.0.0.1:{port}/x"))


def test_a_name_server_that_does_not_answer_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    token, answer = Token(), threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, port: int, **kwargs: int) -> list[object]:
        if kwargs.get("flags"):
            return real(host, port, **kwargs)
        token.set()
        answer.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        with scope(token), pytest.raises(CancelledError):
            sockets.resolve("registry.invalid", 443)
    finally:
        answer.set()


def test_a_connection_is_used_again() -> None:
    accepted: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        accepted.append(connection)
        while connection.recv(1 << 16):
            connection.sendall(HEAD + b"0123456789")

    with server(serve) as port:
        transport = HttpxTransport()
        for _ in range(3):
            assert transport.send(Request("GET", f"http://127.0.0.1:{port}/x")).read(100) == b"0123456789"
        transport.close()
    assert len(accepted) == 1


def test_requests_go_over_a_socks_proxy() -> None:
    spoken: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        spoken.append(connection.recv(1 << 16))
        connection.sendall(b"\x05\x00")
        spoken.append(connection.recv(1 << 16))
        connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        connection.recv(1 << 16)
        connection.sendall(HEAD + b"0123456789")

    with server(serve) as port:
        transport = HttpxTransport({"ALL_PROXY": f"socks5h://127.0.0.1:{port}"})
        assert transport.send(Request("GET", "http://far.example/x")).read(100) == b"0123456789"
        transport.close()
    assert spoken[0][0] == 5
    assert b"far.example" in spoken[1]


def test_a_refused_connection_is_an_error_of_the_transport() -> None:
    with pytest.raises(TransportError, match="Connection refused"):
        HttpxTransport({}).send(Request("GET", "http://127.0.0.1:1/"))
