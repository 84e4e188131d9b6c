"""Content descriptors and the media types of layers (OCI image-spec descriptor.md, media-types.md)."""

from __future__ import annotations

from builder.oci.digest import Digest
from builder.values import dataclass

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A content descriptor (OCI image-spec descriptor.md). ``size`` in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: tuple[tuple[str, str], ...] = ()
