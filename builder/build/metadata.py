"""What tools read after a build: buildx' --metadata-file as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci.documents import descriptor_json
from builder.text import gojson
from builder.text.gojson import JSONObject

if TYPE_CHECKING:
    from builder.build.result import BuildResult


def metadata_json(result: BuildResult) -> bytes:
    """The document for the first image; an empty object where there is none."""
    if not result.images:
        return b"{}"
    image = result.images[0]
    doc: JSONObject = {
        "containerimage.config.digest": image.manifests[0].config.digest,
        "containerimage.descriptor": descriptor_json(image.top, image.platform),
        "containerimage.digest": image.top.digest,
        "image.name": ",".join(str(t) for t in result.tags),
    }
    return gojson.encode({k: v for k, v in doc.items() if v}, indent=2)
