"""What a conversion is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from builder.graph.ops import NO_LIMITS, LocalSource
from builder.oci.platform import Platform, host
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.graph.ops import GitSource, HTTPSource, LinuxResources, LocalSource, Source, Ulimit
    from builder.graph.vertex import Edge
    from builder.oci.image import ImageConfig
    from frontend.lint import Warning

ResolveMode: TypeAlias = Literal["default", "pull", "local"]
NetworkMode: TypeAlias = Literal["default", "host", "none"]


class ResolveError(Exception):
    """What a ``MetaResolver`` raises when an image or source can't be had.

    ``str(e)`` is one line: ``failed to resolve source metadata for REF: CAUSE``. What the Dockerfile calls it is put in front here.
    """


@dataclass(frozen=True, slots=True)
class ResolvedImageConfig:
    """An image for one platform. ``ref`` is its full reference with digest; ``config`` the config document."""

    ref: str
    config: bytes | ImageConfig


class MetaResolver(Protocol):
    """How the frontend learns of the world. Called for what the target needs and nothing else, maybe from several threads.

    All methods raise ``ResolveError``.
    """

    def image_config(self, ref: str, platform: Platform, mode: ResolveMode) -> ResolvedImageConfig:
        """The image that the normalized reference ``ref`` (with tag or digest) stands for now."""

    def oci_layout_config(self, name: str, ref: str, platform: Platform) -> ResolvedImageConfig:
        """Image ``ref`` (a tag or a digest) of the OCI layout that the build context ``name`` gives."""

    def read_ignore(self, name: str) -> bytes | None:
        """The ``.dockerignore`` in the root of the local build context ``name``, or None."""

    def source_time(self, source: GitSource | HTTPSource) -> int | None:
        """Seconds since the epoch of the commit, of Last-Modified, or of the newest file in the archive; None if unknown."""

    def archive_time(self, source: LocalSource, path: str) -> int | None:
        """Seconds since the epoch of the newest file in the archive ``path`` of a local build context; None for no archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """One build as the command line gives it.

    ``target``            stage to build; empty: the last one
    ``build_args``        --build-arg; predefined, proxy, BUILDKIT_* and SOURCE_DATE_EPOCH ones included
    ``labels``            --label, put over the target's own
    ``target_platforms``  empty: that of ``build_platform``, or what the base image has
    ``no_cache``          "all", or the names of stages whose steps are to run again
    ``network``           of RUN steps that do not say their own
    ``extra_hosts``       (name, address)
    ``shm_size``          bytes, 0: default
    ``named_contexts``    --build-context NAME=VALUE, values as typed
    ``main_context``      what COPY without --from reads. An ``HTTPSource`` is an archive, to be unpacked; an edge is taken as it is
    ``ignore``            patterns of the main context's .dockerignore; they count for a ``LocalSource`` only, as in BuildKit
    ``epoch``             SOURCE_DATE_EPOCH of the environment; a build argument of this name goes first
    ``multi_platform``    an index is asked for even for one platform; None: if there are several platforms
    ``warn``              told of each lint finding, also of those before an error
    """

    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target_platforms: tuple[Platform, ...] = ()
    build_platform: Platform = field(default_factory=host)
    no_cache: Literal["all"] | frozenset[str] = frozenset()
    network: NetworkMode = "default"
    extra_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    shm_size: int = 0
    cgroup_parent: str = ""
    resources: LinuxResources = NO_LIMITS
    hostname: str = ""
    named_contexts: Mapping[str, str] = field(default_factory=dict)
    main_context: Source | Edge = field(default_factory=lambda: LocalSource("context"))
    ignore: tuple[str, ...] = ()
    dockerfile_name: str = "Dockerfile"
    epoch: str = ""
    image_resolve_mode: ResolveMode = "default"
    multi_platform: bool | None = None
    warn: Callable[[Warning], None] | None = None


@dataclass(frozen=True, slots=True)
class TargetResult:
    """What one platform's build comes to.

    ``edge`` is None for an empty image. ``config`` has no diff_ids of new layers; its history is complete, one entry that is not
    ``empty_layer`` for each step that may give a layer. ``base_config`` is that of the base image, None for scratch.
    ``epoch`` is SOURCE_DATE_EPOCH in seconds. ``stage`` is the target's name, maybe empty.
    ``scan`` holds what the BUILDKIT_SBOM_SCAN_* arguments name: (stage name or ``context``, root filesystem).
    """

    platform: Platform
    edge: Edge | None
    config: ImageConfig
    base_config: ImageConfig | None
    epoch: int | None
    stage: str
    ignore_cache: bool = False
    scan: tuple[tuple[str, Edge | None], ...] = ()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The Dockerfile: for excerpts in messages."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Converted:
    """One result a platform, in the order they were asked for.

    ``unused_build_args`` are those that no ARG declares. ``external_frontend`` is the image that ``# syntax=`` or BUILDKIT_SYNTAX
    names, if it is not docker/dockerfile: it exists, but is not run.
    """

    targets: tuple[TargetResult, ...]
    multi_platform: bool
    warnings: tuple[Warning, ...]
    unused_build_args: tuple[str, ...]
    source: SourceFile
    external_frontend: str = ""
