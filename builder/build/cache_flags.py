"""The values of ``--cache-from`` and ``--cache-to``, with docker buildx's spelling. Pure: text in, values or an error out.

An empty value is none, as in buildx: ``--cache-from "$CACHE"`` where the variable is not set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from builder.errors import UnsupportedError, UsageError
from builder.oci.digest import Digest
from builder.text.fields import Values, flag_fields, key_values
from builder.text.strconv import truth_of

if TYPE_CHECKING:
    from builder.content.types import Compression
    from builder.oci.reference import Reference
    from builder.remotecache.types import CacheExport, CacheMode, Place

_ELSEWHERE = ("gha", "s3", "azblob")
_COMPRESSION = ("compression", "compression-level", "force-compression", "oci-mediatypes")
_BLOBS = frozenset({"mode", "ignore-error", "image-manifest", *_COMPRESSION})
_EXPORT_KEYS = {
    "registry": _BLOBS | {"ref"},
    "local": _BLOBS | {"dest", "tag", "reset"},
    "inline": frozenset({"mode", "ignore-error"}),
}
_IMPORT_KEYS = {"registry": frozenset({"ref"}), "local": frozenset({"src", "tag", "digest"})}


def parse_cache_from(values: Sequence[str]) -> tuple[Place, ...]:
    """``type=registry,ref=R``, ``type=local,src=FOLDER[,tag=T|digest=D]``, or references alone."""
    return tuple(place for text in values if text for place in _imports(text))


def parse_cache_to(values: Sequence[str], build_args: Mapping[str, str]) -> tuple[CacheExport, ...]:
    """``type=registry,ref=R``, ``type=local,dest=FOLDER``, ``type=inline``; the build arg BUILDKIT_INLINE_CACHE=1 is the last."""
    from builder.remotecache.types import CacheExport

    found = [spec for text in values if text for spec in _exports(text)]
    if truth_of(build_args.get("BUILDKIT_INLINE_CACHE", "")) and all(s.place is not None for s in found):
        found.append(CacheExport(None))
    return tuple(found)


def _imports(text: str) -> list[Place]:
    from builder.remotecache.types import LocalPlace, RegistryPlace

    refs, kind, attrs = _fields(text, "cache-from")
    if refs:
        return [RegistryPlace(_reference(r, "cache-from")) for r in refs]
    if kind == "inline":
        raise UsageError("--cache-from type=inline does not exist", hint="an inline cache is read with type=registry,ref=IMAGE")
    values = _values("cache-from", kind, attrs, _IMPORT_KEYS)
    if kind == "registry":
        return [RegistryPlace(_reference(values.required("ref"), "cache-from"))]
    return [LocalPlace(os.path.abspath(values.required("src")), values.get("tag", "latest"), _digest(values))]


def _exports(text: str) -> list[CacheExport]:
    from builder.remotecache.types import CacheExport, LocalPlace, RegistryPlace

    refs, kind, attrs = _fields(text, "cache-to")
    if refs:
        return [CacheExport(RegistryPlace(_reference(r, "cache-to"))) for r in refs]
    values = _values("cache-to", kind, attrs, _EXPORT_KEYS)
    mode = values.get("mode", "min")
    if mode not in ("min", "max"):
        raise UsageError(f"--cache-to: unknown mode {mode!r}", hint="modes are min, max")
    ignore_error = values.flag("ignore-error", False)
    if kind == "inline":
        if mode == "max":
            raise UsageError("--cache-to type=inline has mode=min only", hint="for layers of other steps use type=registry")
        return [CacheExport(None, "min", ignore_error)]
    compression = _compression(values)
    image_manifest = values.flag("image-manifest", compression.oci_media_types)
    if image_manifest and not compression.oci_media_types:
        raise UsageError("--cache-to: image-manifest=true conflicts with oci-mediatypes=false")
    place: Place
    if kind == "registry":
        place = RegistryPlace(_reference(values.required("ref"), "cache-to"))
    else:
        place = LocalPlace(os.path.abspath(values.required("dest")), values.get("tag", "latest"))
    reset = values.flag("reset", False)
    return [CacheExport(place, cast("CacheMode", mode), ignore_error, image_manifest, compression, reset)]


def _fields(text: str, flag: str) -> tuple[list[str], str, dict[str, str]]:
    """(references, "", {}) of a value without keys, else ([], type, the other keys)."""
    fields = flag_fields(text, flag)
    if all("=" not in f for f in fields):
        return fields, "", {}
    attrs = key_values(fields, flag)
    kind = attrs.pop("type", "")
    if not kind:
        raise UsageError(f"type required for --{flag}: {text!r}", hint="for example type=registry,ref=NAME")
    if kind in _ELSEWHERE:
        raise UnsupportedError(f"--{flag} type={kind} is not supported", hint="types are registry, local, inline")
    return [], kind, attrs


def _values(flag: str, kind: str, attrs: Mapping[str, str], known: Mapping[str, frozenset[str]]) -> Values:
    if kind not in known:
        raise UsageError(f"--{flag}: unknown type {kind!r}", hint="types are " + ", ".join(sorted(known)))
    if "registry.insecure" in attrs:
        raise UnsupportedError(
            f"--{flag}: registry.insecure is not supported", hint="say http or insecure of the registry in the config file"
        )
    values = Values(f"--{flag} type={kind}", attrs)
    values.refuse_unknown(known[kind])
    return values


def _digest(values: Values) -> Digest | None:
    text = values.get("digest")
    try:
        return Digest.parse(text) if text else None
    except ValueError as e:
        raise UsageError(f"{values.what}: invalid digest {text!r}: {e}") from e


def _compression(values: Values) -> Compression:
    """The rules of the image outputs."""
    from builder.exporters.image import ImageOptions
    from builder.exporters.types import OutputSpec

    if values.get("compression") == "estargz":
        raise UnsupportedError(f"{values.what}: compression=estargz is not supported")
    for name in _COMPRESSION[2:]:
        values.flag(name, False)
    spec = OutputSpec("image", attrs=tuple((n, values.pairs[n]) for n in _COMPRESSION if n in values.pairs))
    return ImageOptions.of(spec, oci_default=True).compression


def _reference(text: str, flag: str) -> Reference:
    from builder.oci.reference import Reference

    try:
        return Reference.parse(text).with_default_tag()
    except ValueError as e:
        raise UsageError(f"--{flag}: invalid reference {text!r}: {e}") from e
