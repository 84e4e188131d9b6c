"""From the descriptor that a name stands for to the one image of a platform: index -> manifest -> config.

The same for registries, the own store and OCI layouts: they differ in how a document is read, which is the caller's ``Documents``.
"""

from __future__ import annotations

from typing import Protocol

from builder.errors import IntegrityError, NotFoundError
from builder.oci import fields
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.platform import Platform, preference
from builder.values import dataclass

MAX_NESTING = 2
"""An index may hold indexes (image-spec, image-index.md), but nobody needs a third floor."""
_MAX_UNNAMED = 8


class Documents(Protocol):
    """Reads what a descriptor names, verified. NotFoundError, IntegrityError, SourceError."""

    def manifest(self, descriptor: Descriptor) -> bytes: ...

    def config(self, descriptor: Descriptor) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """``target`` is what the name stands for, ``descriptor`` the platform's manifest: the same for an image of one platform."""

    target: Descriptor
    descriptor: Descriptor
    manifest: manifests.Manifest
    config: bytes
    diff_ids: tuple[Digest, ...]


def find_platform(documents: Documents, target: Descriptor, platform: Platform) -> PlatformImage:
    """The image of ``target`` for ``platform``. A manifest that no index leads to is taken whatever its platform is, as in docker.

    NotFoundError if the index has nothing for the platform.
    """
    found = _find(documents, target, target, platform, 0)
    if found is None:
        raise NotFoundError(f"no match for platform in manifest {target.digest}: not found", hint=f"wanted: {platform}")
    return found


def _find(
    documents: Documents, target: Descriptor, descriptor: Descriptor, platform: Platform, depth: int, *, check: bool = False
) -> PlatformImage | None:
    document = manifests.parse(
        documents.manifest(descriptor), descriptor.media_type, what=f"manifest {descriptor.digest}"
    )
    if isinstance(document, manifests.Manifest):
        return _image(documents, target, descriptor, document, platform if check else None)
    if depth == MAX_NESTING:
        raise IntegrityError(f"manifest {target.digest}: indexes are nested more than {MAX_NESTING} deep")
    for entry in document.candidates(platform)[:_MAX_UNNAMED]:
        found = _find(documents, target, entry.descriptor, platform, depth + 1, check=entry.platform is None)
        if found is not None:
            return found
    return None


def _image(
    documents: Documents, target: Descriptor, descriptor: Descriptor, manifest: manifests.Manifest, platform: Platform | None
) -> PlatformImage | None:
    """``platform``: the config must be of it, because the index did not say."""
    config = documents.config(manifest.config)
    try:
        document = fields.read(config)
        if platform is not None and preference(platform, manifests.platform_of(document)) is None:
            return None
        diff_ids = tuple(map(Digest.parse, document.object("rootfs").texts("diff_ids") or ()))
    except ValueError as e:
        raise IntegrityError(f"image config {manifest.config.digest} is malformed: {e}") from e
    if len(diff_ids) != len(manifest.layers):
        raise IntegrityError(
            f"manifest {descriptor.digest}: mismatched image rootfs and manifest layers: "
            f"{len(diff_ids)} diff ids, {len(manifest.layers)} layers"
        )
    return PlatformImage(target, descriptor, manifest, config, diff_ids)
