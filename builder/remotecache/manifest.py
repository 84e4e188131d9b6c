"""The manifest around a cache config: an image manifest whose config it is, or an index that lists it with the layers (BuildKit:
cache/remotecache/export.go, import.go). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.content.types import Layer
from builder.errors import IntegrityError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.documents import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, describe, descriptor_json, layer_type
from builder.oci.fields import read as read_fields
from builder.remotecache import config as v0
from builder.remotecache.types import RemoteLayer
from builder.text import gojson
from builder.text.times import format_rfc3339, parse_rfc3339
from builder.values import dataclass, replace

_DIFF_ID = "containerd.io/uncompressed"
_CREATED = "buildkit/createdat"
_DESCRIPTION = "buildkit/description"


@dataclass(frozen=True, slots=True)
class CacheManifest:
    """What a cache manifest names."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image manifest that may have a cache in its config."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """An index of image manifests."""

    manifests: tuple[Descriptor, ...]


def write(config: Descriptor, layers: Sequence[RemoteLayer], *, image_manifest: bool, oci: bool) -> tuple[Descriptor, bytes]:
    """(descriptor, document)."""
    described = [descriptor_json(_annotated(x, oci)) for x in layers]
    doc: dict[str, Any]
    if image_manifest:
        media_type = OCI_MANIFEST
        doc = {"schemaVersion": 2, "mediaType": media_type, "config": descriptor_json(config), "layers": described}
    else:
        media_type = OCI_INDEX if oci else DOCKER_LIST
        doc = {"schemaVersion": 2, "mediaType": media_type, "manifests": [*described, descriptor_json(config)]}
    data = gojson.encode(doc)
    return describe(media_type, data), data


def read(data: bytes, media_type: str, what: str) -> CacheManifest | InlineImage | ImageIndex:
    """IntegrityError for what is no manifest or index."""
    found = manifests.parse(data, media_type, what=what, image_only=False)
    if isinstance(found, manifests.Manifest):
        kind = CacheManifest if found.config.media_type == v0.MEDIA_TYPE else InlineImage
        return kind(found.config, found.layers)
    entries = [e.descriptor for e in found.entries]
    for entry in entries:
        if entry.media_type == v0.MEDIA_TYPE:
            return CacheManifest(entry, tuple(d for d in entries if d.media_type != v0.MEDIA_TYPE))
    return ImageIndex(tuple(e.descriptor for e in found.entries if not e.attestation))


def remote_layers(manifest: CacheManifest) -> dict[Digest, RemoteLayer]:
    """Layers by blob digest; those whose diffID is not said can't be used and are left out."""
    out: dict[Digest, RemoteLayer] = {}
    for descriptor in manifest.layers:
        notes = dict(descriptor.annotations)
        try:
            diff_id = Digest.parse(notes.get(_DIFF_ID, ""))
        except ValueError:
            continue
        layer = Layer(replace(descriptor, media_type=layer_type(descriptor.media_type, oci=True), annotations=()), diff_id)
        out[descriptor.digest] = RemoteLayer(layer, _time(notes.get(_CREATED, "")), notes.get(_DESCRIPTION, ""))
    return out


def inline_cache(image: InlineImage, config: bytes) -> tuple[v0.CacheConfig, dict[Digest, RemoteLayer]] | None:
    """The cache in an image's config, on the image's layers; None if there is none."""
    try:
        doc = read_fields(config)
        encoded = doc.text(v0.INLINE_KEY)
        if not encoded:
            return None
        diff_ids = list(map(Digest.parse, doc.object("rootfs").texts("diff_ids") or ()))
        history = [h for h in doc.objects("history") if not h.flag("empty_layer")]
        import base64

        records = base64.b64decode(encoded, validate=True)
        said = [(h.time("created"), h.text("created_by")) for h in history]
    except ValueError as e:
        raise IntegrityError(f"inline cache: malformed image config: {e}") from e
    if len(diff_ids) != len(image.layers):
        raise IntegrityError("inline cache: the image's config and manifest differ in their layers")
    layers: dict[Digest, RemoteLayer] = {}
    for i, (descriptor, diff_id) in enumerate(zip(image.layers, diff_ids, strict=True)):
        created, created_by = said[i] if i < len(said) else ("", "")
        layer = Layer(replace(descriptor, media_type=layer_type(descriptor.media_type, oci=True), annotations=()), diff_id)
        layers[descriptor.digest] = RemoteLayer(layer, _time(created), created_by)
    chain = tuple(v0.CacheLayer(d.digest, i - 1) for i, d in enumerate(image.layers))
    return v0.parse_records(records, chain), layers


def _annotated(remote: RemoteLayer, oci: bool) -> Descriptor:
    notes = [(_DIFF_ID, str(remote.layer.diff_id))]
    if remote.created_ns is not None:
        notes.append((_CREATED, format_rfc3339(remote.created_ns)))
    d = remote.layer.descriptor
    return replace(d, media_type=layer_type(d.media_type, oci=oci), annotations=tuple(sorted(notes)))


def _time(text: str) -> int | None:
    """None where it is not said, or not so that it can be understood."""
    try:
        return parse_rfc3339(text)
    except ValueError:
        return None
