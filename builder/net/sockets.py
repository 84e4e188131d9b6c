"""Sockets under the cancellation token: connecting, the TLS handshake, reading and writing all end when the work is called off.

httpcore's own backend blocks in the kernel, where nothing but a timeout reaches it: a stalled download held a build for a minute
after Ctrl-C. Here every socket is non-blocking, and each wait is for the socket and the token together.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import httpcore

from builder.state import cancel, threads

T = TypeVar("T")
_RECORD = 1 << 14
_WANTS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream(httpcore.NetworkStream):
    """One connection, plain or TLS. Timeouts in seconds; httpcore's errors come out, or CancelledError."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return _until(self._sock, lambda: self._sock.recv(max_bytes), timeout, httpcore.ReadTimeout)
        except OSError as e:
            raise httpcore.ReadError(e) from e

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        try:
            while view:
                sent = _until(self._sock, lambda v=view: self._sock.send(v), timeout, httpcore.WriteTimeout)  # type: ignore[misc]
                view = view[sent:]
        except OSError as e:
            raise httpcore.WriteError(e) from e

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        if isinstance(self._sock, ssl.SSLSocket):
            return _Nested(self, ssl_context, server_hostname, timeout)
        try:
            sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname, do_handshake_on_connect=False)
            try:
                _until(sock, sock.do_handshake, timeout, httpcore.ConnectTimeout)
            except BaseException:
                sock.close()
                raise
        except OSError as e:
            raise httpcore.ConnectError(e) from e
        return Stream(sock)

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object":
                return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
            case "client_addr":
                return self._sock.getsockname()
            case "server_addr":
                return self._sock.getpeername()
            case "socket":
                return self._sock
            case "is_readable":
                return self._sock.fileno() < 0 or bool(cancel.poll_now(self._sock.fileno()))
        return None


class _Nested(httpcore.NetworkStream):
    """TLS inside TLS, for https registries behind a proxy that speaks https itself: an SSLSocket can't wrap another."""

    def __init__(self, outer: Stream, context: ssl.SSLContext, hostname: str | None, timeout: float | None) -> None:
        self._outer = outer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=hostname)
        try:
            self._do(self._tls.do_handshake, timeout)
        except ssl.SSLError as e:
            raise httpcore.ConnectError(e) from e

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._do(lambda: self._tls.read(max_bytes), timeout)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as e:
            raise httpcore.ReadError(e) from e

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        try:
            while view:
                view = view[self._do(lambda v=view: self._tls.write(v), timeout) :]  # type: ignore[misc]
        except ssl.SSLError as e:
            raise httpcore.WriteError(e) from e

    def close(self) -> None:
        self._outer.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._outer.get_extra_info(info)

    def _do(self, step: Callable[[], T], timeout: float | None) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush(timeout)
                data = self._outer.read(_RECORD, timeout)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
                continue
            self._flush(timeout)
            return done

    def _flush(self, timeout: float | None) -> None:
        if self._out.pending:
            self._outer.write(self._out.read(), timeout)


class Backend(httpcore.NetworkBackend):
    """What httpcore connects with."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """The first address of the host that takes a connection. ``timeout`` is for each."""
        last: Exception = OSError("no address")
        try:
            addresses = resolve(host, port)
        except OSError as e:
            raise httpcore.ConnectError(e) from e
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
            try:
                for option in socket_options or ():
                    sock.setsockopt(*option)
                if local_address is not None:
                    sock.bind((local_address, 0))
                _connect(sock, address, timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Stream(sock)
            except (OSError, httpcore.ConnectTimeout) as e:
                sock.close()
                last = e
            except BaseException:
                sock.close()
                raise
        if isinstance(last, httpcore.ConnectTimeout):
            raise last
        raise httpcore.ConnectError(last) from last

    def sleep(self, seconds: float) -> None:
        cancel.sleep(seconds)


def resolve(host: str, port: int) -> list[Any]:
    """getaddrinfo, in a thread where it may ask a server: it can't be interrupted, but it can be left alone. OSError,
    CancelledError."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    found: list[Any] = []
    errors: list[OSError] = []
    done = os.eventfd(0, os.EFD_CLOEXEC)
    keep = os.dup(done)  # the thread's own: it may come back when nobody waits any more

    def ask() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as e:
            errors.append(e)
        finally:
            os.eventfd_write(keep, 1)
            os.close(keep)

    try:
        threads.start(ask, "resolve")
        cancel.readable(done)
    finally:
        os.close(done)
    if errors:
        raise errors[0]
    return found


def _connect(sock: socket.socket, address: Any, timeout: float | None) -> None:
    code = sock.connect_ex(address)
    if code in (0, 106):  # EISCONN
        return
    if code != 115:  # EINPROGRESS
        raise OSError(code, os.strerror(code))
    if not cancel.writable(sock, timeout):
        raise httpcore.ConnectTimeout("timed out")
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _until(sock: socket.socket, step: Callable[[], T], timeout: float | None, late: type[Exception]) -> T:
    """Do ``step``, waiting for the socket as often as it wants to read or write. Raises ``late`` where that takes too long."""
    while True:
        try:
            return step()
        except _WANTS as e:
            # A plain socket says BlockingIOError for both; only a send can be waiting for room, and then reading says nothing.
            wait = cancel.writable if isinstance(e, ssl.SSLWantWriteError) or late is httpcore.WriteTimeout else cancel.readable
            if isinstance(e, ssl.SSLWantReadError):
                wait = cancel.readable
            if not wait(sock, timeout):
                raise late("timed out") from None
