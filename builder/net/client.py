"""The OCI distribution-spec from the client's side: names to digests, manifests, blobs, and pushing both.

Every byte that comes in is checked against the digest and the size it was asked for, and none is kept beyond them. What a
registry says of a tag is believed once, when the tag is resolved; from then on the digest rules.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from builder.errors import AuthError, IntegrityError, NotFoundError, SourceError
from builder.net.agent import BACKOFF_SECONDS, Agent, same_origin
from builder.net.auth import Authorizer, Credentials, DockerConfig, Scope
from builder.net.transport import TLS, Body, HttpxTransport, Request, Response, TransportError, is_loopback
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.reference import DOCKER_HUB, Reference
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

_ASK_BY_GET = (403, 405, 501)
_UPLOADS = 4
"""Uploads that are begun for one blob."""
_UPLOAD_AGAIN = (404, 408, 416, 429, 500, 502, 503, 504)
"""Answers to the bytes of a blob that say nothing against another upload."""


class _BrokenUploadError(Exception):
    """An upload did not come to its end."""

    def __init__(self, cause: SourceError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class RegistryClient:
    """One for a process; shared by its threads. Tests give a transport, credentials and a sleep of their own."""

    def __init__(
        self,
        config: Config,
        *,
        agent: Agent | None = None,
        credentials: Callable[[str, str], Credentials] | None = None,
    ) -> None:
        self._config = config
        self._agent = agent or Agent(HttpxTransport())
        self._credentials = credentials or DockerConfig().credentials
        self._lock = threading.Lock()
        self._authorizers: dict[str, Authorizer] = {}
        self._slots: dict[str, threading.Semaphore] = {}
        self._plain: set[str] = set()

    # ------------------------------------------------------------------------------------------------ pull
    def resolve(self, ref: Reference) -> Descriptor:
        """What ``ref`` (tag, or digest) names now. NotFoundError, AuthError, SourceError."""
        ref = ref.with_default_tag()
        return self._first_host(ref, lambda host: self._resolve_at(host, ref))

    def fetch_manifest(self, ref: Reference, descriptor: Descriptor) -> bytes:
        """The document with the descriptor's digest out of the repository of ``ref``."""
        return self._first_host(ref, lambda host: self._fetch_at(host, ref, descriptor, "manifests", manifests.MAX_MANIFEST))

    def fetch_document(self, ref: Reference, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob (an image config), whole and verified; IntegrityError above ``limit`` bytes."""
        if descriptor.size > limit:
            raise IntegrityError(f"{ref.name}@{descriptor.digest}: {descriptor.size} bytes, more than the {limit} allowed")
        return self._first_host(ref, lambda host: self._fetch_at(host, ref, descriptor, "blobs", limit))

    def provider(self, ref: Reference) -> RepositoryBlobs:
        """The blobs of the repository of ``ref``."""
        return RepositoryBlobs(self, ref)

    @contextmanager
    def open_blob(self, ref: Reference, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """The blob's bytes from ``offset``. A connection that breaks is taken up again where it broke, as long as it gets on.

        No more bytes come than the descriptor names; the digest is the reader's to check.
        """
        with self._slot(ref.registry):
            chunks = self._blob_chunks(ref, descriptor, offset)
            try:
                yield chunks
            finally:
                chunks.close()

    def _resolve_at(self, host: Host, ref: Reference) -> Descriptor:
        object_name = str(ref.digest or ref.tag)
        headers = {"Accept": manifests.ACCEPT}
        with self._request(host, ref, "HEAD", f"manifests/{object_name}", headers) as response:
            # Registries that have no HEAD are asked by GET (containerd, resolver.go); so are those that refuse, for their words:
            # an answer to HEAD has no body.
            if response.status not in _ASK_BY_GET:
                self._check(response, ref, host)
            known = response.status < 300
            media_type = _media_type(response) if known else ""
            said = response.headers.get("docker-content-digest", "") if known else ""
            size = response.length if known else None
        digest = ref.digest
        if digest is None and said:
            try:
                digest = Digest.parse(said)
            except ValueError as e:
                raise IntegrityError(f"{ref}: {said[:100]!r} in header not a valid digest: {e}") from e
        if digest is not None and size and media_type:
            if size > manifests.MAX_MANIFEST:
                raise IntegrityError(f"{ref}: rejecting {size} byte manifest, {manifests.MAX_MANIFEST} are allowed")
            return Descriptor(media_type, digest, size)
        # A registry that does not name the digest in HEAD: it is computed from the document.
        with self._request(host, ref, "GET", f"manifests/{object_name}", headers) as response:
            self._check(response, ref, host)
            data = response.read(manifests.MAX_MANIFEST + 1)
            media_type = _media_type(response) or media_type
        if len(data) > manifests.MAX_MANIFEST:
            raise IntegrityError(f"{ref}: rejecting manifest of more than {manifests.MAX_MANIFEST} bytes")
        computed = Digest.of(data) if digest is None else _digest_like(digest, data)
        if digest is not None and computed != digest:
            raise IntegrityError(f"{ref}: manifest has digest {computed}, expected {digest}")
        return Descriptor(media_type, computed, len(data))

    def _fetch_at(self, host: Host, ref: Reference, descriptor: Descriptor, kind: str, limit: int) -> bytes:
        digest = descriptor.digest
        if descriptor.size > limit:
            raise IntegrityError(f"{ref.name}@{digest}: rejecting {descriptor.size} bytes, {limit} are allowed")
        with self._request(host, ref, "GET", f"{kind}/{digest}", {"Accept": manifests.ACCEPT}) as response:
            self._check(response, replace(ref, tag="", digest=digest), host)
            data = response.read(descriptor.size + 1)
        if len(data) != descriptor.size:
            more = "more than" if len(data) > descriptor.size else f"{len(data)} instead of"
            raise IntegrityError(f"{ref.name}@{digest}: {more} the {descriptor.size} bytes that its descriptor names")
        if _digest_like(digest, data) != digest:
            raise IntegrityError(f"{ref.name}@{digest}: unexpected digest {_digest_like(digest, data)}")
        return data

    def _blob_chunks(self, ref: Reference, descriptor: Descriptor, offset: int) -> Generator[bytes, None, None]:
        done, stalled = offset, 0
        while done < descriptor.size:
            before = done
            try:
                response = self._first_host(ref, functools.partial(self._blob_at, ref, descriptor, done))
                with response:
                    for chunk in response.chunks:
                        chunk = chunk[: descriptor.size - done + 1]  # one byte too many lets the reader see the lie
                        done += len(chunk)
                        yield chunk
                        if done > descriptor.size:
                            return
            except TransportError as e:
                stalled = stalled + 1 if done == before else 0
                if not e.transient or stalled >= len(BACKOFF_SECONDS):
                    raise
                self._agent.sleep(BACKOFF_SECONDS[stalled])
                continue
            return  # the server says that this is all: the reader finds out whether it is

    def _blob_at(self, ref: Reference, descriptor: Descriptor, offset: int, host: Host) -> Response:
        headers = {"Accept": f"{descriptor.media_type}, */*" if descriptor.media_type else "*/*"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        response = self._request(host, ref, "GET", f"blobs/{descriptor.digest}", headers)
        try:
            self._check(response, replace(ref, tag="", digest=descriptor.digest), host)
            if offset and response.status != 206:
                _drop(response, offset)
            elif offset and not response.headers.get("content-range", f"bytes {offset}-").startswith(f"bytes {offset}-"):
                raise SourceError(f"{ref.name}@{descriptor.digest}: the registry answers another range than the one asked for")
        except BaseException:
            response.close()
            raise
        return response

    # ------------------------------------------------------------------------------------------------ push
    def has_blob(self, ref: Reference, digest: Digest) -> bool:
        """Is the blob in the repository of ``ref``?"""
        host = self._push_host(ref)
        with self._request(host, ref, "HEAD", f"blobs/{digest}", {}, push=True) as response:
            if response.status == 404:
                return False
            self._check(response, ref, host, push=True)
            return True

    def push_blob(
        self, ref: Reference, descriptor: Descriptor, chunks: Callable[[], Iterable[bytes]], *, mount_from: str = ""
    ) -> bool:
        """Put a blob into the repository of ``ref``; False if it was there, or could be mounted from repository ``mount_from``
        of the same registry: nothing was sent then. ``chunks`` gives the bytes anew for each try."""
        if self.has_blob(ref, descriptor.digest):
            return False
        host = self._push_host(ref)
        for attempt in range(_UPLOADS):
            mount = mount_from if attempt == 0 and mount_from != ref.repository else ""
            try:
                url = self._begin_upload(host, ref, descriptor, mount)
                if url is None:
                    return False
                self._upload(host, ref, descriptor, chunks, url)
                return True
            except _BrokenUploadError as e:
                if attempt == _UPLOADS - 1:
                    raise e.cause from e
                self._agent.sleep(BACKOFF_SECONDS[attempt])
        raise AssertionError("the loop returns or raises")

    def _begin_upload(self, host: Host, ref: Reference, descriptor: Descriptor, mount_from: str) -> str | None:
        """Where the blob is to be put; None if the registry mounted it. A registry, or its token service, that refuses the mount is
        asked for an upload without one: that is a wish, not a need."""
        if mount_from:
            query = f"blobs/uploads/?mount={descriptor.digest}&from={mount_from}"
            try:
                with self._request(
                    host, ref, "POST", query, {"Content-Length": "0"}, push=True, more=(Scope(mount_from),), repeatable=True
                ) as response:
                    if response.status == 201:
                        return None
                    if response.status == 202:
                        return self._upload_url(response, ref, descriptor)
            except SourceError as e:
                if isinstance(e, TransportError):
                    raise
        with self._request(host, ref, "POST", "blobs/uploads/", {"Content-Length": "0"}, push=True, repeatable=True) as response:
            self._check(response, ref, host, push=True)
            return self._upload_url(response, ref, descriptor)

    @staticmethod
    def _upload_url(response: Response, ref: Reference, descriptor: Descriptor) -> str:
        from urllib.parse import urljoin

        location = response.headers.get("location", "")
        if not location:
            raise SourceError(f"{ref.name}: the registry names no place for the upload")
        url = urljoin(response.request.url, location)
        return url + ("&" if "?" in url else "?") + f"digest={descriptor.digest}"

    def _upload(
        self, host: Host, ref: Reference, descriptor: Descriptor, chunks: Callable[[], Iterable[bytes]], url: str
    ) -> None:
        """Put the bytes. _BrokenUploadError where a new upload may do better: this one's place is dead once a part of them came."""
        request = Request("PUT", url, _upload_headers(descriptor), chunks, host.tls, repeatable=False)
        try:
            if same_origin(f"{host.scheme}://{host.address}", url):
                response = self._authorized(host, ref, request, push=True)
            else:
                # The upload may lie elsewhere; our credentials stay where they are.
                response = self._agent.send(replace(request, tls=replace(host.tls, keypairs=())))
        except TransportError as e:
            if e.transient:
                raise _BrokenUploadError(e) from e
            raise
        with response:
            try:
                self._check(response, ref, host, push=True)
            except SourceError as e:
                if response.status in _UPLOAD_AGAIN:
                    raise _BrokenUploadError(e) from e
                raise

    def push_manifest(self, ref: Reference, data: bytes, media_type: str) -> Descriptor:
        """Put a manifest or index under the tag of ``ref``, or under its own digest where ``ref`` has none."""
        digest = Digest.of(data)
        host = self._push_host(ref)
        name = ref.tag or str(digest)
        with self._request(host, ref, "HEAD", f"manifests/{name}", {"Accept": media_type}, push=True) as response:
            # What is there already is not put again: a registry with immutable tags would refuse it (containerd, pusher.go).
            if response.status < 300 and response.headers.get("docker-content-digest", "") == digest:
                return Descriptor(media_type, digest, len(data))
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        with self._request(host, ref, "PUT", f"manifests/{name}", headers, data, push=True) as response:
            self._check(response, ref, host, push=True)
            said = response.headers.get("docker-content-digest", "")
        if said and said != digest:
            raise IntegrityError(f"{ref}: got digest {said[:100]} from the registry, expected {digest}")
        return Descriptor(media_type, digest, len(data))

    # ------------------------------------------------------------------------------------------------ hosts and requests
    def hosts(self, ref: Reference) -> list[Host]:
        """Where to pull from, mirrors first; each mirror is spoken to as its own entry of the config says."""
        found = []
        for mirror in self._config.registry(ref.registry).mirrors:
            address, _, path = mirror.partition("/")
            found.append(self._host(address, "/v2/" + path.strip("/") if path.strip("/") else "/v2", mirror_of=ref.registry))
        return [*found, self._push_host(ref)]

    def _push_host(self, ref: Reference) -> Host:
        return self._host(ref.registry)

    def _host(self, name: str, path: str = "/v2", *, mirror_of: str = "") -> Host:
        entry = self._config.registry(name)
        http = is_loopback(name) if entry.http is None else entry.http
        tls = TLS(entry.ca, entry.keypairs, entry.insecure)
        address = _HUB_HOST if name == DOCKER_HUB else name
        # util/resolver: insecure and http together mean TLS without verification first, then plain.
        scheme = "http" if http and (not entry.insecure or address in self._plain) else "https"
        return Host(address, scheme, path, tls, fallback=http and scheme == "https", mirror_of=mirror_of)

    def _first_host(self, ref: Reference, work: Callable[[Host], T]) -> T:
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

    def _request(
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
            return self._authorized(host, ref, request, push=push, more=more)
        except TransportError as e:
            if not (host.fallback and e.tls):
                raise
        self._plain.add(host.address)
        plain = replace(request, url="http" + url.removeprefix("https"))
        return self._authorized(replace(host, scheme="http"), ref, plain, push=push, more=more)

    def _authorized(self, host: Host, ref: Reference, request: Request, *, push: bool, more: tuple[Scope, ...] = ()) -> Response:
        """Send with the credentials that are known to work; a challenge by the registry itself is answered."""
        authorizer = self._authorizer(host, ref)
        scopes = (Scope(ref.repository, ("pull", "push") if push else ("pull",)), *more)
        header = authorizer.header(scopes)
        for _ in range(_MAX_TOKEN_TRIES):
            sent = replace(request, headers={**request.headers, "Authorization": header}) if header else request
            response = self._agent.send(sent)
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
        return self._agent.send(replace(request, headers={**request.headers, "Authorization": header or ""}))

    def _authorizer(self, host: Host, ref: Reference) -> Authorizer:
        """Mirrors have credentials of their own."""
        name = host.address if host.mirror_of else ref.registry
        with self._lock:
            if name not in self._authorizers:
                self._authorizers[name] = Authorizer(name, self._credentials, self._agent, host.tls)
            return self._authorizers[name]

    def _slot(self, registry: str) -> threading.Semaphore:
        """At most so many downloads at once from one registry (buildkitd's maxRegistryConcurrency)."""
        with self._lock:
            if registry not in self._slots:
                self._slots[registry] = threading.Semaphore(self._config.registry_concurrency)
            return self._slots[registry]

    def _check(self, response: Response, ref: Reference, host: Host, *, push: bool = False) -> None:
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


class RepositoryBlobs:
    """A BlobProvider: lazy layers of one repository."""

    def __init__(self, client: RegistryClient, ref: Reference) -> None:
        self._client = client
        self._ref = replace(ref, tag="", digest=None)

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """See BlobProvider.open."""
        return self._client.open_blob(self._ref, descriptor, offset)


def _media_type(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip()


def _digest_like(digest: Digest, data: bytes) -> Digest:
    """The digest of ``data`` by the algorithm of ``digest``."""
    return Digest(f"{digest.algorithm}:{hashlib.new(digest.algorithm, data).hexdigest()}")


def _upload_headers(descriptor: Descriptor) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}


def _drop(response: Response, count: int) -> None:
    """Skip bytes that we have: the registry does not know ranges and begins anew."""
    chunks = response.chunks

    def rest() -> Iterator[bytes]:
        left = count
        for chunk in chunks:
            if left >= len(chunk):
                left -= len(chunk)
            else:
                yield chunk[left:]
                left = 0

    response.chunks = rest()


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
