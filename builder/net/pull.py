"""Pulling: names to digests, manifests, configs, the bytes of layers.

Every byte that comes in is checked against the digest and the size it was asked for, and none is kept beyond them. What a
registry says of a tag is believed once, when the tag is resolved; from then on the digest rules.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from builder.errors import IntegrityError, SourceError
from builder.net.agent import BACKOFF_SECONDS
from builder.net.registry import Host, Registries
from builder.net.transport import Response, TransportError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.values import replace

_ASK_BY_GET = (403, 405, 501)


class Puller(Registries):
    """Shared by the threads of a process."""

    def resolve(self, ref: Reference) -> Descriptor:
        """What ``ref`` (tag, or digest) names now. NotFoundError, AuthError, SourceError."""
        ref = ref.with_default_tag()
        return self.first_host(ref, lambda host: self._resolve_at(host, ref))

    def fetch_manifest(self, ref: Reference, descriptor: Descriptor) -> bytes:
        """The document with the descriptor's digest out of the repository of ``ref``."""
        return self.first_host(ref, lambda host: self._fetch_at(host, ref, descriptor, "manifests", manifests.MAX_MANIFEST))

    def fetch_document(self, ref: Reference, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob (an image config), whole and verified; IntegrityError above ``limit`` bytes."""
        if descriptor.size > limit:
            raise IntegrityError(f"{ref.name}@{descriptor.digest}: {descriptor.size} bytes, more than the {limit} allowed")
        return self.first_host(ref, lambda host: self._fetch_at(host, ref, descriptor, "blobs", limit))

    @contextmanager
    def open_blob(self, ref: Reference, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """The blob's bytes from ``offset``. A connection that breaks is taken up again where it broke, as long as it gets on.

        No more bytes come than the descriptor names; the digest is the reader's to check.
        """
        with self.slot(ref.registry):
            chunks = self._blob_chunks(ref, descriptor, offset)
            try:
                yield chunks
            finally:
                chunks.close()

    def _resolve_at(self, host: Host, ref: Reference) -> Descriptor:
        object_name = str(ref.digest or ref.tag)
        headers = {"Accept": manifests.ACCEPT}
        with self.request(host, ref, "HEAD", f"manifests/{object_name}", headers) as response:
            # Registries that have no HEAD are asked by GET (containerd, resolver.go); so are those that refuse, for their words:
            # an answer to HEAD has no body.
            if response.status not in _ASK_BY_GET:
                self.check(response, ref, host)
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
        with self.request(host, ref, "GET", f"manifests/{object_name}", headers) as response:
            self.check(response, ref, host)
            data = response.read(manifests.MAX_MANIFEST + 1)
            media_type = _media_type(response) or media_type
        if len(data) > manifests.MAX_MANIFEST:
            raise IntegrityError(f"{ref}: rejecting manifest of more than {manifests.MAX_MANIFEST} bytes")
        computed = Digest.of(data) if digest is None else digest.like(data)
        if digest is not None and computed != digest:
            raise IntegrityError(f"{ref}: manifest has digest {computed}, expected {digest}")
        return Descriptor(media_type, computed, len(data))

    def _fetch_at(self, host: Host, ref: Reference, descriptor: Descriptor, kind: str, limit: int) -> bytes:
        digest = descriptor.digest
        if descriptor.size > limit:
            raise IntegrityError(f"{ref.name}@{digest}: rejecting {descriptor.size} bytes, {limit} are allowed")
        with self.request(host, ref, "GET", f"{kind}/{digest}", {"Accept": manifests.ACCEPT}) as response:
            self.check(response, replace(ref, tag="", digest=digest), host)
            data = response.read(descriptor.size + 1)
        if len(data) != descriptor.size:
            more = "more than" if len(data) > descriptor.size else f"{len(data)} instead of"
            raise IntegrityError(f"{ref.name}@{digest}: {more} the {descriptor.size} bytes that its descriptor names")
        if digest.like(data) != digest:
            raise IntegrityError(f"{ref.name}@{digest}: unexpected digest {digest.like(data)}")
        return data

    def _blob_chunks(self, ref: Reference, descriptor: Descriptor, offset: int) -> Generator[bytes, None, None]:
        done, stalled = offset, 0
        while done < descriptor.size:
            before = done
            try:
                response = self.first_host(ref, functools.partial(self._blob_at, ref, descriptor, done))
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
                self.agent.sleep(BACKOFF_SECONDS[stalled])
                continue
            return  # the server says that this is all: the reader finds out whether it is

    def _blob_at(self, ref: Reference, descriptor: Descriptor, offset: int, host: Host) -> Response:
        headers = {"Accept": f"{descriptor.media_type}, */*" if descriptor.media_type else "*/*"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        response = self.request(host, ref, "GET", f"blobs/{descriptor.digest}", headers)
        try:
            self.check(response, replace(ref, tag="", digest=descriptor.digest), host)
            if offset and response.status != 206:
                _drop(response, offset)
            elif offset and not response.headers.get("content-range", f"bytes {offset}-").startswith(f"bytes {offset}-"):
                raise SourceError(f"{ref.name}@{descriptor.digest}: the registry answers another range than the one asked for")
        except BaseException:
            response.close()
            raise
        return response


def _media_type(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip()


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
