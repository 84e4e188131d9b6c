"""The image writer: refs and configs to layer blobs, config, manifest and index in the content store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from builder.content.types import Compression, Layer
from builder.errors import DamagedStoreError, UsageError
from builder.exporters.annotations import INDEX, INDEX_DESCRIPTOR, MANIFEST, MANIFEST_DESCRIPTOR, Annotations
from builder.exporters.history import LayerFact, complete_config
from builder.exporters.types import EPOCH_KEY, BuildOutput, OutputSpec, SolvedTarget
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest, chain_id
from builder.oci.documents import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    describe,
    index_json,
    layer_type,
    manifest_json,
)
from builder.values import dataclass, field, replace

if TYPE_CHECKING:
    from builder.content.store import ContentStore
    from builder.oci.platform import Platform
    from builder.worker import Worker

Report = Callable[[str], None]
IMAGE_KEYS = frozenset(
    {"name", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp", EPOCH_KEY},
)


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How the image is written: the exporter attributes that image, oci and docker share."""

    compression: Compression = field(default_factory=Compression)
    rewrite_timestamp: bool = False
    annotations: Annotations = field(default_factory=Annotations)

    @classmethod
    def of(cls, spec: OutputSpec, *, oci_default: bool) -> ImageOptions:
        """UsageError for values that make no sense."""
        oci = spec.flag("oci-mediatypes", oci_default)
        kind = spec.get("compression", "gzip")
        if kind not in ("gzip", "zstd", "uncompressed"):
            raise UsageError(f"unsupported compression type {kind}", hint="types are gzip, zstd, uncompressed")
        if kind == "zstd" and not oci:
            raise UsageError('exporter option "compression=zstd" conflicts with "oci-mediatypes=false"')
        level = spec.get("compression-level")
        if level and not level.lstrip("-").isdigit():
            raise UsageError(f"non-integer value {level} specified for compression-level")
        compression = Compression(kind, int(level) if level else None, spec.flag("force-compression", False), oci)
        return cls(compression, spec.flag("rewrite-timestamp", False), Annotations.of(spec.attrs))


@dataclass(frozen=True, slots=True)
class WrittenImage:
    """``top`` is the manifest, or the index of a multi-platform build; ``manifests`` has one entry a platform. Annotations of
    ``top`` are for where it is listed: they are in no document of the image."""

    top: Descriptor
    manifests: tuple[WrittenManifest, ...]
    documents: Mapping[Digest, bytes] = field(default_factory=dict)
    """Manifests, configs and the index. In the content store only if the image is stored there (``store_documents``)."""

    @property
    def platform(self) -> Platform | None:
        """None for an index."""
        only = self.manifests[0]
        return only.platform if only.manifest.digest == self.top.digest else None

    def blobs(self) -> tuple[Descriptor, ...]:
        """Everything the image consists of, each once, the top first."""
        seen = {self.top.digest: self.top}
        for m in self.manifests:
            for d in (m.manifest, m.config, *m.layers):
                seen.setdefault(d.digest, d)
        return tuple(seen.values())


@dataclass(frozen=True, slots=True)
class WrittenManifest:
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    platform: Platform | None = None


def write_image(worker: Worker, output: BuildOutput, options: ImageOptions, report: Report) -> WrittenImage:
    """Make every layer blob of the image, and its documents; what is already there is not made again."""
    if len(output.targets) > 1 and not output.multi:
        raise UsageError("cannot export multiple platforms without multi-platform enabled")
    report("exporting layers")
    documents: dict[Digest, bytes] = {}
    written = tuple(_write_manifest(worker, t, output.epoch, options, report, documents) for t in output.targets)
    if not output.multi:
        return WrittenImage(written[0].manifest, written, documents)
    oci = options.compression.oci_media_types
    index = index_json([(m.manifest, m.platform) for m in written], options.annotations.get(INDEX), oci=oci)
    top = replace(describe(OCI_INDEX if oci else DOCKER_LIST, index), annotations=options.annotations.get(INDEX_DESCRIPTOR))
    report(f"exporting manifest list {top.digest}")
    documents[top.digest] = index
    return WrittenImage(top, written, documents)


def store_documents(worker: Worker, image: WrittenImage) -> None:
    """Into the content store. Held first: another process's gc must not take a document that nothing names yet."""
    worker.cache.hold_blobs(image.documents)
    for document in image.documents.values():
        worker.content.put(document)


def _write_manifest(
    worker: Worker,
    target: SolvedTarget,
    epoch: int | None,
    options: ImageOptions,
    report: Report,
    documents: dict[Digest, bytes],
) -> WrittenManifest:
    if not target.config.platform.architecture:
        hint = "a --build-context without image config took the place of a stage"
        raise UsageError("invalid image config for export: missing architecture", hint=hint)
    content = worker.content
    oci = options.compression.oci_media_types
    layers = target.ref.remote(options.compression) if target.ref else ()
    _compare(worker, target, layers)
    for layer in layers:
        _ensure(content, layer)
    cache = target.inline_cache(layers, options.compression) if target.inline_cache else {}
    if options.rewrite_timestamp and epoch is not None:
        from builder.exporters.rewrite import rewrite_layers

        report(f"rewriting layers with source-date-epoch {epoch}")
        own = frozenset(target.base.diff_ids if target.base else ())
        layers = rewrite_layers(content, layers, own, epoch, options.compression)
    facts = _facts(target, layers)
    config = complete_config(target.config, facts, target.base, epoch).to_json(cache)
    config_descriptor = describe(OCI_CONFIG if oci else DOCKER_CONFIG, config)
    descriptors = tuple(
        replace(x.descriptor, media_type=layer_type(x.descriptor.media_type, oci=oci), annotations=()) for x in layers
    )
    manifest = manifest_json(config_descriptor, descriptors, options.annotations.get(MANIFEST, target.platform), oci=oci)
    described = describe(OCI_MANIFEST if oci else DOCKER_MANIFEST, manifest)
    descriptor = replace(described, annotations=options.annotations.get(MANIFEST_DESCRIPTOR, target.platform))
    report(f"exporting manifest {descriptor.digest}")
    documents[descriptor.digest] = manifest
    report(f"exporting config {config_descriptor.digest}")
    documents[config_descriptor.digest] = config
    return WrittenManifest(descriptor, config_descriptor, descriptors, target.platform)


def _compare(worker: Worker, target: SolvedTarget, layers: Sequence[Layer]) -> None:
    """The last look before an image is written: are these the layers of the result, on all those of its base? What they were found
    by says so a second time. DamagedStoreError."""
    known = None
    if target.ref is not None:
        worker.cache.known.refresh([target.ref.id])  # another process may just have made a blob anew
        known = target.ref.chain_id
    base = target.base.diff_ids if target.base else ()
    if len(layers) < len(base) or (known is not None and known != chain_id([layer.diff_id for layer in layers])):
        raise DamagedStoreError(f"the {len(layers)} layers that are known of the image are not those that it was built of")


def _facts(target: SolvedTarget, layers: tuple[Layer, ...]) -> list[LayerFact]:
    chain = target.ref.layers() if target.ref else ()
    return [
        LayerFact(str(layer.diff_id), ref.description, ref.created_at_ns) for layer, ref in zip(layers, chain, strict=True)
    ]


def _ensure(content: ContentStore, layer: Layer) -> None:
    """Bring the blob of a lazy layer: an exported image is whole."""
    if layer.provider is not None:
        content.fetch(layer.descriptor, layer.provider)
