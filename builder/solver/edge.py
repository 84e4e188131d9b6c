"""The edge: one output of one vertex on its way to a result, by the least data (BuildKit: solver/edge.go; docs/solver.md has the
diagram).

    initial     nothing known
    cache-fast  all keys that definitions give are known
    cache-slow  all keys that can be had without this edge's own result are known, content-based ones of its inputs included
    complete    there is a result

An edge asks its inputs for a state only when that can lead to a key it does not have. Nothing here blocks: ``unpark`` looks at
what is new, answers who is asking, asks for what is missing, and returns.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from builder.errors import CancelledError
from builder.solver.cachekey import CacheKey, CacheRecord, ExportableKey, KeyWithSelector, best_record, with_selector
from builder.solver.exporter import Exporter
from builder.solver.requests import EdgeRequest, Known, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.solver.result import SharedResult
    from builder.solver.scheduler import Scheduler
    from builder.solver.types import CacheMap, Result
    from builder.solver.vertexstate import VertexState


class EdgeStatus(IntEnum):
    INITIAL = 0
    CACHE_FAST = 1
    CACHE_SLOW = 2
    COMPLETE = 3


_INITIAL, _FAST, _SLOW, _COMPLETE = EdgeStatus


class EdgeState:
    """What others see of an edge; ``keys`` only grows."""

    __slots__ = ("cache_map", "keys", "result", "status")

    def __init__(self) -> None:
        self.status = _INITIAL
        self.result: SharedResult[Result] | None = None
        self.cache_map: CacheMap | None = None
        self.keys: list[ExportableKey] = []

    @property
    def known(self) -> Known:
        return (self.status, id(self.result), id(self.cache_map), len(self.keys))


class Dep(EdgeState):
    """The last seen state of one input, and the keys of this edge that the input's keys lead to (``key_map``, by id)."""

    __slots__ = ("index", "key_map", "request", "slow_complete", "slow_found_key", "slow_key", "slow_work")

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.request: EdgeRequest | None = None
        self.key_map: dict[str, CacheKey] = {}
        self.slow_work: Work | None = None
        self.slow_complete = False
        self.slow_found_key = False
        self.slow_key: ExportableKey | None = None


class ActiveEdge:
    """An edge within a solve. All methods run in the scheduler's loop."""

    def __init__(self, vertex: VertexState, index: int) -> None:
        self.vertex = vertex
        self.index = index
        self.state = EdgeState()
        self.deps: list[Dep] = []
        self._dep_requests: dict[EdgeRequest, Dep] = {}
        self._cache_map_work: Work | None = None
        self._cache_map_index = 0
        self._cache_map_done = False
        self.root_digests: list[tuple[str, bool]] = []
        """Of an op without inputs: digest and ephemerality of each of its cache maps."""
        self._exec_work: Work | None = None
        self._exec_is_load = False
        self.error: Exception | None = None
        self._records: dict[str, CacheRecord] = {}
        self._records_loaded: set[str] = set()
        self._key_ids: set[str] = set()
        self._no_match_possible = False
        self._all_deps_fast = False
        self._all_deps_slow = False
        self._all_deps_complete = False
        self.has_active_outgoing = False
        self.owner: ActiveEdge | None = None
        self.keys_did_change = False
        self.secondary: list[tuple[int, KeyWithSelector]] = []
        """Keys of inputs that edges merged into this one were known by; they are exported too."""

    @property
    def ignore_cache(self) -> bool:
        return self.vertex.ignore_cache

    @property
    def is_complete(self) -> bool:
        """Nothing will change any more."""
        return self.error is not None or self.state.result is not None

    def __repr__(self) -> str:
        return f"<edge {self.vertex.name}[{self.index}] {self.state.status.name}>"

    # -------------------------------------------------------------------------------------------- the step
    def unpark(
        self,
        incoming: Sequence[EdgeRequest],
        updates: Sequence[EdgeRequest | Work],
        outgoing: Sequence[EdgeRequest | Work],
        s: Scheduler,
    ) -> None:
        """Rules that keep the graph from stopping or leaking: with a request left open, something must be left outgoing; with every
        request answered, nothing may be."""
        self._process_updates(updates)
        desired, done = self._respond_to_incoming(incoming, outgoing, s)
        if done:
            return
        asked_cache_map = False
        if self._cache_map_work is None and (self.state.cache_map is None or (not self._cache_map_done and not self._records)):
            index = self._cache_map_index
            self._cache_map_work = s.start_work(self, lambda work: self.vertex.op.cache_map(work, index))
            asked_cache_map = True
        if self._exec_work is None and desired == _COMPLETE and self.exec_if_possible(s):
            return
        if self._exec_work is None:
            added = self._create_input_requests(desired, s, force=False)
            if not added and not self.has_active_outgoing and not asked_cache_map:
                # Cannot happen by the rules below. Solving everything is slow, never wrong, where stopping here would hang.
                self._create_input_requests(desired, s, force=True)

    # -------------------------------------------------------------------------------------------- what is new
    def _process_updates(self, updates: Sequence[EdgeRequest | Work]) -> None:
        changed = False
        for update in updates:
            changed = self._process_update(update) or changed
        if changed:
            self._recalculate()

    def _process_update(self, update: EdgeRequest | Work) -> bool:
        if isinstance(update, EdgeRequest):
            dep = self._dep_requests.get(update)
            if dep is None:
                return False
            if update.completed:
                del self._dep_requests[update]
            return self._process_dep(dep, update)
        if not update.completed:
            return False
        if update is self._cache_map_work:
            self._process_cache_map(update)
            return True
        if update is self._exec_work:
            self._process_exec(update)
            return True
        for dep in self.deps:
            if update is dep.slow_work:
                self._process_slow_key(dep, update)
                return True
        return False

    def _process_cache_map(self, work: Work) -> None:
        if work.error is not None:
            self._cache_map_work = None
            if not work.was_cancelled and self.error is None:
                self.error = work.error
            return
        cache_map, self._cache_map_done = work.value
        self.state.cache_map = cache_map
        self._cache_map_index += 1
        self._ensure_deps()
        if not self.deps:
            self.root_digests.append((cache_map.digest, cache_map.ephemeral))
            if not self.ignore_cache and not cache_map.ephemeral:
                key = self.vertex.caches.query_root(cache_map.digest, self.index)
                if key is not None:
                    self._add_key(key)
            self.state.status = _SLOW
        if self._all_deps_have_keys(matching=False):
            self.keys_did_change = True
        for dep in self.deps:
            # keys that came before the cache map did
            self._probe_cache(dep, with_selector(dep.keys, self._selector(dep)))
            self._check_match_possible(dep)
        if not self._cache_map_done:
            self._cache_map_work = None

    def _process_exec(self, work: Work) -> None:
        if work.error is not None:
            self._exec_work = None
            if self._exec_is_load:
                for id in self._records_loaded:
                    self._records.pop(id, None)
            elif not work.was_cancelled and self.error is None:
                self.error = work.error
            return
        self.state.result = work.value
        self.state.status = _COMPLETE
        # Keys of an execution were on the result alone so far. A consumer that asks from now on needs them to look for records; not
        # those of what comes of a step that was forced to run: records under them are of what was before.
        if not self._exec_is_load and not work.value.novel:
            self.state.keys = [*self.state.keys, *work.value.keys]

    def _process_dep(self, dep: Dep, request: EdgeRequest) -> bool:
        if request.completed and request.error is not None and not request.was_cancelled and self.error is None:
            self.error = request.error
        state = request.state
        if state is None:
            return False
        changed = False
        if len(dep.keys) < len(state.keys):
            if self.state.cache_map is not None:
                self._probe_cache(dep, with_selector(state.keys[len(dep.keys) :], self._selector(dep)))
            dep.keys = state.keys  # never changed in place
            if self._all_deps_have_keys(matching=False):
                self.keys_did_change = True
            changed = True
        if dep.status != _COMPLETE and state.status == _COMPLETE:
            self.keys_did_change = True
        recheck = state.status != dep.status
        dep.status, dep.result, dep.cache_map = state.status, state.result, state.cache_map
        if recheck and self.state.cache_map is not None:
            self._check_match_possible(dep)
            changed = True
        return changed

    def _process_slow_key(self, dep: Dep, work: Work) -> None:
        if work.error is not None:
            dep.slow_work = None
            if not work.was_cancelled and self.error is None:
                self.error = work.error
            return
        if dep.slow_complete:
            return
        assert self.state.cache_map is not None
        assert dep.result is not None
        key = CacheKey.content(work.value)
        dep.slow_key = ExportableKey(key, (Exporter(key),))
        slow = KeyWithSelector(dep.slow_key)
        dep.slow_found_key = self._probe_cache(dep, [slow])
        if not self.ignore_cache:
            # From now on the definition of the input leads there as well: the next build needs no content.
            both = [*with_selector(dep.result.keys, self._selector(dep)), slow]
            self.vertex.caches.query(both, dep.index, self.state.cache_map.digest, self.index)
        dep.slow_complete = True
        self.keys_did_change = True
        self._check_match_possible(dep)

    # -------------------------------------------------------------------------------------------- keys
    def _selector(self, dep: Dep) -> str:
        assert self.state.cache_map is not None
        return self.state.cache_map.deps[dep.index].selector

    def has_slow_key(self, dep: Dep) -> bool:
        """Does content of this input count?"""
        return self.state.cache_map is not None and self.state.cache_map.deps[dep.index].content is not None

    def _slow_incomplete(self, dep: Dep) -> bool:
        return self.has_slow_key(dep) and (dep.status == _SLOW or (dep.status == _COMPLETE and not dep.slow_complete))

    def _probe_cache(self, dep: Dep, keys: Sequence[KeyWithSelector]) -> bool:
        """Look where new keys of the input lead to; True when that is a key not seen before."""
        if not keys or self.ignore_cache:
            return False
        assert self.state.cache_map is not None
        found = False
        for key in self.vertex.caches.query(keys, dep.index, self.state.cache_map.digest, self.index):
            key.vertex = self.vertex.vertex.digest
            if key.id not in dep.key_map:
                dep.key_map[key.id] = key
                found = True
        return found

    def _check_match_possible(self, dep: Dep) -> None:
        """With one input that leads nowhere no record can match: look no further, execute."""
        if dep.key_map or self._no_match_possible:
            return
        if self.has_slow_key(dep):
            self._no_match_possible = dep.slow_complete and not dep.slow_found_key
        else:
            self._no_match_possible = dep.status >= _SLOW

    def _all_deps_have_keys(self, *, matching: bool) -> bool:
        if self.state.cache_map is None:
            return False
        return all(
            (dep.key_map if matching else dep.keys) or dep.slow_key is not None or dep.result is not None for dep in self.deps
        )

    def _key_with_deps_of_inputs(self, dep: Dep) -> list[KeyWithSelector]:
        """Every key the input is known by, the best knowledge first: its result's, else its state's."""
        if dep.result is None:
            return with_selector(dep.keys, self._selector(dep))
        keys = with_selector(dep.result.keys, self._selector(dep))
        return [*keys, KeyWithSelector(dep.slow_key)] if dep.slow_key is not None else keys

    def current_index_key(self) -> CacheKey | None:
        """The key by what is known now, to find equal edges by; None while an input has no key."""
        cache_map = self.state.cache_map
        if cache_map is None:
            return None
        alternatives: list[list[KeyWithSelector]] = []
        for dep in self.deps:
            if not dep.keys and dep.result is None:
                return None
            keys = with_selector(dep.keys, self._selector(dep))
            if dep.result is not None:
                keys += self._key_with_deps_of_inputs(dep)
            alternatives.append(keys)
        return CacheKey.new(cache_map.digest, self.vertex.vertex.digest, self.index, alternatives, ephemeral=cache_map.ephemeral)

    def commit_keys(self) -> list[CacheKey]:
        """The keys that a result of executing now is saved under."""
        cache_map = self.state.cache_map
        assert cache_map is not None
        vertex = self.vertex.vertex.digest
        if not self.deps:
            return [CacheKey.new(d, vertex, self.index, ephemeral=ephemeral) for d, ephemeral in self.root_digests]
        alternatives = [self._key_with_deps_of_inputs(dep) for dep in self.deps]
        return [CacheKey.new(cache_map.digest, vertex, self.index, alternatives, ephemeral=cache_map.ephemeral)]

    @property
    def made_of_novel(self) -> bool:
        """Is there nothing but old records under what definitions say of this edge? Content of an input says it all."""
        return self.ignore_cache or any(dep.result is not None and dep.result.novel and dep.slow_key is None for dep in self.deps)

    def _add_key(self, key: CacheKey) -> None:
        key.vertex = self.vertex.vertex.digest
        records = self.vertex.caches.records(key)
        for record in records:
            if record.id not in self._records_loaded:
                self._records[record.id] = record
        self.state.keys = [*self.state.keys, ExportableKey(key, (Exporter(key, records=tuple(records)),))]

    def _recalculate(self) -> None:
        """Bring keys, records and status up to date with what is known of the inputs."""
        if self.deps:
            common = set(self.deps[0].key_map).difference(self._key_ids)
            for dep in self.deps[1:]:
                common.intersection_update(dep.key_map)
            for id in sorted(common):
                self._key_ids.add(id)
                key = self.deps[0].key_map[id]
                for dep in self.deps[1:]:
                    key.ids.update(dep.key_map[id].ids)
                self._add_key(key.with_deps([self._key_with_deps_of_inputs(dep) for dep in self.deps]))
        if self.state.cache_map is not None:
            self._raise_status()

    def _raise_status(self) -> None:
        low, high = _INITIAL, _SLOW
        fast = slow = complete = every_dep_slow = True
        for dep in self.deps:
            open_slow = self._slow_incomplete(dep)
            if dep.status > low and not dep.key_map and not open_slow:
                low = min(dep.status, _SLOW)
            high = min(high, _FAST if open_slow else dep.status)
            complete = complete and dep.status == _COMPLETE and not open_slow
            fast = fast and dep.status >= _FAST
            slow = slow and dep.status >= _SLOW and not open_slow
            every_dep_slow = every_dep_slow and (dep.status >= _SLOW or bool(dep.key_map))
        state = self.state
        state.status = max(state.status, low, high)
        if not self._cache_map_done and not state.keys:
            state.status = _INITIAL
        done = self._cache_map_done
        self._all_deps_fast, self._all_deps_slow, self._all_deps_complete = done and fast, done and slow, done and complete
        if done and every_dep_slow and self._records and state.status == _FAST and not self._open_keys():
            state.status = _SLOW

    def _open_keys(self) -> set[str]:
        """Keys that could still match when content of other inputs is looked at; none: there is nothing left to find."""
        open_keys: set[str] = set()
        for dep in self.deps:
            if self._slow_incomplete(dep):
                continue
            here = dep.key_map.keys() - self._key_ids
            open_keys = open_keys & here if open_keys else here
            if not open_keys:
                return set()
        return open_keys

    # -------------------------------------------------------------------------------------------- answers
    def _respond_to_incoming(
        self, incoming: Sequence[EdgeRequest], outgoing: Sequence[EdgeRequest | Work], s: Scheduler
    ) -> tuple[EdgeStatus, bool]:
        """Answer what can be answered. Gives the highest state that is asked for, and whether there is nothing more to do now."""
        state = self.state
        all_can_complete, all_cancelled, desired = True, True, state.status
        if not self.is_complete:
            for request in incoming:
                if request.cancelled:
                    continue
                all_cancelled = False
                if desired < request.desired:
                    desired = request.desired
                    if self.has_active_outgoing or request.desired == _COMPLETE or request.current_keys == len(state.keys):
                        all_can_complete = False
            if not all_cancelled and state.status < _COMPLETE and not state.keys and self.has_active_outgoing:
                all_can_complete = False  # what is under way can change the state
        if all_can_complete and self.has_active_outgoing:
            # What is under way is not wanted any more. One request stays open until it has ended.
            for out in outgoing:
                s.cancel(out)
            keep = next((r for r in incoming if not r.cancelled), incoming[0] if incoming else None)
            for request in incoming:
                if request is not keep:
                    self._finish(request, s)
            return desired, True
        if all_can_complete:
            for request in incoming:
                self._finish(request, s)
            return desired, True
        for request in incoming:
            if request.cancelled or (not self.has_active_outgoing and state.status >= request.desired):
                self._finish(request, s)
            elif request.known != state.known:
                s.answer(request, state)
        return desired, False

    def _finish(self, request: EdgeRequest, s: Scheduler) -> None:
        error = self.error
        if error is None and request.cancelled:
            error = CancelledError("the build was cancelled")
        s.answer(request, self.state, error=error, final=True)

    # -------------------------------------------------------------------------------------------- questions
    def _ensure_deps(self) -> None:
        if not self.deps:
            self.deps = [Dep(i) for i in range(len(self.vertex.inputs))]

    def _create_input_requests(self, desired: EdgeStatus, s: Scheduler, *, force: bool) -> bool:
        """Ask inputs for a higher state, and for content keys, where that is needed for ``desired``."""
        self._ensure_deps()
        want = self._wanted(desired)
        added = False
        for dep in self.deps:
            wanted = _COMPLETE if force or self._no_match_possible else want(dep)
            if dep.status < wanted:
                added = self._ask_input(dep, wanted, s) or added
            if dep.status == _COMPLETE and dep.slow_work is None and not dep.slow_complete and self.has_slow_key(dep):
                dep.slow_work = self._ask_slow_key(dep, s)
                added = True
        return added

    def _ask_slow_key(self, dep: Dep, s: Scheduler) -> Work:
        index, result = dep.index, dep.result
        assert result is not None
        return s.start_work(self, lambda work: self.vertex.op.slow_key(work, index, result))

    def _wanted(self, desired: EdgeStatus) -> Callable[[Dep], EdgeStatus]:
        """The state that an input must reach for this edge to come nearer to ``desired``.

        Inputs whose definition leads to no key are looked at first (phase 1): if their content leads nowhere either, there is no
        match, and the content of the others was never needed.
        """
        have_map = self.state.cache_map is not None
        phase1_fast = not have_map or any(
            not d.key_map and (not d.slow_complete if self.has_slow_key(d) else d.status < _COMPLETE) for d in self.deps
        )
        phase1_slow = any(not d.key_map and ((self.has_slow_key(d) and not d.slow_complete) or d.status < _SLOW) for d in self.deps)
        every_match = self._all_deps_have_keys(matching=True)

        def want(dep: Dep) -> EdgeStatus:
            skip_fast = phase1_fast and bool(dep.key_map)
            skip_slow = phase1_slow and not dep.slow_complete and self.has_slow_key(dep) and bool(dep.key_map)
            if desired <= dep.status and dep.status < _SLOW:
                return dep.status
            if dep.status == _INITIAL:
                return _FAST
            if dep.status == _FAST:
                useful = (self._all_deps_fast and not self.state.keys) or not dep.key_map or every_match
                return _SLOW if useful and not skip_fast and have_map else _FAST
            if dep.status == _SLOW and have_map:
                if desired == _COMPLETE:
                    useful = not dep.key_map or self._all_deps_slow or (not skip_fast and self.has_slow_key(dep))
                    return _COMPLETE if useful and not self._records and not skip_slow else _SLOW
                if desired == _SLOW and self.has_slow_key(dep):
                    return _SLOW if skip_slow else _COMPLETE
            return dep.status

        return want

    def _ask_input(self, dep: Dep, wanted: EdgeStatus, s: Scheduler) -> bool:
        if dep.request is not None and not dep.request.completed:
            if dep.request.desired == wanted:
                return False
            s.cancel(dep.request)
        dep.request = s.ask(self.vertex.inputs[dep.index], self, wanted, dep.known)
        self._dep_requests[dep.request] = dep
        return True

    def exec_if_possible(self, s: Scheduler) -> bool:
        """Load a record, or execute, when there is enough to do so."""
        if not self._records and not self._all_deps_complete:
            return False
        if self.keys_did_change:
            # An equal edge may turn up when the keys are indexed, after this step: one of the two executes.
            s.postpone(self)
            return True
        if self._records:
            record = best_record(list(self._records.values()))
            self._records_loaded.add(record.id)
            self._exec_is_load = True
            self._exec_work = s.start_work(self, lambda work: self.vertex.op.load_cache(work, self, record))
            for request in self._dep_requests:
                s.cancel(request)
        else:
            self._exec_is_load = False
            self._exec_work = s.start_work(self, lambda work: self.vertex.op.exec(work, self))
        return True

    # -------------------------------------------------------------------------------------------- merging
    def adopt(self, source: ActiveEdge) -> None:
        """Stand for ``source`` from now on: the two turned out to be equal."""
        for dep in source.deps:
            selector = source._selector(dep)
            keys = with_selector(dep.keys, selector)
            if dep.slow_key is not None:
                keys.append(KeyWithSelector(dep.slow_key))
            if dep.result is not None:
                keys += with_selector(dep.result.keys, selector)
            self.secondary += [(dep.index, key) for key in keys]
        source.owner = self
