"""Images in an OCI layout on disk (image-spec, image-layout.md): ``--build-context name=oci-layout://folder:tag``. Blobs are read
in place and verified; the folder is the user's and is never written to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.content.layout import IMAGE_NAME, REF_NAME, LayoutFolder
from builder.content.types import Layer
from builder.errors import IntegrityError, NotFoundError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.sources.image import Answer, ResolvedImage
from builder.sources.platform_image import find_platform
from builder.sources.providers import LAYOUT_PREFIX, LayoutBlobs

if TYPE_CHECKING:
    from builder.oci.platform import Platform
    from builder.worker import Worker


def resolve_config(worker: Worker, folder: str, ref: str, platform: Platform) -> ResolvedImage:
    """Image ``ref`` (a tag or a digest) of the layout in ``folder``; the result's ``ref`` is ``FOLDER@DIGEST``.

    NotFoundError, SourceError, IntegrityError.
    """
    folder = os.path.abspath(folder)
    layout = LayoutFolder(folder)
    image = find_platform(_Documents(layout), _target(layout, ref), platform)
    provider, source = LayoutBlobs(folder), LAYOUT_PREFIX + folder
    layers = tuple(
        Layer(descriptor, diff_id, provider, source)
        for descriptor, diff_id in zip(image.manifest.layers, image.diff_ids, strict=True)
    )
    target = image.target
    return ResolvedImage(f"{folder}@{target.digest}", target, image.descriptor, image.config, layers, Answer(target))


def _target(layout: LayoutFolder, ref: str) -> Descriptor:
    try:
        return layout.find(Digest.parse(ref))
    except ValueError:
        return _tagged(layout, ref)


def _tagged(layout: LayoutFolder, tag: str) -> Descriptor:
    """By the index's annotations. ``latest`` is also the only image of an index that names none."""
    folder = layout.path
    index = manifests.parse(layout.index(), what=f"OCI layout {folder}: index.json")
    if not isinstance(index, manifests.Index):
        raise IntegrityError(f"OCI layout {folder}: index.json is no index")
    for entry in index.entries:
        annotations = dict(entry.descriptor.annotations)
        if tag in (annotations.get(REF_NAME), annotations.get(IMAGE_NAME)):
            return entry.descriptor
    if tag == "latest" and len(index.entries) == 1:
        return index.entries[0].descriptor
    names = sorted({dict(e.descriptor.annotations).get(REF_NAME, "") for e in index.entries} - {""})
    raise NotFoundError(
        f"OCI layout {folder}: tag {tag!r}: not found", hint="it has " + ", ".join(names) if names else "name a digest"
    )


class _Documents:
    """See platform_image."""

    def __init__(self, layout: LayoutFolder) -> None:
        self._layout = layout

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._layout.document(descriptor, manifests.MAX_MANIFEST)

    def config(self, descriptor: Descriptor) -> bytes:
        return self._layout.document(descriptor, manifests.MAX_CONFIG)
