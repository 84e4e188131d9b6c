"""What an edge asks of its inputs: for each the lowest state that can bring the edge nearer to what is asked of itself.

Data costs, in this order: a look into the key store, a request to a registry for a key, loading a record, hashing content (which
may mean to download and unpack an image first), executing. An input is asked for a higher state only where the answer can still
change what the edge will do. Every rule has a name, which the trace shows: docs/solver.md, "Why did this edge ask for a slow key?".

The situation behind the rules is ``RUN --mount=from=tools,target=/t --mount=target=/src``, where the content of both mounts counts.
The image ``tools`` is as it was, so its definition leads to keys. A file of the context was changed, so its definition leads
nowhere. To hash the context costs a walk; to hash ``tools`` may cost a download.

*Phase 1.* Inputs whose definition leads to no key are looked at first: here the context. If its content leads nowhere either, there
is no match (``EdgeKeys.check_match_possible``), and the content of ``tools`` was never needed. If it leads to the key that the
definition of ``tools`` leads to, that is the match.

*Phase 2.* Only if all inputs lead somewhere, and they have no key in common, the content is looked at of those that lead somewhere
by definition: here ``tools``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from builder.solver.edgestate import EdgeStatus

if TYPE_CHECKING:
    from builder.solver.edgekeys import EdgeKeys
    from builder.solver.edgeprogress import Progress
    from builder.solver.edgestate import Dep, EdgeState

_INITIAL, _FAST, _SLOW, _COMPLETE = EdgeStatus

NO_MATCH = "no record can match, so this edge has to execute"
LEADS_NOWHERE = "the definition of this input leads to no key"
NO_COMMON_KEY = "all definitions are known, and together they lead to no record"
NOTHING_LEFT = "every key is known, and none has a record, so this edge has to execute"
KEYS_WANTED = "an edge above asks for keys by content"
HAD_RESULT = "the input had its result when this edge first looked"
STUCK = "no rule asked for anything"


class Want(NamedTuple):
    """The state that an input has to reach. ``reason`` says why, where that is COMPLETE: the input's result is the expensive
    question, since content can be hashed only of a result."""

    status: EdgeStatus
    reason: str = ""


class Wanted:
    """The decision for all inputs of one edge at one moment. ``of`` tells it for one input."""

    def __init__(self, desired: EdgeStatus, state: EdgeState, deps: list[Dep], keys: EdgeKeys, progress: Progress) -> None:
        """``desired`` is what is asked of the edge."""
        self._desired = desired
        self._state = state
        self._keys = keys
        self._progress = progress
        self._has_map = state.cache_map is not None
        # Phase 1 is not over while some input leads nowhere and can still get further: one whose content counts until that was
        # hashed, any other one until it has a result. Before content of other inputs is hashed only the cheaper part of this is
        # waited for: a result of an input whose content does not count brings no key.
        self._definitions_first = not self._has_map or any(
            not d.key_map and (not d.slow_complete if d.has_slow_key else d.status < _COMPLETE) for d in deps
        )
        self._content_first = any(not d.key_map and ((d.has_slow_key and not d.slow_complete) or d.status < _SLOW) for d in deps)
        self._every_dep_leads_somewhere = keys.every_dep_leads_somewhere()

    def of(self, dep: Dep) -> Want:
        """The state that the input must reach now. Its own status: it is not asked for anything."""
        if self._keys.no_match_possible:
            # This edge will be executed, so all inputs may as well complete at once, side by side.
            return Want(_COMPLETE, NO_MATCH)
        if self._desired <= dep.status < _SLOW:
            return Want(dep.status)
        if dep.status == _INITIAL:
            return Want(_FAST)
        if dep.status == _FAST:
            return Want(_SLOW if self._is_slow_useful(dep) else _FAST)
        if dep.status == _SLOW and self._has_map:
            return self._after_slow(dep)
        return Want(dep.status)

    def _waits_for_definitions(self, dep: Dep) -> bool:
        """Phase 1: this input leads somewhere by definition, and another one does not. The other one comes first."""
        return self._definitions_first and bool(dep.key_map)

    def _waits_for_content(self, dep: Dep) -> bool:
        """Phase 1 for the content of this input: it leads somewhere by definition, and another input, which does not, can still get
        further without the content of this one."""
        return self._content_first and dep.has_slow_key and not dep.slow_complete and bool(dep.key_map)

    def _is_slow_useful(self, dep: Dep) -> bool:
        """May an input at cache-fast go on to cache-slow? Inputs of the input get hashed for that.

        It is useful if this input leads nowhere so far, if all definitions are known and have no key in common, or if every input
        leads somewhere and that gave no record yet.
        """
        if not self._has_map or self._waits_for_definitions(dep):
            return False
        nothing_in_common = self._progress.all_fast and not self._state.keys
        return nothing_in_common or not dep.key_map or self._every_dep_leads_somewhere

    def _after_slow(self, dep: Dep) -> Want:
        """Shall an input at cache-slow give its result?"""
        if self._desired == _COMPLETE:
            # The result is needed to execute this edge, or to hash it. It is not needed if there is a record: the record will be
            # loaded, and the inputs are let go.
            if self._keys.has_records or self._waits_for_content(dep):
                return Want(_SLOW)
            if not dep.key_map:
                return Want(_COMPLETE, LEADS_NOWHERE)
            if self._progress.all_slow:
                return Want(_COMPLETE, NOTHING_LEFT)
            if dep.has_slow_key and not self._waits_for_definitions(dep):
                return Want(_COMPLETE, NO_COMMON_KEY)
            return Want(_SLOW)
        if self._desired == _SLOW and dep.has_slow_key and not self._waits_for_content(dep):
            # An edge above wants keys and no result. Content is a key, and content needs the input's result.
            return Want(_COMPLETE, KEYS_WANTED)
        return Want(_SLOW)
