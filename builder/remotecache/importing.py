"""A place to key caches: one for a cache manifest, one for each image with an inline cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.remotecache import config as v0
from builder.remotecache import manifest
from builder.remotecache.imported import key_cache, with_provider
from builder.remotecache.places import Reader, reader

if TYPE_CHECKING:
    from builder.oci.descriptor import Descriptor
    from builder.remotecache.types import Place
    from builder.solver.keycache import KeyCache
    from builder.worker import Worker


def import_cache(worker: Worker, place: Place, *, priority: int) -> list[KeyCache]:
    """Manifest and config are read, no layer. NotFoundError, AuthError, SourceError, IntegrityError."""
    source = reader(worker, place)
    top = source.top()
    found = manifest.read(source.manifest(top), top.media_type, str(place))
    if not isinstance(found, manifest.CacheManifest):
        return _inline(worker, source, found, top, priority)
    config = v0.parse(source.document(found.config))
    layers = with_provider(manifest.remote_layers(found), source.provider(), source.source)
    return [key_cache(f"{source.source}@{top.digest}", config, layers, worker.cache, priority=priority)]


def _inline(
    worker: Worker, source: Reader, found: manifest.InlineImage | manifest.ImageIndex, top: Descriptor, priority: int
) -> list[KeyCache]:
    images: list[tuple[Descriptor, manifest.InlineImage]] = []
    if isinstance(found, manifest.ImageIndex):
        for entry in found.manifests:
            below = manifest.read(source.manifest(entry), entry.media_type, source.source)
            if isinstance(below, manifest.InlineImage):
                images.append((entry, below))
    else:
        images.append((top, found))
    out = []
    for descriptor, image in images:
        cache = manifest.inline_cache(image, source.document(image.config))
        if cache is not None:
            config, layers = cache
            given = with_provider(layers, source.provider(), source.source)
            out.append(key_cache(f"{source.source}@{descriptor.digest}", config, given, worker.cache, priority=priority))
    return out
