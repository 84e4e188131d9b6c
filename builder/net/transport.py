"""The one seam to the network: a request goes in, a response with a stream of bytes comes out.

A transport does exactly what it is told: it follows no redirect, tries nothing twice, adds no credentials, decodes no body.
httpx is imported at the first request, so that a build that needs no network never pays for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from builder.errors import SourceError
from builder.net.proxy import proxy_for
from builder.state import trace
from builder.text.redact import redact_text, redact_url
from builder.values import dataclass, field

if TYPE_CHECKING:
    import ssl

    import httpx

CONNECT_SECONDS = 30.0
IDLE_SECONDS = 60.0
CHUNK = 1 << 18
_KEPT = 32

Body = bytes | Callable[[], Iterable[bytes]] | None
"""What is sent: bytes, or a function that gives the chunks anew for each try."""


class TransportError(SourceError):
    """The connection failed. ``transient``: it may work when tried again. ``tls``: the other side does not speak TLS."""

    def __init__(self, message: str, *, transient: bool, tls: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.transient = transient
        self.tls = tls


@dataclass(frozen=True, slots=True)
class TLS:
    """Settings of one registry: extra CA files, client certificates as (key file, certificate file), no verification at all."""

    ca: tuple[str, ...] = ()
    keypairs: tuple[tuple[str, str], ...] = ()
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """``url`` may hold no credentials: they belong into ``headers``. ``repeatable``: sending it twice does no harm, whatever the
    method; None: as the method has it."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None
    tls: TLS = field(default=TLS())
    repeatable: bool | None = None


class Response:
    """``headers`` have lower-case names; several of one name are joined by ``", "``. Close it, or use it as a context."""

    def __init__(
        self,
        request: Request,
        status: int,
        headers: Mapping[str, str],
        chunks: Iterator[bytes],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.request = request
        self.status = status
        self.headers = headers
        self.chunks = chunks
        self.close = close

    def __enter__(self) -> Response:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def read(self, limit: int) -> bytes:
        """The whole body, ``limit`` bytes of it at most: more is cut off, an endless body ends."""
        out = bytearray()
        for chunk in self.chunks:
            out += chunk
            if len(out) >= limit:
                break
        return bytes(out[:limit])

    @property
    def length(self) -> int | None:
        """Content-Length, if there is a sane one."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class Transport(Protocol):
    """One exchange; the response's body is read while its chunks are taken. TransportError, also from the chunks."""

    def send(self, request: Request) -> Response: ...


class HttpxTransport:
    """Connections are kept and shared by all threads, one pool for each set of TLS settings and each proxy."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """``environ``: where proxies are named; None: this process' own."""
        self._environ = os.environ if environ is None else environ
        self._clients: dict[tuple[TLS, str | None], httpx.Client] = {}
        self._lock = threading.Lock()

    def send(self, request: Request) -> Response:
        """CancelledError as soon as the work is called off, in every wait."""
        import httpcore
        import httpx

        client = self._client(request.tls, proxy_for(request.url, self._environ))
        body = request.body() if callable(request.body) else request.body
        try:
            built = client.build_request(request.method, request.url, headers=dict(request.headers), content=body)
            with trace.span("net", request.method, url=request.url):
                response = client.send(built, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpcore.ProxyError, OSError, ValueError) as e:
            raise _translate(e, request) from e
        headers: dict[str, str] = {}
        for name, value in response.headers.multi_items():
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        return Response(request, response.status_code, headers, _chunks(response, request), response.close)

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, tls: TLS, proxy: str | None) -> httpx.Client:
        import httpx

        with self._lock:
            client = self._clients.get((tls, proxy))
            if client is None:
                client = httpx.Client(
                    transport=_transport(tls, proxy),
                    trust_env=False,
                    follow_redirects=False,
                    timeout=httpx.Timeout(IDLE_SECONDS, connect=CONNECT_SECONDS, pool=None),
                )
                # httpx adds headers of its own; an encoding that nobody asked for would change a blob's bytes.
                client.headers.clear()
                client.headers["User-Agent"] = "pybuild"
                client.headers["Accept-Encoding"] = "identity"
                self._clients[tls, proxy] = client
            return client


def _transport(tls: TLS, proxy: str | None) -> httpx.BaseTransport:
    """A pool of connections over our own sockets."""
    import httpcore
    import httpx

    from builder.net.sockets import Backend

    context = _ssl_context(tls)
    pool: httpcore.ConnectionPool
    if proxy is None:
        pool = httpcore.ConnectionPool(context, max_connections=None, max_keepalive_connections=_KEPT, network_backend=Backend())
    else:
        url = httpx.Proxy(proxy)
        where = httpcore.URL(scheme=url.url.raw_scheme, host=url.url.raw_host, port=url.url.port, target=url.url.raw_path)
        kind = httpcore.SOCKSProxy if url.url.scheme in ("socks5", "socks5h") else httpcore.HTTPProxy
        pool = kind(where, url.raw_auth, ssl_context=context, max_connections=None, network_backend=Backend())
    transport = httpx.HTTPTransport(verify=context, trust_env=False)
    # httpx has no argument for the pool: this one attribute is the only way to other sockets. A test holds it.
    transport._pool = pool
    return transport


def _chunks(response: httpx.Response, request: Request) -> Iterator[bytes]:
    import httpx

    try:
        yield from response.iter_raw(CHUNK)
    except (httpx.HTTPError, httpx.StreamError, OSError) as e:
        raise _translate(e, request) from e
    finally:
        response.close()


def _ssl_context(tls: TLS) -> ssl.SSLContext:
    """The system's CAs (SSL_CERT_FILE and SSL_CERT_DIR count) and those named; certifi's where the system has none."""
    import os
    import ssl

    for path in filter(None, map(os.environ.get, (ssl.get_default_verify_paths().openssl_cafile_env,))):
        _check(path)
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or (paths.capath and os.listdir(paths.capath))):
        import certifi

        context.load_verify_locations(certifi.where())
    for path in tls.ca:
        _check(path)
        with _tls_file(path):
            context.load_verify_locations(path)
    for key, certificate in tls.keypairs:
        _check(key)
        _check(certificate)
        with _tls_file(certificate):
            context.load_cert_chain(certificate, key)
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _check(path: str) -> None:
    """SourceError for a FIFO, which OpenSSL would wait for, or a device. What is not there it reports, or passes over, itself."""
    from runtime.errors import UnsafePathError
    from runtime.linux.named import check_regular

    try:
        check_regular(path)
    except UnsafePathError as e:
        raise SourceError(f"can't use a certificate or key: {e}") from e
    except OSError:
        pass


class _tls_file:
    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError):
            raise SourceError(f"can't use {self._path}: {error.strerror or error}") from error


def _translate(error: Exception, request: Request) -> TransportError:
    """One line: what was asked, and the innermost cause."""
    import socket
    import ssl

    import httpx

    cause: BaseException = error
    # httpcore drops the chain of causes; what an error of its own was made of is its argument.
    while (inner := cause.__cause__ or cause.__context__ or next(iter(cause.args), None)) and isinstance(inner, BaseException):
        cause = inner
    text = str(cause) or str(error) or type(error).__name__
    tls, hint = False, ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"certificate is not trusted: {cause.verify_message}"
        hint = 'name its CA in the config file: [registry."host"] ca = ["ca.pem"]'
    elif isinstance(cause, ssl.SSLError):
        tls = True
        text = f"no TLS there: {cause.reason or cause}"
        hint = 'for a registry without TLS set http = true in the config file: [registry."host"]'
    elif isinstance(cause, socket.gaierror):
        text = "no such host"
    elif isinstance(cause, OSError) and cause.strerror:
        text = cause.strerror
    elif isinstance(error, httpx.TimeoutException):
        text = "timed out"
    broke_off = (httpx.TimeoutException, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
    transient = not tls and isinstance(error, broke_off)
    text = " ".join(redact_text(text).split())
    return TransportError(
        f"failed to do request: {request.method} {redact_url(request.url)}: {text}", transient=transient, tls=tls, hint=hint
    )


def is_loopback(host: str) -> bool:
    """``localhost``, 127/8 and ::1, without or with a port."""
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host in ("localhost", "::1"):
        return True
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(p.isdigit() and int(p) < 256 for p in parts)
