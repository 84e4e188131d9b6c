"""What stands between the protocol and the transport: redirects, tries, and that credentials stay with the host they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from builder.errors import SourceError
from builder.net.transport import Request, Response, Transport, TransportError
from builder.state import cancel
from builder.text.redact import redact_url
from builder.values import replace

MAX_REDIRECTS = 10
BACKOFF_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MAX_RETRY_AFTER = 30.0
_IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE")
_RETRY_STATUS = (408, 429, 500, 502, 503, 504)
_PRIVATE = ("authorization", "cookie", "proxy-authorization")


class Agent:
    """Sends requests over a transport. ``sleep`` takes seconds; tests give their own."""

    def __init__(self, transport: Transport, *, sleep: Callable[[float], None] = cancel.sleep) -> None:
        self.transport = transport
        self.sleep = sleep

    def send(self, request: Request, *, tries: int = len(BACKOFF_SECONDS), follow: bool = True) -> Response:
        """The final response, whatever its status. Repeatable requests are tried again on a broken connection, 429 and 5xx.

        Redirects are followed for GET and HEAD, and for other methods where they keep the method (307, 308). ``follow`` False:
        for requests whose body is a secret.
        """
        for hop in range(MAX_REDIRECTS + 1):
            response = self._try(request, tries)
            target = response.headers.get("location", "")
            if response.status not in (301, 302, 303, 307, 308) or not target or not follow:
                return response
            if request.method not in ("GET", "HEAD") and response.status not in (307, 308):
                return response
            response.close()
            if hop < MAX_REDIRECTS:
                request = redirected(request, target)
        raise SourceError(f"{request.method} {redact_url(request.url)}: stopped after {MAX_REDIRECTS} redirects")

    def _try(self, request: Request, tries: int) -> Response:
        repeatable = request.method in _IDEMPOTENT if request.repeatable is None else request.repeatable
        for attempt in range(tries if repeatable else 0):
            wait = BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)]
            try:
                response = self.transport.send(request)
            except TransportError as e:
                if not e.transient:
                    raise
            else:
                if response.status not in _RETRY_STATUS:
                    return response
                wait = _retry_after(response.headers, wait)
                response.close()
            self.sleep(wait)
        return self.transport.send(request)


def redirected(request: Request, target: str) -> Request:
    """The request for the place that a redirect names. Another origin gets neither credentials nor client certificates."""
    from urllib.parse import urljoin, urlsplit

    nowhere = SourceError(f"{redact_url(request.url)}: redirect to {redact_url(target[:200])!r}, which is no http address")
    try:
        url = urljoin(request.url, target)
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        raise nowhere from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise nowhere
    if parts.username or parts.password:
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if same_origin(request.url, url):
        return replace(request, url=url)
    headers = {k: v for k, v in request.headers.items() if k.lower() not in _PRIVATE}
    return replace(request, url=url, headers=headers, tls=replace(request.tls, keypairs=()))


def same_origin(a: str, b: str) -> bool:
    """Same scheme, host and port; http to https of the same host on the default ports counts too, the other way never."""
    return _origin(a) == _origin(b) or (_origin(a)[1:] == (_origin(b)[1], 80) and _origin(b)[::2] == ("https", 443))


def _origin(url: str) -> tuple[str, str, int]:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def _retry_after(headers: Mapping[str, str], default: float) -> float:
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return min(float(text[:6]), _MAX_RETRY_AFTER)
    return default
