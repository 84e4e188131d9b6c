"""Manifests, indexes and layouts as JSON: the OCI image-spec's documents with the fields in the order Go writes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.text import gojson
from builder.text.gojson import JSONObject

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

_LAYER_TYPES = {
    "application/vnd.oci.image.layer.v1.tar": "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
}


def layer_type(media_type: str, *, oci: bool) -> str:
    """A layer's media type in the other family: an image is all OCI or all docker."""
    if oci:
        return {v: k for k, v in _LAYER_TYPES.items()}.get(media_type, media_type)
    return _LAYER_TYPES.get(media_type, media_type)


def descriptor_json(d: Descriptor, platform: Platform | None = None) -> JSONObject:
    """A descriptor; ``platform`` is said in indexes only."""
    out: JSONObject = {"mediaType": d.media_type, "digest": d.digest, "size": d.size}
    if d.annotations:
        out["annotations"] = dict(sorted(d.annotations))
    if platform is not None:
        out["platform"] = platform_json(platform)
    return out


def platform_json(p: Platform) -> JSONObject:
    out: JSONObject = {"architecture": p.architecture, "os": p.os}
    for key, value in (("os.version", p.os_version), ("os.features", list(p.os_features)), ("variant", p.variant)):
        if value:
            out[key] = value
    return out


def manifest_json(config: Descriptor, layers: Sequence[Descriptor], annotations: Sequence[tuple[str, str]], *, oci: bool) -> bytes:
    doc: JSONObject = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST if oci else DOCKER_MANIFEST,
        "config": descriptor_json(config),
        "layers": [descriptor_json(d) for d in layers],
    }
    if annotations:
        doc["annotations"] = dict(sorted(annotations))
    return indented(doc)


def index_json(
    manifests: Sequence[tuple[Descriptor, Platform | None]], annotations: Sequence[tuple[str, str]], *, oci: bool
) -> bytes:
    doc: JSONObject = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX if oci else DOCKER_LIST,
        "manifests": [descriptor_json(d, p) for d, p in manifests],
    }
    if annotations:
        doc["annotations"] = dict(sorted(annotations))
    return indented(doc)


def indented(doc: JSONObject) -> bytes:
    """json.MarshalIndent's form, which BuildKit stores manifests in."""
    return gojson.encode(doc, indent=2)


def describe(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))
