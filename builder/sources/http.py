"""Files by http(s): one download, known again by its ETag (BuildKit: source/http).

The key of such a source is what the file is (name, mode, owner, digest, Last-Modified), so it is asked for before anything can be
cached: by HEAD where an earlier answer had an ETag. With a checksum in the Dockerfile nothing is asked.
"""

from __future__ import annotations

import os
import posixpath
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from builder.errors import AuthError, IntegrityError, NotFoundError, SourceError, StoreError
from builder.files.owners import current
from builder.graph.ops import HTTPSource
from builder.net.transport import Request, Response
from builder.oci.digest import Digest, Running, digest_parts
from builder.state.cancel import checkpoint
from builder.state.schema import HTTP_FILES
from builder.text.redact import redact_url
from builder.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.cache.refs import ImmutableRef
    from builder.net.agent import Agent
    from builder.session import Session
    from builder.worker import Worker

_AUTH_HEADER = "HTTP_AUTH_HEADER_"
_AUTH_TOKEN = "HTTP_AUTH_TOKEN_"


@dataclass(frozen=True, slots=True)
class HTTPFile:
    """What a URL gave. ``last_modified`` is the header as it came, or empty; ``ref`` the id of the ref with the file, empty while
    nothing was downloaded."""

    digest: Digest
    filename: str
    last_modified: str = ""
    ref: str = ""

    @property
    def modified(self) -> int | None:
        """Last-Modified in seconds since the epoch."""
        return parse_http_time(self.last_modified)


@dataclass(slots=True)
class HTTPFetcher:
    """One source in one build. ``progress`` is told (bytes so far, bytes in all or 0). ``agent`` None: over httpx."""

    worker: Worker
    session: Session
    source: HTTPSource
    agent: Agent | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    _found: HTTPFile | None = field(default=None)
    _held: ImmutableRef | None = field(default=None)

    def resolve(self) -> HTTPFile:
        """What the URL is now; downloads it unless it is known by its ETag or pinned by a checksum.

        NotFoundError, AuthError, SourceError, IntegrityError.
        """
        if self._found is None:
            if self.source.checksum is not None:
                self._found = HTTPFile(self.source.checksum, file_name(self.source, {}))
            else:
                self._found = self._ask()
        return self._found

    def key(self) -> Digest:
        """The cache key: everything that the result depends on."""
        found, source = self.resolve(), self.source
        modified = "" if found.modified is None else found.last_modified
        numbers = (str(source.mode), str(source.uid), str(source.gid))
        return digest_parts("http", found.filename, *numbers, found.digest, modified, source.auth_header_secret)

    def snapshot(self) -> ImmutableRef:
        """The file in the root of a ref. The caller releases it."""
        found = self.resolve()
        if found.ref:
            try:
                return self.worker.cache.get(found.ref)
            except KeyError:
                pass
        known = self._remembered().get(_NO_ETAG + found.digest)
        if known is not None and known.filename == found.filename:
            try:
                return self.worker.cache.get(known.ref)
            except KeyError:
                pass
        with self._get(Request("GET", self._url(), self._headers())) as response:
            self._held = None
            ref, got = self._save(response)
        if got.digest != found.digest:
            ref.release()
            raise IntegrityError(f"digest mismatch {got.digest}: {found.digest}")
        return ref

    def close(self) -> None:
        """Let go of what ``resolve`` downloaded."""
        if self._held is not None:
            self._held.release()
            self._held = None

    # ------------------------------------------------------------------------------------------------ asking
    def _send(self, request: Request) -> Response:
        if self.agent is None:
            from builder.net.agent import Agent
            from builder.net.transport import HttpxTransport

            self.agent = Agent(HttpxTransport())
        return self.agent.send(request)

    def _ask(self) -> HTTPFile:
        known = {etag: f for etag, f in self._remembered().items() if etag and self._exists(f.ref)}
        headers = dict(self._headers())
        if known:
            headers["If-None-Match"] = ", ".join(known)
            # Servers that send ETags but know no If-None-Match: compare by hand first.
            try:
                with self._send(Request("HEAD", self._url(), headers)) as response:
                    match = self._match(response, known)
            except SourceError:
                match = None
            if match is not None:
                return match
        with self._get(Request("GET", self._url(), headers)) as response:
            if response.status == 304:
                match = self._match(response, known)
                if match is None:
                    raise SourceError(f"invalid not-modified ETag: {response.headers.get('etag', '')}")
                return match
            self._held, found = self._save(response)
            return found

    def _match(self, response: Response, known: Mapping[str, HTTPFile]) -> HTTPFile | None:
        if response.status not in (200, 304):
            return None
        etag = _strong(response.headers.get("etag", ""))
        if not etag and response.status == 304 and len(known) == 1:
            etag = next(iter(known))
        match = known.get(etag)
        if match is None:
            return None
        return HTTPFile(match.digest, file_name(self.source, response.headers), match.last_modified, match.ref)

    def _get(self, request: Request) -> Response:
        response = self._send(request)
        status = response.status
        if 200 <= status < 300 or (status == 304 and "If-None-Match" in request.headers):
            return response
        response.close()
        text = f"{redact_url(self.source.url)}: invalid response status {status}"
        if status in (401, 403):
            raise AuthError(text)
        raise (NotFoundError if status in (404, 410) else SourceError)(text)

    def _url(self) -> str:
        """Without the user part: it goes into a header."""
        scheme, _, rest = self.source.url.partition("://")
        authority, slash, path = rest.partition("#")[0].partition("/")
        return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"

    def _headers(self) -> dict[str, str]:
        """Go asks for gzip and unpacks it unseen; some servers give other ETags without it."""
        headers = {"Accept-Encoding": "gzip", "User-Agent": "pybuild"}
        secret = self._authorization()
        if secret:
            headers["Authorization"] = secret
        return headers

    def _authorization(self) -> str:
        from urllib.parse import unquote, urlsplit

        source = self.source
        if source.auth_header_secret:
            value = self.session.secret(source.auth_header_secret)
            if value is None:
                raise AuthError(f"failed to retrieve HTTP auth secret {source.auth_header_secret}: not found")
            return _header_value(value)
        try:
            parts = urlsplit(source.url)
            host = parts.hostname or ""
        except ValueError:
            raise SourceError(f"{redact_url(source.url)} is no URL") from None
        for name, prefix in ((_AUTH_TOKEN + host, "Bearer "), (_AUTH_HEADER + host, "")):
            value = self.session.secret(name)
            if value is not None:
                return prefix + _header_value(value)
        if parts.username is not None or parts.password is not None:
            import base64

            pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            return "Basic " + base64.b64encode(pair.encode()).decode()
        return ""

    # ------------------------------------------------------------------------------------------------ keeping
    def _save(self, response: Response) -> tuple[ImmutableRef, HTTPFile]:
        source = self.source
        name = file_name(source, response.headers)
        algorithm = "sha256" if source.checksum is None else source.checksum.algorithm
        mutable = self.worker.cache.new(None, description=f"http url {redact_url(source.url)}")
        try:
            last_modified = response.headers.get("last-modified", "")
            with mutable.mount() as folder:
                digest = self._write(response, f"{folder}/{name}", algorithm, parse_http_time(last_modified) or 0)
            ref = mutable.commit()
        except OSError as e:
            raise StoreError(f"can't store {redact_url(source.url)}: {e.strerror}") from e
        finally:
            mutable.release()
        found = HTTPFile(digest, name, last_modified, ref.id)
        etag = _strong(response.headers.get("etag", ""))
        self._remember(etag or _NO_ETAG + digest, found)
        return ref, found

    def _write(self, response: Response, path: str, algorithm: str, mtime: int) -> Digest:
        running = Running(algorithm)
        total, done = response.length or 0, 0
        owners = current()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            for chunk in _decoded(response):
                checkpoint()
                file.write(chunk)
                running.update(chunk)
                done += len(chunk)
                self.progress(done, total)
            file.flush()
            if self.source.uid or self.source.gid:
                owners.chown(fd, self.source.uid, self.source.gid)
            owners.chmod(fd, self.source.mode)
            os.utime(fd, (mtime, mtime))
        return running.digest()

    def _remembered(self) -> dict[str, HTTPFile]:
        rows = self.worker.database.find(HTTP_FILES, "etag", url_key=self._url_key())
        name = file_name(self.source, {})
        return {etag: HTTPFile(Digest(digest), name, modified, ref) for _, etag, digest, modified, ref in rows}

    def _remember(self, etag: str, found: HTTPFile) -> None:
        database = self.worker.database
        with database.transaction() as c:
            database.put(c, HTTP_FILES, [(self._url_key(), etag, found.digest, found.last_modified, found.ref)])

    def _exists(self, ref: str) -> bool:
        try:
            self.worker.cache.get(ref, used=False).release()
        except KeyError:
            return False
        return True

    def _url_key(self) -> str:
        s = self.source
        # A digest: the URL may hold credentials.
        return digest_parts(s.url, s.filename, str(s.mode), str(s.uid), str(s.gid), s.auth_header_secret)


_NO_ETAG = "digest "


def file_name(source: HTTPSource, headers: Mapping[str, str]) -> str:
    """What the file is called: as the source says, else Content-Disposition, else the URL's path."""
    if source.filename:
        return safe_name(source.filename)
    disposition = headers.get("content-disposition", "")
    if disposition:
        from email.message import Message

        message = Message()
        message["Content-Disposition"] = disposition.replace("\n", " ").replace("\r", " ")
        name = message.get_filename()
        if name and not name.endswith("/"):
            return safe_name(name)
    from urllib.parse import unquote, urlsplit

    try:
        return safe_name(unquote(urlsplit(source.url).path))
    except ValueError:
        return safe_name("")


def safe_name(text: str) -> str:
    """The last element of a path, as one that can be a file; ``download`` where there is none."""
    name = posixpath.basename(text.strip().rstrip("/"))
    if name in ("", ".", "..") or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name) or len(os.fsencode(name)) > 255:
        return "download"
    return name


def parse_http_time(text: str) -> int | None:
    """Seconds since the epoch of an HTTP date (RFC 9110, 5.6.7), or None."""
    if not text:
        return None
    from email.utils import mktime_tz, parsedate_tz

    parsed = parsedate_tz(text)
    try:
        return None if parsed is None else mktime_tz(parsed)
    except (ValueError, OverflowError):
        return None


def _decoded(response: Response) -> Iterator[bytes]:
    """The body, unpacked where the server packed it for the way."""
    if response.headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        yield from response.chunks
        return
    decoder = zlib.decompressobj(31)
    try:
        for chunk in response.chunks:
            while chunk:
                yield decoder.decompress(chunk, 1 << 20)
                chunk = decoder.unconsumed_tail
        yield decoder.flush()
    except zlib.error as e:
        raise SourceError(f"{redact_url(response.request.url)}: the body is not the gzip that its header says") from e
    if not decoder.eof:
        raise SourceError(f"{redact_url(response.request.url)}: the body broke off")


def _strong(etag: str) -> str:
    return etag.strip().removeprefix("W/")


def _header_value(secret: bytes) -> str:
    text = secret.decode("latin-1").strip()
    if any(c in text for c in "\r\n\0"):
        raise AuthError("the HTTP auth secret holds a line break")
    return text
