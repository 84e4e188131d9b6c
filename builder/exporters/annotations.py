"""Annotations of images: what asks for them, and the document that each goes to (BuildKit: exporter/containerimage/annotations.go).

    manifest              each image's manifest, or that of one platform
    manifest-descriptor   the manifest's descriptor: in the index, or in the layout's index.json where there is no index
    index                 the index
    index-descriptor      the index' descriptor in the layout's index.json
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from builder.errors import UsageError
from builder.oci.platform import Platform
from builder.text.quoting import quote
from builder.values import dataclass

MANIFEST, MANIFEST_DESCRIPTOR, INDEX, INDEX_DESCRIPTOR = "manifest", "manifest-descriptor", "index", "index-descriptor"
KINDS = (MANIFEST, MANIFEST_DESCRIPTOR, INDEX, INDEX_DESCRIPTOR)
_ATTRIBUTE = r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)"
_TYPE = r"([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?"
_HINT = "types are " + ", ".join(KINDS)

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AnnotationKey:
    """``kind`` is one of KINDS; ``platform`` is normalized, or empty for all."""

    kind: str
    platform: str
    key: str

    @property
    def attribute(self) -> str:
        """The key of an output: ``annotation-manifest[linux/arm64].KEY``."""
        return f"annotation-{self.kind}{f'[{self.platform}]' if self.platform else ''}.{self.key}"


def parse_attribute(text: str) -> AnnotationKey | None:
    """``annotation[-TYPE][[PLATFORM]].KEY``; None for what is no annotation. UsageError for an unknown type or platform."""
    match = re.fullmatch(_ATTRIBUTE, text) if text.startswith("annotation") else None
    if match is None:
        return None
    kind, platform, key = match.groups()
    if kind not in (None, *KINDS):
        raise UsageError(f"unrecognized annotation type {kind}", hint=_HINT)
    return AnnotationKey(kind or MANIFEST, _platform(platform), key)


def parse_flags(values: Sequence[str]) -> Pairs:
    """``--annotation [TYPE[[PLATFORM]][,TYPE...]:]KEY=VALUE`` as keys and values of outputs (buildx: ParseAnnotations)."""
    found: dict[AnnotationKey, str] = {}
    for text in filter(None, values):
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"invalid annotation {quote(text)}, expected key=value")
        types, colon, key = name.partition(":")
        if not colon:
            types, key = MANIFEST, name
        for word in types.split(","):
            found[_typed(word, key)] = value
    return tuple((key.attribute, value) for key, value in found.items())


def _typed(word: str, key: str) -> AnnotationKey:
    match = re.fullmatch(_TYPE, word)
    if match is None:
        expected = "expected type and optional platform in square brackets"
        raise UsageError(f"invalid annotation type {quote(word)}, {expected}", hint=_HINT)
    kind, platform = match.groups()
    if kind not in KINDS:
        raise UsageError(f"unknown annotation type {quote(kind)}", hint=_HINT)
    if not key or re.search(r"\s", key):
        raise UsageError(f"invalid annotation key {quote(key)}", hint="a key is a word without spaces")
    # An index is of no platform.
    return AnnotationKey(kind, "" if kind in (INDEX, INDEX_DESCRIPTOR) else _platform(platform), key)


def _platform(text: str | None) -> str:
    if not text:
        return ""
    try:
        return str(Platform.parse(text))
    except ValueError as e:
        raise UsageError(f"invalid platform {quote(text)} of an annotation: {e}") from e


@dataclass(frozen=True, slots=True)
class Annotations:
    """All annotations of one output."""

    items: tuple[tuple[AnnotationKey, str], ...] = ()

    @classmethod
    def of(cls, attributes: Iterable[tuple[str, str]]) -> Annotations:
        """Those among the keys of an output; a later one of the same name wins. UsageError."""
        found: dict[AnnotationKey, str] = {}
        for name, value in attributes:
            key = parse_attribute(name)
            if key is not None:
                found[key] = value
        return cls(tuple(found.items()))

    def get(self, kind: str, platform: Platform | None = None) -> Pairs:
        """Of the documents of this kind; what is said of the platform wins over what is said of all."""
        # An index takes them whatever their platform.
        wanted = {k.platform for k, _ in self.items} if kind in (INDEX, INDEX_DESCRIPTOR) else {"", str(platform)}
        found: dict[str, str] = {}
        for key, value in sorted(self.items, key=lambda item: item[0].platform):
            if key.kind == kind and key.platform in wanted:
                found[key.key] = value
        return tuple(found.items())

    def check(self, platforms: Sequence[Platform], *, multi: bool, oci: bool) -> None:
        """UsageError for what has no document to go to in a result for ``platforms``; ``multi``: with an index."""
        kinds = {key.kind for key, _ in self.items}
        if not oci and kinds - {MANIFEST}:
            raise UsageError('cannot export annotations with "oci-mediatypes=false"')
        if not multi and kinds & {INDEX, INDEX_DESCRIPTOR}:
            hint = "an index comes with several --platform, or with --build-arg BUILDKIT_MULTI_PLATFORM=1"
            raise UsageError("index annotations not supported for single platform export", hint=hint)
        missing = self.missing(platforms)
        if missing and multi and len(platforms) > 1:
            raise UsageError(f"invalid annotation: no platform {missing[0]} found in source")

    def missing(self, platforms: Sequence[Platform]) -> tuple[str, ...]:
        """Platforms that have annotations and no image. Where one platform alone is built that is no error: the same command may
        build for each in turn."""
        built = {str(p) for p in platforms}
        return tuple(dict.fromkeys(k.platform for k, _ in self.items if k.platform and k.platform not in built))
