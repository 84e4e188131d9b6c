"""Manifests and indexes as typed values; nothing is believed that the document does not say of itself. Pure.

Docker's schema 2 and the OCI image-spec's documents. One with both ``manifests`` and ``layers`` means something else to whoever
reads only one of them, and is refused (CVE-2021-41190); so is a media type that does not fit the content.
"""

from __future__ import annotations

from builder.errors import IntegrityError, UnsupportedError
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.fields import Fields, MalformedError, read
from builder.oci.platform import Platform, preference
from builder.values import dataclass

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SCHEMA1 = ("application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws")
INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPT = ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, "*/*"))

MAX_MANIFEST = 4 << 20
MAX_CONFIG = 8 << 20
_LAYERS = frozenset(
    base + suffix
    for base in (
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    )
    for suffix in ("", "+gzip", "+zstd", ".gzip", ".zstd")
)
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_SCHEMA1_TEXT = (
    "support Docker Image manifest version 2, schema 1 has been removed. "
    "More information at https://docs.docker.com/go/deprecated-image-specs/"
)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    descriptor: Descriptor
    platform: Platform | None

    @property
    def attestation(self) -> bool:
        """BuildKit's attestation manifests stand in the index beside the images they speak of."""
        return dict(self.descriptor.annotations).get("vnd.docker.reference.type") == "attestation-manifest"


@dataclass(frozen=True, slots=True)
class Index:
    media_type: str
    entries: tuple[IndexEntry, ...]

    def candidates(self, platform: Platform) -> list[IndexEntry]:
        """Entries for ``platform``, the best first; those without a platform come last: only their config can tell."""
        ranked: list[tuple[int, IndexEntry]] = []
        for entry in self.entries:
            if entry.attestation:
                continue
            rank = 1 << 16 if entry.platform is None else preference(platform, entry.platform)
            if rank is not None:
                ranked.append((rank, entry))
        return [entry for _, entry in sorted(ranked, key=lambda r: r[0])]


@dataclass(frozen=True, slots=True)
class Manifest:
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


def parse(data: bytes, media_type: str = "", *, what: str = "manifest", image_only: bool = True) -> Index | Manifest:
    """Read a manifest or index; ``media_type`` is what its descriptor or the registry calls it, empty if unknown.

    IntegrityError for anything malformed or ambiguous, UnsupportedError for schema 1 and, if ``image_only``, for artifacts that
    are no image.
    """
    if media_type in SCHEMA1:
        raise UnsupportedError(_SCHEMA1_TEXT)
    if len(data) > MAX_MANIFEST:
        raise IntegrityError(f"{what}: more than {MAX_MANIFEST} bytes")
    try:
        return _parse(read(data), media_type, what, image_only)
    except MalformedError as e:
        raise IntegrityError(f"{what}: malformed manifest: {e}") from e


def _parse(document: Fields, media_type: str, what: str, image_only: bool) -> Index | Manifest:
    is_manifest = "layers" in document or "config" in document
    if document.integer("schemaVersion") == 1 or ("fsLayers" in document and "layers" not in document):
        raise UnsupportedError(_SCHEMA1_TEXT)
    if is_manifest and "manifests" in document:
        raise IntegrityError(f"{what}: invalid ambiguous manifest and manifest list")
    own = document.text("mediaType")
    known = MANIFESTS if is_manifest else INDEXES
    for said in (own, media_type):
        if said in INDEXES + MANIFESTS and said not in known:
            raise IntegrityError(f"{what}: mediaType in manifest does not match manifest contents")
    if own in known and media_type in known and own != media_type:
        raise IntegrityError(f"{what}: mediaType in manifest is {own}, but it was announced as {media_type}")
    resolved = own if own in known else media_type if media_type in known else known[0]
    if not is_manifest:
        if "manifests" not in document:
            raise MalformedError("the document has neither layers nor manifests")
        return Index(resolved, tuple(map(_entry, document.objects("manifests"))))
    config = descriptor(document.object("config"))
    if image_only and config.media_type not in _CONFIGS:
        raise UnsupportedError(f"{what}: not an image: its config is of type {config.media_type or 'nothing'}")
    layers = tuple(map(descriptor, document.objects("layers")))
    for layer in layers:
        if image_only and layer.media_type not in _LAYERS:
            raise UnsupportedError(f"{what}: layer {layer.digest} is of the unsupported type {layer.media_type}")
    return Manifest(resolved, config, layers)


def descriptor(fields: Fields) -> Descriptor:
    """A descriptor of a document; MalformedError."""
    size = fields.integer("size")
    if "size" not in fields or not 0 <= size < 1 << 62:
        raise MalformedError(f"{fields.path}.size is no size")
    try:
        digest = Digest.parse(fields.text("digest"))
    except MalformedError:
        raise
    except ValueError as e:
        raise MalformedError(f"{fields.path}.digest: {e}") from None
    return Descriptor(fields.text("mediaType"), digest, size, fields.pairs("annotations"))


def _entry(fields: Fields) -> IndexEntry:
    return IndexEntry(descriptor(fields), platform_of(fields.object("platform")) if "platform" in fields else None)


def platform_of(fields: Fields) -> Platform:
    """Of an index' entry, or of an image config; MalformedError."""
    os, architecture, variant, version = map(fields.text, ("os", "architecture", "variant", "os.version"))
    return Platform(os, architecture, variant, version, fields.texts("os.features") or ())
