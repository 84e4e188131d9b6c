"""The OCI distribution-spec from the client's side: one client for a process, shared by its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from builder.net.pull import Puller
from builder.net.push import Pusher
from builder.oci.descriptor import Descriptor
from builder.oci.reference import Reference
from builder.values import replace


class RegistryClient(Puller, Pusher):
    """Both ways, with the same connections, tokens and limits."""

    def provider(self, ref: Reference) -> RepositoryBlobs:
        """The blobs of the repository of ``ref``."""
        return RepositoryBlobs(self, ref)


class RepositoryBlobs:
    """A BlobProvider: lazy layers of one repository."""

    def __init__(self, client: RegistryClient, ref: Reference) -> None:
        self._client = client
        self._ref = replace(ref, tag="", digest=None)

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """See BlobProvider.open."""
        return self._client.open_blob(self._ref, descriptor, offset)
