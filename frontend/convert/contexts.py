"""Where files and images come from that are no stage: the main context, and named contexts (--build-context)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from builder.graph.gitref import parse_git_ref
from builder.graph.ops import NO_INPUT, CopyAction, GitSource, HTTPSource, ImageSource, LocalSource, OCILayoutSource
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.oci.image import ImageConfig
from builder.oci.platform import normalize
from builder.oci.reference import Reference
from builder.text.strconv import truth_of
from builder.values import dataclass, replace
from frontend.convert.state import SourcedCopy, State, copy_edge
from frontend.errors import ConvertError

if TYPE_CHECKING:
    from builder.graph.ops import Source
    from builder.oci.platform import Platform
    from frontend.convert.imageconfigs import ImageConfigs

Kind: TypeAlias = Literal["scratch", "docker-image", "oci-layout", "git", "http", "local"]
RESERVED = ("scratch", "context")
HTTP_FILENAME = "context"


@dataclass(frozen=True, slots=True)
class NamedContext:
    """``key`` as it was given, maybe with ``::platform``; ``ref`` is an image reference, a tag or digest, a URL or a folder."""

    key: str
    kind: Kind
    ref: str
    platform: Platform

    @property
    def is_image(self) -> bool:
        return self.kind in ("docker-image", "oci-layout")

    def source(self) -> GitSource | HTTPSource | None:
        """The remote source, None for anything else."""
        if self.kind == "git":
            return _git_source(self.ref)
        return HTTPSource(self.ref, filename=HTTP_FILENAME) if self.kind == "http" else None


class NamedContexts:
    """The --build-context values, looked up by stage and image names."""

    __slots__ = ("_default", "_values")

    def __init__(self, values: Mapping[str, str], default: Platform) -> None:
        self._values = {context_name(name): value for name, value in values.items()}
        self._default = default

    def find(self, name: str, platform: Platform | None) -> NamedContext | None:
        """The context that stands in for ``name``. Raises ``ConvertError`` for a name that can be none, or a malformed value."""
        if name.lower() in RESERVED:
            return None
        name = context_name(name)
        wanted = normalize(platform or self._default)
        for key in (f"{name}::{wanted}", name):
            if key in self._values:
                kind, ref = _parse_value(key, self._values[key])
                return NamedContext(key, kind, ref, wanted)
        return None


def load(context: NamedContext, images: ImageConfigs) -> tuple[State, ImageConfig | None]:
    """The context's files, and its config if it is an image."""
    if context.kind == "scratch":
        return State(), None
    if context.kind == "local":
        name = f"[context {context.key}] load from client"
        source = LocalSource(context.key, exclude=images.ignore_patterns(context.key))
        return State(Edge(Vertex(source, meta=VertexMeta(name=name)))), None
    if context.is_image:
        return _load_image(context, images)
    remote = context.source()
    assert remote is not None
    shown = f"[internal] load git source {context.ref}" if context.kind == "git" else f"[context {context.key}] {context.ref}"
    return State(Edge(Vertex(remote, meta=VertexMeta(name=shown, internal=context.kind == "git")))), None


def _load_image(context: NamedContext, images: ImageConfigs) -> tuple[State, ImageConfig]:
    op: ImageSource | OCILayoutSource
    if context.kind == "oci-layout":
        resolved = images.oci_layout(context.key, context.ref, context.platform)
        op = OCILayoutSource(context.key, resolved.ref.rpartition("@")[2])
        name = f"[context {context.key}] OCI load from client"
    else:
        resolved = images.image(image_ref(context), context.platform)
        op = ImageSource(resolved.ref, images.mode)
        name = f"[context {context.key}] {resolved.ref}"
    edge = Edge(Vertex(op, platform=context.platform, meta=VertexMeta(name=name)))
    config = replace(resolved.config, created="")
    return State(edge, platform=config.platform if config.platform.os else None), config


def image_ref(context: NamedContext) -> str:
    """Normalized reference of a docker-image context."""
    try:
        return str(Reference.parse(context.ref).with_default_tag())
    except ValueError as e:
        raise ConvertError(str(e)) from None


def main_edge(source: Source | Edge, ignore: tuple[str, ...]) -> Edge:
    """What COPY without --from reads."""
    if isinstance(source, Edge):
        return source
    if isinstance(source, HTTPSource):
        return _unpacked(source)
    if isinstance(source, LocalSource):
        source = replace(source, exclude=(*source.exclude, *ignore))
    name = f"load git source {source.remote}" if isinstance(source, GitSource) else "load build context"
    return Edge(Vertex(source, meta=VertexMeta(name=f"[internal] {name}", internal=True)))


def _unpacked(source: HTTPSource) -> Edge:
    archive = Edge(Vertex(source, meta=VertexMeta(name="[internal] load remote build context", internal=True)))
    copy = CopyAction(NO_INPUT, NO_INPUT, 0, "/" + (source.filename or HTTP_FILENAME), "/", attempt_unpack=True)
    return copy_edge(None, [SourcedCopy(archive, copy)], VertexMeta(name="[internal] load build context", internal=True))


def _git_source(text: str) -> GitSource:
    ref = parse_git_ref(text)
    assert ref is not None
    return ref.source()


def remote_context(text: str, build_args: Mapping[str, str]) -> GitSource | HTTPSource | None:
    """The context that a command line names by URL, None for a folder. An ``HTTPSource`` may turn out to be a Dockerfile.

    BUILDKIT_CONTEXT_KEEP_GIT_DIR keeps ``.git``; with SOURCE_DATE_EPOCH the files of a repository have the time of the commit.
    Raises ``ConvertError``.
    """
    try:
        ref = parse_git_ref(text)
    except ValueError as e:
        raise ConvertError(str(e)) from None
    if ref is not None:
        keep = bool(truth_of(build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "")))
        return ref.source(keep_git_dir=keep, mtime_commit=bool(build_args.get("SOURCE_DATE_EPOCH")))
    return HTTPSource(text, filename=HTTP_FILENAME) if text.startswith(("http://", "https://")) else None


def context_name(name: str) -> str:
    """The name of a named context as sources carry it: ``docker.io/library/a:latest`` is ``a``. Raises ``ConvertError``."""
    at = name.rfind("::")
    base, platform = (name[:at], name[at:]) if at > name.rfind("]") else (name, "")  # not in [::1]:5000/a
    try:
        return Reference.parse(base).familiar.removesuffix(":latest") + platform
    except ValueError as e:
        raise ConvertError(f"invalid context name {name}: {e}") from None


def _parse_value(key: str, value: str) -> tuple[Kind, str]:
    """buildx's reading of a --build-context value, then the frontend's."""
    if value.startswith("docker-image://"):
        ref = value.removeprefix("docker-image://")
        return ("scratch", "") if ref == "scratch" else ("docker-image", ref)
    if value.startswith("oci-layout://"):
        return "oci-layout", oci_layout_ref(value)[1]
    if value.startswith(("target:", "input:")):
        raise ConvertError(f"unsupported context source {value.partition(':')[0]} for {key}")
    try:
        git = parse_git_ref(value)
    except ValueError as e:
        raise ConvertError(str(e)) from None
    if git is not None and not git.indistinguishable_from_local:
        return "git", value
    if value.startswith(("http://", "https://")):
        return "http", value
    return "local", value


def folder_of(name: str, value: str) -> tuple[str, Kind, str]:
    """The key of a --build-context value, its kind, and the folder it names where it is ``local`` or ``oci-layout``."""
    key = context_name(name)
    kind, ref = _parse_value(key, value)
    return key, kind, oci_layout_ref(value)[0] if kind == "oci-layout" else ref


def oci_layout_ref(value: str) -> tuple[str, str]:
    """``oci-layout://FOLDER[:TAG][@DIGEST]``: folder, and digest or tag (``latest`` if there is none)."""
    folder, _, digest = value.removeprefix("oci-layout://").partition("@")
    folder, _, tag = folder.partition(":")
    return folder, digest or tag or "latest"
