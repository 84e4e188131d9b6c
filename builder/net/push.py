"""Pushing: blobs, which may be there or be mounted, and manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from builder.errors import IntegrityError, SourceError
from builder.net.agent import BACKOFF_SECONDS, same_origin
from builder.net.auth import Scope
from builder.net.registry import Host, Registries
from builder.net.transport import Request, Response, TransportError
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.values import replace

_UPLOADS = 4
"""Uploads that are begun for one blob."""
_UPLOAD_AGAIN = (404, 408, 416, 429, 500, 502, 503, 504)
"""Answers to the bytes of a blob that say nothing against another upload."""


class _BrokenUploadError(Exception):
    """An upload did not come to its end."""

    def __init__(self, cause: SourceError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Pusher(Registries):
    """Shared by the threads of a process."""

    def has_blob(self, ref: Reference, digest: Digest) -> bool:
        """Is the blob in the repository of ``ref``?"""
        host = self.push_host(ref)
        with self.request(host, ref, "HEAD", f"blobs/{digest}", {}, push=True) as response:
            if response.status == 404:
                return False
            self.check(response, ref, host, push=True)
            return True

    def push_blob(
        self, ref: Reference, descriptor: Descriptor, chunks: Callable[[], Iterable[bytes]], *, mount_from: str = ""
    ) -> bool:
        """Put a blob into the repository of ``ref``; False if it was there, or could be mounted from repository ``mount_from``
        of the same registry: nothing was sent then. ``chunks`` gives the bytes anew for each try."""
        if self.has_blob(ref, descriptor.digest):
            return False
        host = self.push_host(ref)
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
                self.agent.sleep(BACKOFF_SECONDS[attempt])
        raise AssertionError("the loop returns or raises")

    def _begin_upload(self, host: Host, ref: Reference, descriptor: Descriptor, mount_from: str) -> str | None:
        """Where the blob is to be put; None if the registry mounted it. A registry, or its token service, that refuses the mount is
        asked for an upload without one: that is a wish, not a need."""
        if mount_from:
            query = f"blobs/uploads/?mount={descriptor.digest}&from={mount_from}"
            try:
                with self.request(
                    host, ref, "POST", query, {"Content-Length": "0"}, push=True, more=(Scope(mount_from),), repeatable=True
                ) as response:
                    if response.status == 201:
                        return None
                    if response.status == 202:
                        return self._upload_url(response, ref, descriptor)
            except SourceError as e:
                if isinstance(e, TransportError):
                    raise
        with self.request(host, ref, "POST", "blobs/uploads/", {"Content-Length": "0"}, push=True, repeatable=True) as response:
            self.check(response, ref, host, push=True)
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
                response = self.authorized(host, ref, request, push=True)
            else:
                # The upload may lie elsewhere; our credentials stay where they are.
                response = self.agent.send(replace(request, tls=replace(host.tls, keypairs=())))
        except TransportError as e:
            if e.transient:
                raise _BrokenUploadError(e) from e
            raise
        with response:
            try:
                self.check(response, ref, host, push=True)
            except SourceError as e:
                if response.status in _UPLOAD_AGAIN:
                    raise _BrokenUploadError(e) from e
                raise

    def push_manifest(self, ref: Reference, data: bytes, media_type: str) -> Descriptor:
        """Put a manifest or index under the tag of ``ref``, or under its own digest where ``ref`` has none."""
        digest = Digest.of(data)
        host = self.push_host(ref)
        name = ref.tag or str(digest)
        with self.request(host, ref, "HEAD", f"manifests/{name}", {"Accept": media_type}, push=True) as response:
            # What is there already is not put again: a registry with immutable tags would refuse it (containerd, pusher.go).
            if response.status < 300 and response.headers.get("docker-content-digest", "") == digest:
                return Descriptor(media_type, digest, len(data))
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        with self.request(host, ref, "PUT", f"manifests/{name}", headers, data, push=True) as response:
            self.check(response, ref, host, push=True)
            said = response.headers.get("docker-content-digest", "")
        if said and said != digest:
            raise IntegrityError(f"{ref}: got digest {said[:100]} from the registry, expected {digest}")
        return Descriptor(media_type, digest, len(data))


def _upload_headers(descriptor: Descriptor) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
