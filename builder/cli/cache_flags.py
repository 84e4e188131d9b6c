"""The values of ``--cache-from`` and ``--cache-to``, with docker buildx's spelling. Pure: text in, values or an error out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from builder.errors import UnsupportedError, UsageError
from builder.oci.digest import Digest
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
    return tuple(place for text in values for place in _imports(text))


def parse_cache_to(values: Sequence[str], build_args: Mapping[str, str]) -> tuple[CacheExport, ...]:
    """``type=registry,ref=R``, ``type=local,dest=FOLDER``, ``type=inline``; the build arg BUILDKIT_INLINE_CACHE=1 is the last."""
    from builder.remotecache.types import CacheExport

    found = [spec for text in values for spec in _exports(text)]
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
    values = _Values("cache-from", kind, attrs, _IMPORT_KEYS)
    if kind == "registry":
        return [RegistryPlace(_reference(values.required("ref"), "cache-from"))]
    return [LocalPlace(os.path.abspath(values.required("src")), values.get("tag", "latest"), values.digest())]


def _exports(text: str) -> list[CacheExport]:
    from builder.remotecache.types import CacheExport, LocalPlace, RegistryPlace

    refs, kind, attrs = _fields(text, "cache-to")
    if refs:
        return [CacheExport(RegistryPlace(_reference(r, "cache-to"))) for r in refs]
    values = _Values("cache-to", kind, attrs, _EXPORT_KEYS)
    mode = values.get("mode", "min")
    if mode not in ("min", "max"):
        raise UsageError(f"--cache-to: unknown mode {mode!r}", hint="modes are min, max")
    ignore_error = values.flag("ignore-error", False)
    if kind == "inline":
        if mode == "max":
            raise UsageError("--cache-to type=inline has mode=min only", hint="for layers of other steps use type=registry")
        return [CacheExport(None, "min", ignore_error)]
    compression = values.compression()
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
    import csv

    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as e:
        raise UsageError(f"invalid --{flag} {text!r}: {e}") from e
    if fields and all("=" not in f for f in fields):
        return fields, "", {}
    attrs: dict[str, str] = {}
    for part in fields:
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"invalid value {part} in --{flag} {text}")
        attrs[key.strip().lower()] = value
    kind = attrs.pop("type", "")
    if not kind:
        raise UsageError(f"type required for --{flag}: {text!r}", hint="for example type=registry,ref=NAME")
    if kind in _ELSEWHERE:
        raise UnsupportedError(f"--{flag} type={kind} is not supported", hint="types are registry, local, inline")
    return [], kind, attrs


class _Values:
    """The keys of one value; what a type does not have is refused by name."""

    def __init__(self, flag: str, kind: str, attrs: Mapping[str, str], known: Mapping[str, frozenset[str]]) -> None:
        if kind not in known:
            raise UsageError(f"--{flag}: unknown type {kind!r}", hint="types are " + ", ".join(sorted(known)))
        self._flag, self._kind, self._attrs = flag, kind, attrs
        if "registry.insecure" in attrs:
            raise UnsupportedError(
                f"--{flag}: registry.insecure is not supported", hint="say http or insecure of the registry in the config file"
            )
        for key in attrs:
            if key not in known[kind]:
                hint = "options are " + ", ".join(sorted(known[kind]))
                raise UsageError(f"--{flag} type={kind}: unknown option {key!r}", hint=hint)

    def get(self, key: str, default: str) -> str:
        return self._attrs.get(key, default)

    def required(self, key: str) -> str:
        value = self._attrs.get(key, "")
        if not value:
            raise UsageError(f"--{self._flag} type={self._kind} requires {key}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._attrs.get(key)
        if value is None:
            return default
        flag = truth_of(value)
        if flag is None:
            raise UsageError(f"--{self._flag}: non-bool value {value!r} specified for {key}")
        return flag

    def digest(self) -> Digest | None:
        text = self._attrs.get("digest", "")
        try:
            return Digest.parse(text) if text else None
        except ValueError as e:
            raise UsageError(f"--{self._flag}: invalid digest {text!r}: {e}") from e

    def compression(self) -> Compression:
        """The rules of the image outputs."""
        from builder.exporters.image import ImageOptions
        from builder.exporters.types import OutputSpec

        if self.get("compression", "") == "estargz":
            raise UnsupportedError(f"--{self._flag}: compression=estargz is not supported")
        for name in _COMPRESSION[2:]:
            self.flag(name, False)
        spec = OutputSpec("image", attrs=tuple((n, self._attrs[n]) for n in _COMPRESSION if n in self._attrs))
        return ImageOptions.of(spec, oci_default=True).compression


def _reference(text: str, flag: str) -> Reference:
    from builder.oci.reference import Reference

    try:
        return Reference.parse(text).with_default_tag()
    except ValueError as e:
        raise UsageError(f"--{flag}: invalid reference {text!r}: {e}") from e
