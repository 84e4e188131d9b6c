"""The edge: one output of one vertex on its way to a result, by the least data (BuildKit: solver/edge.go; docs/solver.md has the
diagram and the reasons).

An edge is woken with news of its inputs and of its work, and with the questions of those who ask it. ``unpark`` looks at the news,
answers, asks for what is missing, and returns: nothing here blocks. What it knows and decides with is in modules of their own:

    edgestate      the states, and what an edge knows of each input (a *dep*)
    edgekeys       which keys of this edge the inputs' keys lead to, and the records under them
    edgeprogress   which state the edge may promise
    wanted         what to ask the inputs for
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import CancelledError
from builder.solver import wanted
from builder.solver.cachekey import KeyWithSelector, with_selector
from builder.solver.edgekeys import EdgeKeys
from builder.solver.edgeprogress import NO_PROGRESS, progress
from builder.solver.edgestate import Dep, EdgeState, EdgeStatus
from builder.solver.requests import EdgeRequest, Pending
from builder.state import trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.digest import Digest
    from builder.solver.requests import Work
    from builder.solver.result import SharedResult
    from builder.solver.scheduler import Scheduler
    from builder.solver.types import CacheMap, Result
    from builder.solver.vertexstate import VertexState

_FAST, _SLOW, _COMPLETE = EdgeStatus.CACHE_FAST, EdgeStatus.CACHE_SLOW, EdgeStatus.COMPLETE


class ActiveEdge:
    """An edge within a solve. All methods run in the scheduler's loop.

    ``keys_did_change``: this edge may have become equal to another one; the scheduler looks, and clears it. ``has_active_outgoing``
    is set by the scheduler before each step: something that this edge asked for is still under way. ``owner`` is the edge that this
    one was merged into. ``secondary`` are keys of inputs that edges merged into this one were known by; they are exported, too.
    """

    def __init__(self, vertex: VertexState, index: int) -> None:
        self.vertex = vertex
        self.index = index
        self.state = EdgeState()
        self.deps: list[Dep] = []
        self.keys = EdgeKeys(vertex, index, self.state, self.deps)
        self.error: Exception | None = None
        self.has_active_outgoing = False
        self.keys_did_change = False
        self.owner: ActiveEdge | None = None
        self.secondary: list[tuple[int, KeyWithSelector]] = []
        self._progress = NO_PROGRESS
        self._dep_requests: dict[EdgeRequest, Dep] = {}
        self._cache_map_work: Work[tuple[CacheMap[Result], bool]] | None = None
        self._cache_map_index = 0
        self._has_all_maps = False
        self._exec_work: Work[SharedResult[Result]] | None = None
        self._exec_is_load = False

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
        updates: Sequence[EdgeRequest | Pending],
        outgoing: Sequence[EdgeRequest | Pending],
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
        if self._cache_map_work is None and (
            self.state.cache_map is None or (not self._has_all_maps and not self.keys.has_records)
        ):
            index = self._cache_map_index
            self._cache_map_work = s.start_work(self, lambda work: self.vertex.op.cache_map(work, index))
            asked_cache_map = True
        if self._exec_work is None and desired == _COMPLETE and self._exec_if_possible(s):
            return
        if self._exec_work is None:
            added = self._create_input_requests(desired, s, force=False)
            if not added and not self.has_active_outgoing and not asked_cache_map:
                # The rules of ``wanted`` never come here. If one of them is wrong, solving every input is slow and never wrong,
                # while stopping here would hang the build.
                self._create_input_requests(desired, s, force=True)

    # -------------------------------------------------------------------------------------------- what is new
    def _process_updates(self, updates: Sequence[EdgeRequest | Pending]) -> None:
        changed = False
        for update in updates:
            changed = self._process_update(update) or changed
        if changed:
            self.keys.add_common()
            if self.state.cache_map is not None:
                self._progress = progress(self.state, self.deps, self.keys, has_all_maps=self._has_all_maps)
                self.state.status = self._progress.status

    def _process_update(self, update: EdgeRequest | Pending) -> bool:
        """True if the news matter to keys or status."""
        if isinstance(update, EdgeRequest):
            dep = self._dep_requests.get(update)
            if dep is None:
                return False
            if update.completed:
                del self._dep_requests[update]
            return self._process_dep(dep, update)
        if not update.completed:
            return False
        if self._cache_map_work is not None and update is self._cache_map_work:
            self._process_cache_map(self._cache_map_work)
            return True
        if self._exec_work is not None and update is self._exec_work:
            self._process_exec(self._exec_work)
            return True
        for dep in self.deps:
            if dep.slow_work is not None and update is dep.slow_work:
                self._process_slow_key(dep, dep.slow_work)
                return True
        return False

    def _fail(self, error: Exception, *, was_cancelled: bool) -> None:
        """The first error is this edge's. What was only called off is no failure."""
        if not was_cancelled and self.error is None:
            self.error = error

    def _process_cache_map(self, work: Work[tuple[CacheMap[Result], bool]]) -> None:
        if work.error is not None:
            self._cache_map_work = None
            self._fail(work.error, was_cancelled=work.was_cancelled)
            return
        cache_map, self._has_all_maps = work.value
        self.state.cache_map = cache_map
        self._cache_map_index += 1
        self._ensure_deps()
        if not self.deps:
            self.keys.add_root(cache_map)
            # There is nothing below, so no content is left that could lead to one more key.
            self.state.status = _SLOW
        if self.keys.every_dep_has_keys():
            self.keys_did_change = True
        for dep, described in zip(self.deps, cache_map.deps, strict=True):
            dep.describe(described)
            # Keys of inputs may have come before the cache map did. They could not be looked up without its digest and selectors.
            self.keys.probe(dep, with_selector(dep.keys, dep.selector))
            self.keys.check_match_possible(dep)
        if not self._has_all_maps:
            self._cache_map_work = None

    def _process_exec(self, work: Work[SharedResult[Result]]) -> None:
        if work.error is not None:
            self._exec_work = None
            if self._exec_is_load:
                # The record was there a moment ago and can't be loaded: another process has pruned it, or its files are damaged.
                # That is a miss and no error. Another attempt would fail like this one, so the record is not tried again.
                self.keys.drop_tried()
            else:
                self._fail(work.error, was_cancelled=work.was_cancelled)
            return
        self.state.result = work.value
        self.state.status = _COMPLETE
        # The keys of an execution stand on its result alone so far. A consumer that asks from now on, for a second target, needs
        # them here to look for records by definition. It must not get those of a step that was forced to run: records under this
        # definition were made of the step's old result. After a load the keys are here already.
        if not self._exec_is_load and not work.value.outdates_records:
            self.state.keys = [*self.state.keys, *work.value.keys]

    def _process_dep(self, dep: Dep, request: EdgeRequest) -> bool:
        """News of an input; True if something of it matters to this edge."""
        if request.completed and request.error is not None:
            self._fail(request.error, was_cancelled=request.was_cancelled)
        state = request.state
        if state is None:
            return False
        changed = False
        if len(dep.keys) < len(state.keys):
            if self.state.cache_map is not None:
                self.keys.probe(dep, with_selector(state.keys[len(dep.keys) :], dep.selector))
            dep.keys = state.keys  # both may hold one list, because it is never changed in place
            if self.keys.every_dep_has_keys():
                self.keys_did_change = True
            changed = True
        if dep.status != _COMPLETE and state.status == _COMPLETE:
            # A result has more keys than its state had (those that it was saved under), so equal edges may show now.
            self.keys_did_change = True
        recheck = state.status != dep.status
        dep.status, dep.result, dep.cache_map = state.status, state.result, state.cache_map
        if recheck and self.state.cache_map is not None:
            self.keys.check_match_possible(dep)
            changed = True
        return changed

    def _process_slow_key(self, dep: Dep, work: Work[Digest]) -> None:
        if work.error is not None:
            dep.slow_work = None
            self._fail(work.error, was_cancelled=work.was_cancelled)
            return
        if dep.slow_complete:
            return
        self.keys.add_slow_key(dep, work.value)
        self.keys_did_change = True
        self.keys.check_match_possible(dep)

    # -------------------------------------------------------------------------------------------- answers
    def _respond_to_incoming(
        self, incoming: Sequence[EdgeRequest], outgoing: Sequence[EdgeRequest | Pending], s: Scheduler
    ) -> tuple[EdgeStatus, bool]:
        """Answer what can be answered. Gives the highest state that is asked for, and whether there is nothing more to do now.

        A request for less than a result asks for a state *or for news*. For example an asker that has seen two keys wants
        cache-slow; a third key answers it, since that key alone may be what it needs. If it is not, the asker asks again.
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
                # Nothing can be told yet, and what is under way may change that. Whoever got an answer now would ask again.
                all_can_complete = False
        if all_can_complete and self.has_active_outgoing:
            # Everybody has what they want, or was called off, so nobody wants what is under way. It has to end before the last
            # request is answered: who hears that answer may take it that nothing runs here (see ``unpark``). So one request stays
            # open until then.
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
            self.deps += [Dep(i) for i in range(len(self.vertex.inputs))]

    def _create_input_requests(self, desired: EdgeStatus, s: Scheduler, *, force: bool) -> bool:
        """Ask inputs for a higher state, and for content keys, where that is needed for ``desired``; True if anything was asked
        for. ``force``: ask every input for its result."""
        self._ensure_deps()
        rules = wanted.Wanted(desired, self.state, self.deps, self.keys, self._progress)
        added = False
        for dep in self.deps:
            want = wanted.Want(_COMPLETE, wanted.STUCK) if force else rules.of(dep)
            if dep.status < want.status:
                dep.asked_because = want.reason
                added = self._ask_input(dep, want.status, s) or added
            if dep.status == _COMPLETE and dep.slow_work is None and not dep.slow_complete and dep.has_slow_key:
                dep.slow_work = self._ask_slow_key(dep, s)
                added = True
        return added

    def _ask_input(self, dep: Dep, status: EdgeStatus, s: Scheduler) -> bool:
        """There is one request for each input; one for another state takes the place of the one before. False if the same is under
        way already."""
        if dep.request is not None and not dep.request.completed:
            if dep.request.desired == status:
                return False
            s.cancel(dep.request)
        dep.request = s.ask(self.vertex.inputs[dep.index], self, status, dep.known)
        self._dep_requests[dep.request] = dep
        return True

    def _ask_slow_key(self, dep: Dep, s: Scheduler) -> Work[Digest]:
        """The digest of the input's content, of the part that counts. This may download, unpack and mount the input."""
        index, result = dep.index, dep.result
        assert result is not None
        if trace.is_on():
            name = self.vertex.inputs[index][0].name
            trace.event("solver", "slow key", edge=self, input=index, of=name, because=dep.asked_because or wanted.HAD_RESULT)
        return s.start_work(self, lambda work: self.vertex.op.slow_key(work, index, result))

    def _exec_if_possible(self, s: Scheduler) -> bool:
        """Load a record, or execute, when there is enough to do so. True if it was begun, or put off.

        To load, a record is enough. To execute, every input's result is needed, and the digests of all content that counts,
        because the result is saved under them.
        """
        if not self.keys.has_records and not self._progress.all_complete:
            return False
        if self.keys_did_change:
            # Two stages copy the same files to the same base: their edges become equal the moment the content digests are known.
            # The scheduler looks for equal edges after this step. Both would execute if they did not wait for that.
            s.postpone(self)
            return True
        if self.keys.has_records:
            record = self.keys.take_record()
            self._exec_is_load = True
            self._exec_work = s.start_work(self, lambda work: self.vertex.op.load_cache(work, self, record))
            # What lies below a hit is not needed any more, so it is not run, pulled or hashed.
            for request in self._dep_requests:
                s.cancel(request)
        else:
            self._exec_is_load = False
            self._exec_work = s.start_work(self, lambda work: self.vertex.op.exec(work, self))
        return True

    # -------------------------------------------------------------------------------------------- merging
    def adopt(self, source: ActiveEdge) -> None:
        """Stand for ``source`` from now on: the two turned out to be equal.

        The inputs of ``source`` have keys that this edge's inputs may lack (another stage, the same files). They are kept for the
        export, because a remote cache should be found by both.
        """
        for dep in source.deps:
            keys = with_selector(dep.keys, dep.selector)
            if dep.slow_key is not None:
                keys.append(KeyWithSelector(dep.slow_key))
            if dep.result is not None:
                keys += with_selector(dep.result.keys, dep.selector)
            self.secondary += [(dep.index, key) for key in keys]
        source.owner = self
