"""Where the blobs of layers come from: the content store, or somebody who provides them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from builder.errors import NotFoundError

if TYPE_CHECKING:
    from builder.cache.record import LayerBlob
    from builder.cache.types import ProviderResolver, UnlazyProgress
    from builder.content.store import ContentStore
    from builder.content.types import BlobProvider, Layer
    from builder.oci.descriptor import Descriptor
    from builder.oci.digest import Digest


class Providers:
    """Thread-safe. Its lock is held while a provider is made, which touches no network."""

    def __init__(self, content: ContentStore, warn: Callable[[str], None]) -> None:
        self._content = content
        self._warn = warn
        self._lock = threading.Lock()
        self._offered: dict[Digest, tuple[BlobProvider, UnlazyProgress | None]] = {}
        self._resolver: ProviderResolver | None = None

    def offer(self, layers: Iterable[Layer], progress: UnlazyProgress | None = None) -> None:
        """Providers for lazy layers: of records that are made, and of those that this process finds in the cache."""
        with self._lock:
            for layer in layers:
                if layer.provider is not None:
                    self._offered[layer.descriptor.digest] = (layer.provider, progress)

    def set_resolver(self, resolver: ProviderResolver) -> None:
        """How to make a provider of a remembered ``Layer.source``; it may answer None, and should not touch the network yet."""
        self._resolver = resolver

    def get(self, blob: LayerBlob) -> BlobProvider | None:
        """Who can bring the blob, or None."""
        with self._lock:
            offered = self._offered.get(blob.descriptor.digest)
            if offered is not None:
                return offered[0]
            if not blob.source or self._resolver is None:
                return None
            resolved = self._resolver(blob.source, blob.descriptor)
            if resolved is not None:
                self._offered[blob.descriptor.digest] = (resolved, None)
            return resolved

    def progress_of(self, digest: Digest) -> UnlazyProgress | None:
        """Whom to tell how far the blob's download is: who offered it may have said so."""
        offered = self._offered.get(digest)
        return offered[1] if offered else None

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Is the blob in the content store, whole? A truncated one is deleted."""
        try:
            size = self._content.size(descriptor.digest)
        except NotFoundError:
            return False
        if size != descriptor.size:
            self._warn(f"blob {descriptor.digest} has {size} bytes instead of {descriptor.size}: deleted")
            self._content.delete(descriptor.digest)
            return False
        return True

    def can_have(self, blob: LayerBlob) -> bool:
        """Is it here, or does somebody provide it?"""
        return self.has_blob(blob.descriptor) or self.get(blob) is not None
