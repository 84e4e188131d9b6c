"""--no-cache and the folders of RUN --mount=type=cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.graph.ops import NO_INPUT, CacheMount, Exec
from builder.graph.vertex import Graph

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.cache.manager import CacheManager
    from builder.graph.vertex import Edge


def forget_cache_mounts(edges: Iterable[Edge], cache: CacheManager) -> None:
    """Steps that ignore the cache begin with empty cache mounts, and so do later builds (BuildKit: detectPrunedCacheID).

    Before the build, not before the step: steps of one build share a folder, whichever of them runs first.
    """
    found = {
        (mount.special.id, mount.input != NO_INPUT)
        for vertex in Graph(tuple(edges))
        if vertex.meta.ignore_cache and isinstance(vertex.op, Exec)
        for mount in vertex.op.mounts
        if isinstance(mount.special, CacheMount)
    }
    for key, based in sorted(found):
        cache.mounts.forget(key, based=based)
