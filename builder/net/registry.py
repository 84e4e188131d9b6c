"""Requests to a registry: which hosts serve it, with which credentials, and what its refusals mean."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from builder.errors import AuthError, NotFoundError, SourceError
from builder.net.agent import Agent, same_origin
from builder.net.auth import Authorizer, Credentials, DockerConfig, Scope
from builder.net.transport import TLS, Body, HttpxTransport, Request, Response, TransportError, is_loopback
from builder.oci.reference import DOCKER_HUB, Reference
from builder.state import cancel
from builder.text.redact import redact_url
from builder.values import dataclass, field, replace

if TYPE_CHECKING:
    from builder.config import Config

T = TypeVar("T")
_HUB_HOST = "registry-1.docker.io"
_MAX_ERROR = 64 << 10
_MAX_TOKEN_TRIES = 2


@dataclass(frozen=True, slots=True)
class Host:
    """A place that serves repositories, at ``scheme://address/path``. ``fallback``: plain http may be tried if there is no TLS."""

    address: str
    scheme: str
    path: str = "/v2"
    tls: TLS = field(default=TLS())
    fallback: bool = False
    mirror_of: str = ""


class Registries:
    """What pulls and pushes share. Tests give a transport, credentials and a sleep of their own."""

    def __init__(
        self,
        config: Config,
        *,
        agent: Agent | None = None,
        credentials: Callable[[str, str], Credentials] | None = None,
    ) -> None:
        self._config = config
        self.agent = agent or Agent(HttpxTransport())
        self._credentials = credentials or DockerConfig().credentials
        self._lock = threading.Lock()
        self._authorizers: dict[str, Authorizer] = {}
        self._slots: dict[str, threading.Semaphore] = {}
        self._plain: set[str] = set()

    def hosts(self, ref: Reference) -> list[Host]:
        """Where to pull from, mirrors first; each mirror is spoken to as its own entry of the config says."""
        found = []
        for mirror in self._config.registry(ref.registry).mirrors:
            address, _, path = mirror.partition("/")
            found.append(self._host(address, "/v2/" + path.strip("/") if path.strip("/") else "/v2", mirror_of=ref.registry))
        return [*found, self.push_host(ref)]

    def push_host(self, ref: Reference) -> Host:
        return self._host(ref.registry)

    def _host(self, name: str, path: str = "/v2", *, mirror_of: str = "") -> Host:
        entry = self._config.registry(name)
        http = is_loopback(name) if entry.http is None else entry.http
        tls = TLS(entry.ca, entry.keypairs, entry.insecure)
        address = _HUB_HOST if name == DOCKER_HUB else name
        # util/resolver: insecure and http together mean TLS without verification first, then plain.
        scheme = "http" if http and (not entry.insecure or address in self._plain) else "https"
        return Host(address, scheme, path, tls, fallback=http and scheme == "https", mirror_of=mirror_of)

    def first_host(self, ref: Reference, work: Callable[[Host], T]) -> T:
        """``work`` at the first host where it succeeds; else the error of the host where it got furthest, as in containerd."""
        worst: tuple[int, SourceError] | None = None
        for host in self.hosts(ref):
            try:
                return work(host)
            except SourceError as e:
                rank = 1 if isinstance(e, TransportError) else 2 if isinstance(e, NotFoundError) else 3
                if worst is None or rank > worst[0]:
                    worst = rank, e
        assert worst is not None
        raise worst[1]

    def request(
        self,
        host: Host,
        ref: Reference,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body = None,
        *,
        push: bool = False,
        more: tuple[Scope, ...] = (),
        repeatable: bool | None = None,
    ) -> Response:
        url = f"{host.scheme}://{host.address}{host.path}/{ref.repository}/{path}"
        if host.mirror_of:
            url += f"?ns={host.mirror_of}"
        request = Request(method, url, headers, body, host.tls, repeatable)
        try:
            return self.authorized(host, ref, request, push=push, more=more)
        except TransportError as e:
            if not (host.fallback and e.tls):
                raise
        self._plain.add(host.address)
        plain = replace(request, url="http" + url.removeprefix("https"))
        return self.authorized(replace(host, scheme="http"), ref, plain, push=push, more=more)

    def authorized(self, host: Host, ref: Reference, request: Request, *, push: bool, more: tuple[Scope, ...] = ()) -> Response:
        """Send with the credentials that are known to work; a challenge by the registry itself is answered."""
        authorizer = self._authorizer(host, ref)
        scopes = (Scope(ref.repository, ("pull", "push") if push else ("pull",)), *more)
        header = authorizer.header(scopes)
        for _ in range(_MAX_TOKEN_TRIES):
            sent = replace(request, headers={**request.headers, "Authorization": header}) if header else request
            response = self.agent.send(sent)
            if response.status != 401 or not same_origin(response.request.url, request.url):
                return response
            challenge = response.headers.get("www-authenticate", "")
            refused, header = header, None
            if challenge:
                response.read(_MAX_ERROR)
                header = authorizer.answer(challenge, scopes, url=request.url, refused=refused)
            if header is None:
                return response
            response.close()
        return self.agent.send(replace(request, headers={**request.headers, "Authorization": header or ""}))

    def _authorizer(self, host: Host, ref: Reference) -> Authorizer:
        """Mirrors have credentials of their own."""
        name = host.address if host.mirror_of else ref.registry
        with self._lock:
            if name not in self._authorizers:
                self._authorizers[name] = Authorizer(name, self._credentials, self.agent, host.tls)
            return self._authorizers[name]

    @contextmanager
    def slot(self, registry: str) -> Iterator[None]:
        """At most so many downloads at once from one registry (buildkitd's maxRegistryConcurrency). CancelledError while waiting:
        those before us may be long, or stalled."""
        with self._lock:
            if registry not in self._slots:
                self._slots[registry] = threading.Semaphore(self._config.registry_concurrency)
            slots = self._slots[registry]
        cancel.retry(lambda: slots.acquire(blocking=False) or None)
        try:
            yield
        finally:
            slots.release()

    def check(self, response: Response, ref: Reference, host: Host, *, push: bool = False) -> None:
        """A typed error for anything but success."""
        status = response.status
        if 200 <= status < 300:
            return
        request = response.request
        said = _server_message(response)
        if status == 404 and not push:
            raise NotFoundError(f"{ref}: not found")
        if status in (401, 403):
            name = host.address if host.mirror_of else ref.registry
            what = "push access denied" if push else "pull access denied"
            text = f"{ref}: {what}, repository does not exist or may require authorization"
            raise AuthError(text + (f": server message: {said}" if said else ""), hint=f"docker login {name}")
        import http

        phrase = http.HTTPStatus(status).phrase if status in http.HTTPStatus._value2member_map_ else ""
        url = redact_url(request.url).partition("?")[0]
        text = f"unexpected status from {request.method} request to {url}: {status} {phrase}".rstrip()
        raise SourceError(f"{ref}: {text}" + (f": {said}" if said else ""))


def _server_message(response: Response) -> str:
    """The registry's own words (distribution-spec, "Error Codes"), on one line and not too many."""
    import json

    try:
        errors = json.loads(response.read(_MAX_ERROR))["errors"]
        texts = [str(e.get("message") or e.get("code") or "") for e in errors]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SourceError):
        return ""
    text = " ".join(", ".join(t for t in texts if t).split())
    return "".join(c for c in text if c.isprintable())[:300]
