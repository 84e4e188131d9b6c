"""The frontend image that a Dockerfile asks for. ``docker/dockerfile`` is taken as ours, others are looked up but never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci.reference import Reference
from frontend.convert.options import ResolveError
from frontend.errors import ConvertError
from frontend.parser.directives import DetectedDirective, detect_syntax

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.oci.platform import Platform
    from frontend.convert.imageconfigs import ImageConfigs

_OURS = ("docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream")


def external_frontend(text: str, build_args: Mapping[str, str], images: ImageConfigs, platform: Platform) -> str:
    """The other frontend's reference, empty for none. Raises ``ConvertError`` if there is no such image (as BuildKit)."""
    asked = _asked(text, build_args)
    if asked is None:
        return ""
    try:
        ref = Reference.parse(asked.value).with_default_tag()
        if ref.name in _OURS:
            return ""
        images.image(str(ref), platform)
    except (ValueError, ResolveError) as e:
        raise ConvertError(str(e), asked.ranges) from e
    return str(ref)


def _asked(text: str, build_args: Mapping[str, str]) -> DetectedDirective | None:
    given = build_args.get("BUILDKIT_SYNTAX", "").strip()
    return DetectedDirective(given.partition(" ")[0], given, ()) if given else detect_syntax(text)
