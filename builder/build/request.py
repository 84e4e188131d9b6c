"""What a caller asks for: one build, as plain values. ``builder.flags`` makes them of a command line's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from builder.exporters.types import OutputSpec
from builder.graph.ops import NO_LIMITS, LinuxResources, Ulimit
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.remotecache.types import CacheExport, Place
    from builder.sources.pull import PullPolicy


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """Where a secret comes from: a file or an environment variable."""

    id: str
    file: str = ""
    env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build of a Dockerfile.

    ``context``     a folder, an archive, ``-`` (standard input), or a git or http URL, as a user types it
    ``file``        the Dockerfile; empty: the context's own, ``-``: standard input
    ``tags``        names for outputs that are images
    ``outputs``     nothing is exported where there is none; the result stays in the cache
    ``no_cache``    "all", or the names of stages whose steps run anew
    ``shm_size``    bytes of /dev/shm in steps, 0: the default
    ``resources``   limits of each step's CPUs and memory; no part of its key
    ``ssh``         agent id -> socket
    ``pull``        how fresh a registry's answer has to be; True: asked anew
    ``allow``       entitlements: ``network.host``, ``security.insecure``, ``device``
    ``source_date_epoch``  seconds since the epoch for the image's times; a build argument of that name goes before it
    ``max_parallelism``  steps that run at one time, 0: that of the configuration
    """

    context: str
    file: str = ""
    target: str = ""
    tags: tuple[Reference, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[Platform, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    no_cache: Literal["all"] | frozenset[str] = frozenset()
    pull: bool | PullPolicy = False
    network: Literal["default", "host", "none"] = "default"
    add_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    shm_size: int = 0
    cgroup_parent: str = ""
    resources: LinuxResources = NO_LIMITS
    build_contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[SecretSpec, ...] = ()
    ssh: Mapping[str, str] = field(default_factory=dict)
    ssh_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    source_date_epoch: str = ""
    max_parallelism: int = 0
    cache_from: tuple[Place, ...] = ()
    cache_to: tuple[CacheExport, ...] = ()

    def check(self) -> None:
        """Refuse what can't work before a state folder is opened or anything is built: a wrong word should not cost a build.

        To be called in the user namespace that the process was started in (``Root.open`` may enter another). UsageError.
        """
        from builder.build.limits import check_ulimits
        from builder.exporters.export import check_outputs

        check_outputs(self.outputs, multi=len(self.platforms) > 1)
        check_ulimits(self.ulimits)
