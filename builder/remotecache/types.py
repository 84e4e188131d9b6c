"""What ``--cache-from`` and ``--cache-to`` ask for, and layers as remote caches know them."""

from __future__ import annotations

from typing import Literal

from builder.content.types import Compression, Layer
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.values import dataclass, field

CacheMode = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class RegistryPlace:
    """A tag (or, to import, a digest) in a registry."""

    ref: Reference

    def __str__(self) -> str:
        return str(self.ref)


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A manifest of an OCI layout in ``folder`` (absolute): by ``digest``, else by ``tag``."""

    folder: str
    tag: str = "latest"
    digest: Digest | None = None

    def __str__(self) -> str:
        return f"local:{self.folder}"


Place = RegistryPlace | LocalPlace


@dataclass(frozen=True, slots=True)
class CacheExport:
    """One ``--cache-to``. ``place`` None is the image itself (type=inline).

    ``image_manifest``: as an image manifest that registries take for an image, else as an index of blobs. ``reset``: blobs of a
    folder that no manifest there names are deleted afterwards.
    """

    place: Place | None
    mode: CacheMode = "min"
    ignore_error: bool = False
    image_manifest: bool = True
    compression: Compression = field(default_factory=Compression)
    reset: bool = False


@dataclass(frozen=True, slots=True)
class RemoteLayer:
    """A layer with the time it was made (nanoseconds since the epoch, None: not known) and what for."""

    layer: Layer
    created_ns: int | None = None
    description: str = ""

    @property
    def digest(self) -> Digest:
        return self.layer.descriptor.digest
