"""A Dockerfile's text to graphs and image configs (BuildKit's dockerfile2llb). ``convert`` is the door.

A pure function of the text, the options and what the ``MetaResolver`` answers.
"""

from __future__ import annotations

from frontend.convert.contexts import context_name, oci_layout_ref, remote_context
from frontend.convert.convert import convert
from frontend.convert.options import (
    Converted,
    ConvertOptions,
    MetaResolver,
    ResolvedImageConfig,
    ResolveError,
    SourceFile,
    TargetResult,
)

__all__ = [
    "ConvertOptions",
    "Converted",
    "MetaResolver",
    "ResolveError",
    "ResolvedImageConfig",
    "SourceFile",
    "TargetResult",
    "context_name",
    "convert",
    "oci_layout_ref",
    "remote_context",
]
