"""How far an edge has got, from how far its inputs have: the status that it may promise to those who ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from builder.solver.edgestate import EdgeStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.solver.edgekeys import EdgeKeys
    from builder.solver.edgestate import Dep, EdgeState

_INITIAL, _FAST, _SLOW, _COMPLETE = EdgeStatus


class Progress(NamedTuple):
    """``status`` as it is now. The others say that the last cache map is there and that every input has got that far; for the last
    two its content was hashed, too, where it counts."""

    status: EdgeStatus
    all_fast: bool = False
    all_slow: bool = False
    all_complete: bool = False


NO_PROGRESS = Progress(_INITIAL)


def progress(state: EdgeState, deps: Sequence[Dep], keys: EdgeKeys, *, has_all_maps: bool) -> Progress:
    """The status by what is known now. ``has_all_maps``: no further cache map will come.

    A status is a promise: at cache-fast no further key comes from definitions, at cache-slow none comes without executing. So it
    never goes down. An edge gets there in one of two ways.

    ``slowest`` is the usual way: an edge has got as far as its slowest input has. An input whose content was not hashed yet stands
    at cache-fast, because its content may still bring a key.

    ``hopeless`` is the short cut: one input leads to no key, and its content can't change that. Then no key of this edge will ever
    match, and there is nothing to wait for. For example the base image of a stage was changed: the RUN above it need not wait until
    its other mounts have been looked up.
    """
    hopeless, slowest = _INITIAL, _SLOW
    all_fast = all_slow = all_complete = every_dep_slow = True
    for dep in deps:
        unhashed = dep.slow_incomplete
        if dep.status > hopeless and not dep.key_map and not unhashed:
            hopeless = min(dep.status, _SLOW)
        slowest = min(slowest, _FAST if unhashed else dep.status)
        all_fast = all_fast and dep.status >= _FAST
        all_slow = all_slow and dep.status >= _SLOW and not unhashed
        all_complete = all_complete and dep.status == _COMPLETE and not unhashed
        every_dep_slow = every_dep_slow and (dep.status >= _SLOW or bool(dep.key_map))
    if not has_all_maps:
        # One more cache map will bring one more key, so nothing can be promised. With a key at hand consumers may go on.
        return Progress(max(state.status, hopeless, slowest) if state.keys else _INITIAL)
    status = max(state.status, hopeless, slowest)
    if status == _FAST and every_dep_slow and keys.has_records and not keys.may_still_match():
        # A record was found by definition, and the content of some input was not looked at. It need not be, so this edge would stay
        # at cache-fast for ever. No other key can match through that content, so the edge has got as far as if it had been hashed.
        status = _SLOW
    return Progress(status, all_fast, all_slow, all_complete)
