"""What is known of an edge, and what an edge knows of its inputs: data, with the few questions that it answers by itself.

    initial     nothing is known
    cache-fast  all keys that definitions give are known
    cache-slow  all keys that can be had without this edge's own result are known, also those by content of its inputs
    complete    there is a result
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from builder.solver.cachekey import CacheKey, ExportableKey, KeyWithSelector, with_selector
from builder.solver.requests import EdgeRequest, Known, Work

if TYPE_CHECKING:
    from builder.oci.digest import Digest
    from builder.solver.result import SharedResult
    from builder.solver.types import CacheMap, CacheMapDep, Result


class EdgeStatus(IntEnum):
    """In this order: a status promises everything that a lower one promises."""

    INITIAL = 0
    CACHE_FAST = 1
    CACHE_SLOW = 2
    COMPLETE = 3


class EdgeState:
    """What others see of an edge.

    ``keys`` only grows. A longer list takes its place, and no list is changed in place: an asker may keep the list that it was
    given, and after N keys it looks at those from N on.
    """

    __slots__ = ("cache_map", "keys", "result", "status")

    def __init__(self) -> None:
        self.status = EdgeStatus.INITIAL
        self.result: SharedResult[Result] | None = None
        self.cache_map: CacheMap[Result] | None = None
        self.keys: list[ExportableKey] = []

    @property
    def known(self) -> Known:
        """Two states with the same ``known`` say the same: there is no news between them."""
        return (self.status, id(self.result), id(self.cache_map), len(self.keys))


class Dep(EdgeState):
    """What an edge knows of its input number ``index``: the state that the input was last seen in, and what that led to.

    ``request`` is the open question to the input's edge. ``selector`` and ``has_slow_key`` come from this edge's cache map: which
    part of the input matters, and whether the content of that part is a key (COPY's source) or the definition alone is one (RUN's
    root filesystem). Before the cache map is there they are empty and False.

    ``key_map`` holds the keys of *this* edge that the input's keys lead to, by name.

    ``slow_work`` is the hashing of the input's content while it goes on. ``slow_complete`` says that it is over, ``slow_key`` is
    what it gave, and ``slow_found_key`` says that the content led to a key of this edge that no definition had led to.

    ``asked_because`` is the reason why the input's result was asked for (``wanted``). It is for the trace alone.
    """

    __slots__ = (
        "asked_because",
        "has_slow_key",
        "index",
        "key_map",
        "request",
        "selector",
        "slow_complete",
        "slow_found_key",
        "slow_key",
        "slow_work",
    )

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.request: EdgeRequest | None = None
        self.selector = ""
        self.has_slow_key = False
        self.key_map: dict[str, CacheKey] = {}
        self.slow_work: Work[Digest] | None = None
        self.slow_complete = False
        self.slow_found_key = False
        self.slow_key: ExportableKey | None = None
        self.asked_because = ""

    def describe(self, dep: CacheMapDep[Result]) -> None:
        """Take over what the edge's cache map says of this input."""
        self.selector = dep.selector
        self.has_slow_key = dep.content is not None

    @property
    def slow_incomplete(self) -> bool:
        """Can the input's content still lead to a key? It can if the content counts, was not hashed yet, and nothing but hashing is
        left: the input is at cache-slow, or has a result."""
        return self.has_slow_key and (
            self.status == EdgeStatus.CACHE_SLOW or (self.status == EdgeStatus.COMPLETE and not self.slow_complete)
        )

    def all_keys(self) -> list[KeyWithSelector]:
        """Every key that the input is known by.

        A result has all the keys that the input's state had, and maybe more, so its keys are taken where there is one. The content
        key has no selector, because it is the digest of the selected part already.
        """
        if self.result is None:
            return with_selector(self.keys, self.selector)
        keys = with_selector(self.result.keys, self.selector)
        return [*keys, KeyWithSelector(self.slow_key)] if self.slow_key is not None else keys
