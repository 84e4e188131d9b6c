"""What a build came to: data that outlives it, and the error it ended with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import PybuildError
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.exporters.image import WrittenImage
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class BuiltTarget:
    """One platform's root filesystem. ``record`` is the id of its record in the cache (``Root.mount``), None for an image
    without layers."""

    platform: Platform
    record: str | None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """``images`` has one entry for each output that is an image, in the outputs' order. ``warnings`` are texts, those of the
    linter apart in ``findings``."""

    targets: tuple[BuiltTarget, ...]
    images: tuple[WrittenImage, ...] = ()
    tags: tuple[Reference, ...] = ()
    warnings: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest | None:
        """Of the manifest, or of the index of a build for several platforms; None where no image was asked for."""
        return self.images[0].top.digest if self.images else None

    @property
    def image_id(self) -> Digest | None:
        """What docker calls the image's id: the digest of the config; of an index where there are several."""
        if not self.images:
            return None
        image = self.images[0]
        return image.top.digest if len(image.manifests) > 1 else image.manifests[0].config.digest

    def metadata(self) -> bytes:
        """What buildx writes to --metadata-file: JSON about the first image; an empty object where there is none."""
        from builder.build.metadata import metadata_json

        return metadata_json(self)


class BuildError(PybuildError):
    """A build failed once its Dockerfile was read: ``cause`` says how, name and text of the Dockerfile are for an excerpt.

    ``str()`` is the cause's line, ``hint`` and ``exit_code`` are the cause's too.
    """

    def __init__(self, cause: Exception, dockerfile_name: str, dockerfile: bytes) -> None:
        super().__init__(str(cause), hint=getattr(cause, "hint", ""))
        self.cause = cause
        self.dockerfile_name = dockerfile_name
        self.dockerfile = dockerfile
        self.exit_code = getattr(cause, "exit_code", 1)
