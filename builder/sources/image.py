"""Images: a name to a digest, to the manifest of a platform, to a chain of lazy layers (BuildKit: source/containerimage).

``resolve_config`` is asked by the frontend and settles what a name means, ``layer_chain`` makes what its vertex gives. Neither
downloads a layer, and both find manifest and config in the content store when they were there before: a cached build is silent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from builder.content.types import Layer
from builder.errors import IntegrityError, PybuildError, SourceError, UsageError
from builder.images.store import ImageStore
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.sources.platform_image import PlatformImage, find_platform
from builder.sources.providers import RegistryBlobs
from builder.sources.pull import ALWAYS, MISSING, PullPolicy
from builder.values import dataclass, replace

if TYPE_CHECKING:
    from builder.cache.refs import ImmutableRef
    from builder.cache.types import UnlazyProgress
    from builder.net.client import RegistryClient
    from builder.oci.platform import Platform
    from builder.worker import Worker

ResolveMode = Literal["default", "pull", "local"]


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """``ref`` is the full reference with the digest of ``target`` (index or manifest); ``manifest`` is the platform's. Layers are
    bottom first and have a provider where their blob may have to be fetched. ``answer`` says where the digest comes from."""

    ref: str
    target: Descriptor
    manifest: Descriptor
    config: bytes
    layers: tuple[Layer, ...]
    answer: Answer


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name stands for. ``age`` in seconds where a registry said so earlier, None where it was asked just now or need not be.
    ``failure``: why it could not be asked, where that does not matter."""

    target: Descriptor
    age: float | None = None
    failure: str = ""


def resolve_config(
    worker: Worker, ref: str, platform: Platform, mode: ResolveMode = "default", policy: PullPolicy = MISSING
) -> ResolvedImage:
    """What ``ref`` stands for. In this order: a digest in the reference; an image of the own store; what a registry said before;
    the registry. ``mode`` "pull" skips the middle two, ``policy`` may do so by age, or take them where the registry fails.

    NotFoundError, AuthError, SourceError, IntegrityError; UsageError for a reference that is none.
    """
    try:
        parsed = Reference.parse(ref).with_default_tag()
    except ValueError as e:
        raise UsageError(f'failed to parse stage name "{ref}": {e}') from e
    images = ImageStore(worker.database, worker.content)
    answer = _target(worker, images, parsed, ALWAYS if mode == "pull" else policy)
    target = answer.target
    documents = _Documents(worker, parsed)
    image = find_platform(documents, target, platform)
    if documents.fetched:
        images.add_sources([layer.digest for layer in image.manifest.layers], parsed)
    full = str(replace(parsed, digest=target.digest))
    return ResolvedImage(full, target, image.descriptor, image.config, _layers(worker, images, parsed, image), answer)


def layer_chain(
    worker: Worker, layers: tuple[Layer, ...], description: str, progress: UnlazyProgress | None
) -> ImmutableRef | None:
    """GetByBlob for each layer on the one below."""
    current: ImmutableRef | None = None
    for layer in layers:
        parent = current
        try:
            current = worker.cache.get_by_blob(layer, parent, description=description, progress=progress)
        finally:
            if parent is not None:
                parent.release()
    return current


def _target(worker: Worker, images: ImageStore, ref: Reference, policy: PullPolicy) -> Answer:
    if ref.digest:
        if worker.content.has(ref.digest):
            return Answer(Descriptor("", ref.digest, worker.content.size(ref.digest)))
        return Answer(worker.registry.resolve(ref))
    if policy.own and (own := _own(worker, images, ref)):
        return own
    remembered = images.recall(ref) if policy.fallback or policy.max_age != 0 else None
    age = None if remembered is None else max(0.0, images.age(ref))
    if remembered is not None and age is not None and (policy.max_age is None or age < policy.max_age):
        return Answer(remembered, age)
    try:
        return Answer(_ask(worker, images, ref))
    except IntegrityError:
        raise
    except SourceError as e:
        here = Answer(remembered, age) if remembered is not None else _own(worker, images, ref)
        if not policy.fallback or here is None:
            raise
        return replace(here, failure=str(e))


def _own(worker: Worker, images: ImageStore, ref: Reference) -> Answer | None:
    stored = images.get(ref)
    return Answer(stored.target) if stored is not None and worker.content.has(stored.target.digest) else None


def _ask(worker: Worker, images: ImageStore, ref: Reference) -> Descriptor:
    target = worker.registry.resolve(ref)
    # Remembered only once the document is here and can be read: a half-made answer must not stick.
    _Documents(worker, ref).manifest(target)
    images.remember(ref, target)
    return target


class _Documents:
    """Manifests and configs out of the content store, fetched into it where they are missing or damaged."""

    def __init__(self, worker: Worker, ref: Reference) -> None:
        self._worker = worker
        self._ref = ref
        self.fetched = False

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._read(descriptor, manifests.MAX_MANIFEST, lambda: self._client().fetch_manifest(self._ref, descriptor))

    def config(self, descriptor: Descriptor) -> bytes:
        limit = manifests.MAX_CONFIG
        return self._read(descriptor, limit, lambda: self._client().fetch_document(self._ref, descriptor, limit))

    def _read(self, descriptor: Descriptor, limit: int, fetch: Callable[[], bytes]) -> bytes:
        content = self._worker.content
        if content.has(descriptor.digest):
            try:
                return content.read(descriptor.digest, limit)
            except PybuildError:
                content.delete(descriptor.digest)
        data = fetch()
        self.fetched = True
        # Before the tag is remembered nothing else keeps them from a gc that runs just now.
        self._worker.cache.hold_blobs([descriptor.digest])
        content.ingest(replace(descriptor, size=len(data)), [data])
        return data

    def _client(self) -> RegistryClient:
        return self._worker.registry


def _layers(worker: Worker, images: ImageStore, ref: Reference, image: PlatformImage) -> tuple[Layer, ...]:
    """Layers with where they come from: the image's own repository, or the ones that are known to have the blob."""
    layers = []
    for descriptor, diff_id in zip(image.manifest.layers, image.diff_ids, strict=True):
        names = [source.name for source in images.sources(descriptor.digest)]
        if ref.name in names or not (names or worker.content.has(descriptor.digest)):
            names = [ref.name, *(n for n in names if n != ref.name)]
        provider = RegistryBlobs(worker, tuple(names)) if names else None
        layers.append(Layer(descriptor, diff_id, provider, names[0] if names else ""))
    return tuple(layers)


def config_key(config: bytes) -> Digest | None:
    """The chainID of a config's layers: the key that images with the same layers share. None for an image without layers."""
    from builder.oci import fields
    from builder.oci.digest import chain_id

    try:
        rootfs = fields.read(config).object("rootfs")
        diff_ids = list(map(Digest.parse, rootfs.texts("diff_ids") or ()))
        kind = rootfs.text("type")
    except ValueError:
        return Digest.of(config)
    if kind != "layers" or not diff_ids:
        return None
    return chain_id(diff_ids)
