"""The edge: one output of one vertex on its way to a result, by the least data (BuildKit: solver/edge.go; docs/solver.md has the
diagram and the reasons).

    initial     nothing is known
    cache-fast  all keys that definitions give are known
    cache-slow  all keys that can be had without this edge's own result are known, also those by content of its inputs
    complete    there is a result

Data costs, in this order: a look into the key store, a request to a registry for a key, loading a record, hashing content (which
may mean to download and unpack an image first), executing. So an edge asks an input for a higher state only where the answer can
still change what this edge will do. Nothing here blocks: ``unpark`` looks at what is new, answers those who ask, asks for what is
missing, and returns.

The words: a *dep* is what this edge knows of one input. Its ``keys`` are the keys that the input is known by; its ``key_map`` has
the keys of *this* edge that those lead to. A key of this edge that every dep's ``key_map`` has is a match. A *slow key* is the
content digest of the part of an input that counts.
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
    """What others see of an edge. ``keys`` only grows, and is replaced by a longer list, never changed in place: whoever has seen N
    keys needs to look at those from N on."""

    __slots__ = ("cache_map", "keys", "result", "status")

    def __init__(self) -> None:
        self.status = _INITIAL
        self.result: SharedResult[Result] | None = None
        self.cache_map: CacheMap | None = None
        self.keys: list[ExportableKey] = []

    @property
    def known(self) -> Known:
        """What tells this state from another one: who has seen the same has no news to get."""
        return (self.status, id(self.result), id(self.cache_map), len(self.keys))


class Dep(EdgeState):
    """What an edge knows of one of its inputs: the last seen state, and the keys of the edge itself that the input's keys lead to
    (``key_map``, by id).

    ``slow_work`` computes the input's content digest. ``slow_complete``: it has one (``slow_key``). ``slow_found_key``: that led to
    a key which definitions did not lead to.
    """

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
    """An edge within a solve. All methods run in the scheduler's loop.

    Of the flags: ``_no_match_possible``: some input leads to no key at all, so that this edge has to be executed.
    ``_all_deps_fast``, ``_slow``, ``_complete``: the cache map is known, and every input has got that far, its content digest
    included for the last two. ``keys_did_change``: this edge may have become equal to another one; the scheduler looks and clears
    it.
    """

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
        """One step: ``incoming`` are the requests of those who ask, ``outgoing`` those of this edge, ``updates`` those of them that
        have news.

        Two rules keep the graph alive. If a request is left open, something must be left outgoing: nobody would wake this edge
        again, and the build would hang. If every request is answered, nothing may be left outgoing: it would go on for nobody. The
        scheduler checks both.
        """
        self._process_updates(updates)
        desired, done = self._respond_to_incoming(incoming, outgoing, s)
        if done:
            return
        asked_cache_map = False
        # An image has one key by its manifest and one by its chainID. The second is asked for only if the first led to no record.
        if self._cache_map_work is None and (self.state.cache_map is None or (not self._cache_map_done and not self._records)):
            index = self._cache_map_index
            self._cache_map_work = s.start_work(self, lambda work: self.vertex.op.cache_map(work, index))
            asked_cache_map = True
        if self._exec_work is None and desired == _COMPLETE and self.exec_if_possible(s):
            return
        if self._exec_work is None:
            added = self._create_input_requests(desired, s, force=False)
            if not added and not self.has_active_outgoing and not asked_cache_map:
                # The rules below never come here. If one of them is wrong after all: to solve every input is slow and never wrong,
                # and to stop here would be to hang.
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
            # There is nothing below: no content is left that could lead to one more key.
            self.state.status = _SLOW
        if self._all_deps_have_keys(matching=False):
            self.keys_did_change = True
        for dep in self.deps:
            # Keys of inputs may have come before the cache map did. They could not be looked up without its digest and selectors.
            self._probe_cache(dep, with_selector(dep.keys, self._selector(dep)))
            self._check_match_possible(dep)
        if not self._cache_map_done:
            self._cache_map_work = None

    def _process_exec(self, work: Work) -> None:
        if work.error is not None:
            self._exec_work = None
            if self._exec_is_load:
                # The record was there a moment ago, and can't be loaded: another process pruned it, or its files are damaged. That
                # is a miss and no error. It must not be tried again, or this edge would try for ever.
                for id in self._records_loaded:
                    self._records.pop(id, None)
            elif not work.was_cancelled and self.error is None:
                self.error = work.error
            return
        self.state.result = work.value
        self.state.status = _COMPLETE
        # The keys of an execution are on its result alone so far. A consumer that asks from now on (of a second target) needs them
        # here, to look for records by definition. It must not get those of a step that was forced to run: the records that were
        # made of its old result are found under the same definition. After a load they are here already.
        if not self._exec_is_load and not work.value.outdates_records:
            self.state.keys = [*self.state.keys, *work.value.keys]

    def _process_dep(self, dep: Dep, request: EdgeRequest) -> bool:
        """News of an input; True if something of it matters to this edge. An input's error is this edge's, unless the input was
        only called off."""
        if request.completed and request.error is not None and not request.was_cancelled and self.error is None:
            self.error = request.error
        state = request.state
        if state is None:
            return False
        changed = False
        if len(dep.keys) < len(state.keys):
            if self.state.cache_map is not None:
                self._probe_cache(dep, with_selector(state.keys[len(dep.keys) :], self._selector(dep)))
            dep.keys = state.keys  # may be shared: it is never changed in place
            if self._all_deps_have_keys(matching=False):
                self.keys_did_change = True
            changed = True
        if dep.status != _COMPLETE and state.status == _COMPLETE:
            # A result has more keys than its state had (those it was saved under), so equal edges may show now.
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
            # Asking with both ties the input's definition to where its content leads. So the next build with the same definition
            # finds the record without hashing, which may mean without downloading. It is never the other way round
            # (``KeyCache.query``).
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
        """Does the content of this input count (COPY's source), or its definition alone (RUN's root filesystem)?"""
        return self.state.cache_map is not None and self.state.cache_map.deps[dep.index].content is not None

    def _slow_incomplete(self, dep: Dep) -> bool:
        """Could the input's content still lead to a key, because it counts and was not hashed, although the input has got as far as
        it can without that?"""
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
        """A record is stored under a key that *every* input leads to. If one input leads nowhere, by definition or by content, no
        record can match: what the other inputs would say is not worth asking, and the edge goes on to execute.

        When is that certain? Where the input's content counts, once it was hashed. Otherwise at cache-slow: then the input has no
        more keys to come without a result.
        """
        if dep.key_map or self._no_match_possible:
            return
        if self.has_slow_key(dep):
            self._no_match_possible = dep.slow_complete and not dep.slow_found_key
        else:
            self._no_match_possible = dep.status >= _SLOW

    def _all_deps_have_keys(self, *, matching: bool) -> bool:
        """Is something known of every input that a key of this edge can be made of? ``matching``: does every input lead to a key
        that exists? An input with a result or a content digest is through, whatever it leads to."""
        if self.state.cache_map is None:
            return False
        return all(
            (dep.key_map if matching else dep.keys) or dep.slow_key is not None or dep.result is not None for dep in self.deps
        )

    def _key_with_deps_of_inputs(self, dep: Dep) -> list[KeyWithSelector]:
        """Every key that the input is known by. Those of its result, where there is one, are all that its state had and more. The
        content digest has no selector: it is the digest of the selected part already."""
        if dep.result is None:
            return with_selector(dep.keys, self._selector(dep))
        keys = with_selector(dep.result.keys, self._selector(dep))
        return [*keys, KeyWithSelector(dep.slow_key)] if dep.slow_key is not None else keys

    def current_index_key(self) -> CacheKey | None:
        """The key by what is known now, to find equal edges by (``EdgeIndex``); None while an input has no key, and so nothing can
        be said."""
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
        """The keys that a result of executing now is saved under: of a source one for each of its cache maps, of others the one
        that all inputs' keys lead to."""
        cache_map = self.state.cache_map
        assert cache_map is not None
        vertex = self.vertex.vertex.digest
        if not self.deps:
            return [CacheKey.new(d, vertex, self.index, ephemeral=ephemeral) for d, ephemeral in self.root_digests]
        alternatives = [self._key_with_deps_of_inputs(dep) for dep in self.deps]
        return [CacheKey.new(cache_map.digest, vertex, self.index, alternatives, ephemeral=cache_map.ephemeral)]

    @property
    def records_are_outdated(self) -> bool:
        """Are the records that this edge's definition leads to made of what was before? So it is if the edge itself is forced to
        run (``--no-cache-filter``), or if an input is made of a forced step. An input whose content was hashed does not count:
        content says what it is, however it came about."""
        return self.ignore_cache or any(
            dep.result is not None and dep.result.outdates_records and dep.slow_key is None for dep in self.deps
        )

    def _add_key(self, key: CacheKey) -> None:
        """One more key of this edge, with the records under it. Those that were tried in vain are not taken again."""
        key.vertex = self.vertex.vertex.digest
        records = self.vertex.caches.records(key)
        for record in records:
            if record.id not in self._records_loaded:
                self._records[record.id] = record
        self.state.keys = [*self.state.keys, ExportableKey(key, (Exporter(key, records=tuple(records)),))]

    def _recalculate(self) -> None:
        """Bring keys, records and status up to date with what is known of the inputs."""
        if self.deps:
            # What every input leads to, and was not seen before.
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
        """A status is a promise to those who ask: at cache-fast no more keys will come by definition, at cache-slow none without
        executing. It never goes down.

        ``high`` is the usual way: an edge has got as far as the slowest of its inputs has. An input whose content was not hashed
        yet counts as cache-fast: content may still bring a key. ``low`` is the short cut: if one input leads nowhere, and its
        content can't change that, there is no key to wait for, however far the others are. For example the base image of a stage
        was changed: the RUN above it need not wait until its other mounts have been looked up.
        """
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
            # One more cache map is to come, with one more key: nothing can be promised. With a key at hand consumers may go on.
            state.status = _INITIAL
        done = self._cache_map_done
        self._all_deps_fast, self._all_deps_slow, self._all_deps_complete = done and fast, done and slow, done and complete
        # A record was found by definition, while the content of some input was not looked at, and need not be: then this edge would
        # stay at cache-fast for ever. If no other key could match through that content, it is as good as looked at.
        if done and every_dep_slow and self._records and state.status == _FAST and not self._open_keys():
            state.status = _SLOW

    def _open_keys(self) -> set[str]:
        """Keys that all the inputs which are through lead to, and that did not match yet because others are not through. None:
        whatever the content of those others is, there is nothing left to find."""
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
        """Answer what can be answered. Gives the highest state that is asked for, and whether there is nothing more to do now.

        A request for less than a result asks for a state *or for news*: whoever has seen two keys and asked for cache-slow may be
        answered by a third key, since that alone may be what was needed. If it was not, the same is asked again.
        """
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
                # Nothing can be told yet, and what is under way may change that: the answer would only be asked for again.
                all_can_complete = False
        if all_can_complete and self.has_active_outgoing:
            # What is under way is not wanted any more: everybody is content, or was called off. It has to end before the last
            # request is answered (see ``unpark``: who hears the answer may think that nothing runs here), so one request stays open
            # until then.
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
        """Answer for good: with this edge's error if it failed, with CancelledError if the asker has called off."""
        error = self.error
        if error is None and request.cancelled:
            error = CancelledError("the build was cancelled")
        s.answer(request, self.state, error=error, final=True)

    # -------------------------------------------------------------------------------------------- questions
    def _ensure_deps(self) -> None:
        if not self.deps:
            self.deps = [Dep(i) for i in range(len(self.vertex.inputs))]

    def _create_input_requests(self, desired: EdgeStatus, s: Scheduler, *, force: bool) -> bool:
        """Ask inputs for a higher state, and for content keys, where that is needed for ``desired``; True if anything was asked
        for.

        If no record can match (``_no_match_possible``) this edge will be executed, so all inputs may as well complete at once, side
        by side. ``force`` is the same without that reason.
        """
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
        """The digest of the input's content, of the part that counts. This may download, unpack and mount the input."""
        index, result = dep.index, dep.result
        assert result is not None
        return s.start_work(self, lambda work: self.vertex.op.slow_key(work, index, result))

    def _wanted(self, desired: EdgeStatus) -> Callable[[Dep], EdgeStatus]:
        """The state that an input must reach for this edge to come nearer to ``desired``.

        The situation behind it: ``RUN --mount=from=tools,target=/t --mount=target=/src``, where content counts of both mounts. The
        image ``tools`` is as it was, so its definition leads to keys; a file of the context changed, so that one's leads nowhere.
        The context's digest costs a walk; that of ``tools`` may cost a download. So inputs whose definition leads to no key are
        looked at first (*phase 1*). If their content leads nowhere either, there is no match (``_check_match_possible``), and the
        content of the others was never needed. If it leads to the key that the others' definitions lead to, that is the match.
        Only if they have no key in common is the content looked at of inputs that do lead somewhere by definition (*phase 2*).
        """
        have_map = self.state.cache_map is not None
        phase1_fast = not have_map or any(
            not d.key_map and (not d.slow_complete if self.has_slow_key(d) else d.status < _COMPLETE) for d in self.deps
        )
        phase1_slow = any(not d.key_map and ((self.has_slow_key(d) and not d.slow_complete) or d.status < _SLOW) for d in self.deps)
        every_match = self._all_deps_have_keys(matching=True)

        def want(dep: Dep) -> EdgeStatus:
            # This input leads somewhere by definition, and others do not: those first.
            skip_fast = phase1_fast and bool(dep.key_map)
            skip_slow = phase1_slow and not dep.slow_complete and self.has_slow_key(dep) and bool(dep.key_map)
            if desired <= dep.status and dep.status < _SLOW:
                return dep.status
            if dep.status == _INITIAL:
                return _FAST
            if dep.status == _FAST:
                # To go on to cache-slow means that inputs of the input get hashed. That is useful if this input leads nowhere so
                # far; if all definitions are known and have no key in common; or if every input leads somewhere and that gave no
                # record yet.
                useful = (self._all_deps_fast and not self.state.keys) or not dep.key_map or every_match
                return _SLOW if useful and not skip_fast and have_map else _FAST
            if dep.status == _SLOW and have_map:
                if desired == _COMPLETE:
                    # Its result is needed to execute, or to hash it. Not if there is a record: that will be loaded, and inputs are
                    # let go.
                    useful = not dep.key_map or self._all_deps_slow or (not skip_fast and self.has_slow_key(dep))
                    return _COMPLETE if useful and not self._records and not skip_slow else _SLOW
                # Those who ask want keys alone. Content is a key, and content needs the input's result.
                if desired == _SLOW and self.has_slow_key(dep):
                    return _SLOW if skip_slow else _COMPLETE
            return dep.status

        return want

    def _ask_input(self, dep: Dep, wanted: EdgeStatus, s: Scheduler) -> bool:
        """One request an input: one for another state takes the place of the one before. False if it is under way already."""
        if dep.request is not None and not dep.request.completed:
            if dep.request.desired == wanted:
                return False
            s.cancel(dep.request)
        dep.request = s.ask(self.vertex.inputs[dep.index], self, wanted, dep.known)
        self._dep_requests[dep.request] = dep
        return True

    def exec_if_possible(self, s: Scheduler) -> bool:
        """Load a record, or execute, when there is enough to do so: a record is enough for itself, executing needs every input's
        result and the digests of all content that counts, which the result is saved under. True if it was begun (or put off)."""
        if not self._records and not self._all_deps_complete:
            return False
        if self.keys_did_change:
            # Two stages copy the same files to the same base: their edges become equal the moment the content digests are known.
            # The index is asked after this step. If both executed at once, that would be too late.
            s.postpone(self)
            return True
        if self._records:
            record = best_record(list(self._records.values()))
            self._records_loaded.add(record.id)
            self._exec_is_load = True
            self._exec_work = s.start_work(self, lambda work: self.vertex.op.load_cache(work, self, record))
            # What lies below a hit is of no interest any more: it is not run, pulled or hashed.
            for request in self._dep_requests:
                s.cancel(request)
        else:
            self._exec_is_load = False
            self._exec_work = s.start_work(self, lambda work: self.vertex.op.exec(work, self))
        return True

    # -------------------------------------------------------------------------------------------- merging
    def adopt(self, source: ActiveEdge) -> None:
        """Stand for ``source`` from now on: the two turned out to be equal.

        The inputs of ``source`` have keys that this edge's inputs may lack (another stage, the same files). A remote cache should
        be found by both, so those are kept for the export.
        """
        for dep in source.deps:
            selector = source._selector(dep)
            keys = with_selector(dep.keys, selector)
            if dep.slow_key is not None:
                keys.append(KeyWithSelector(dep.slow_key))
            if dep.result is not None:
                keys += with_selector(dep.result.keys, selector)
            self.secondary += [(dep.index, key) for key in keys]
        source.owner = self
