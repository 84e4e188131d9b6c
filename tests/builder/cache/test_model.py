"""Any sequence of new, commit, merge, release and prune, with another process's lease beside, behaves like a model of dicts."""

from __future__ import annotations

import os
import tempfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from builder.cache.manager import CacheManager
from builder.cache.refs import ImmutableRef, MutableRef
from builder.cache.types import PrunePolicy
from builder.state.layout import Layout
from tests.builder.cache.conftest import Registry, WatchedSnapshotter, tree
from tests.support.records import is_lazy


class CacheModel(RuleBasedStateMachine):
    """``files``: record id -> what a mount must show. ``parents``: record id -> ids. ``refs``: record id -> number of refs."""

    mutable = Bundle("mutable")
    immutable = Bundle("immutable")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.warnings: list[str] = []
        self.registry = Registry()
        self.manager = self.open()
        self.visitor = self.open()
        self.visited: list[str] = []
        self.files: dict[str, dict[str, str]] = {}
        self.parents: dict[str, tuple[str, ...]] = {}
        self.refs: dict[str, int] = {}

    def open(self) -> CacheManager:
        """A manager with a lease of its own, as another process has it."""
        from builder.content.store import ContentStore
        from builder.state.database import Database

        layout = Layout(self.folder.name)
        layout.create()
        database = Database(layout.database)
        snapshotter = WatchedSnapshotter(layout, database)
        manager = CacheManager(layout, database, ContentStore(layout), snapshotter, warn=self.warnings.append)
        manager.use_snapshots()
        manager.providers.set_resolver(lambda source, _: self.registry)
        return manager

    def took(self, ref: ImmutableRef | MutableRef, files: dict[str, str], parents: tuple[str, ...]) -> None:
        if ref.id in self.files:
            assert self.files[ref.id] == files
        self.files[ref.id] = files
        self.parents[ref.id] = parents
        self.refs[ref.id] = self.refs.get(ref.id, 0) + 1

    @rule(target=mutable, name=st.sampled_from("abc"), text=st.sampled_from("12"))
    def new_on_nothing(self, name: str, text: str) -> MutableRef:
        return self.write(self.manager.new(None), {}, (), name, text)

    @rule(target=mutable, parent=immutable, name=st.sampled_from("abc"), text=st.sampled_from("12"))
    def new_on_parent(self, parent: ImmutableRef, name: str, text: str) -> MutableRef:
        return self.write(self.manager.new(parent), self.files[parent.id], (parent.id,), name, text)

    def write(self, work: MutableRef, files: dict[str, str], parents: tuple[str, ...], name: str, text: str) -> MutableRef:
        with work.mount() as root, open(os.path.join(root, name), "w", encoding="utf-8") as file:
            file.write(text)
        self.took(work, {**files, name: text}, parents)
        return work

    @rule(target=immutable, work=consumes(mutable))
    def commit(self, work: MutableRef) -> ImmutableRef:
        return work.commit()

    @rule(work=consumes(mutable))
    def abandon(self, work: MutableRef) -> None:
        work.release()
        self.gone({work.id})

    @rule(target=immutable, name=st.sampled_from("abc"), text=st.sampled_from("12"))
    def pull(self, name: str, text: str) -> ImmutableRef:
        ref = self.manager.get_by_blob(self.registry.layer({name: text}), None)
        self.took(ref, {name: text}, ())
        return ref

    @rule(target=immutable, parent=immutable, name=st.sampled_from("abc"), text=st.sampled_from("12"))
    def pull_on(self, parent: ImmutableRef, name: str, text: str) -> object:
        if parent.chain_id is None:
            return multiple()
        ref = self.manager.get_by_blob(self.registry.layer({name: text}), parent)
        below = ref.record.parents  # of the record that was there, if there was one: perhaps a twin of ``parent``
        assert [self.files[at] for at in below] == [self.files[parent.id]]
        self.took(ref, {**self.files[parent.id], name: text}, below)
        return ref

    @rule(ref=immutable)
    def unlazy(self, ref: ImmutableRef) -> None:
        ref.unlazy()
        assert not is_lazy(ref)

    @rule(ref=immutable)
    def visit(self, ref: ImmutableRef) -> None:
        """The other process takes the result too."""
        other = self.visitor.load(ref.id)
        assert other is not None
        assert tree(other) == dict(sorted(self.files[ref.id].items()))
        self.visited.append(ref.id)
        self.refs[ref.id] += 1

    @rule()
    def visitor_ends(self) -> None:
        self.close(self.visitor)
        for at in self.visited:
            self.refs[at] -= 1
        self.visited.clear()
        self.visitor = self.open()

    @rule(target=immutable, one=immutable, two=immutable)
    def merge(self, one: ImmutableRef, two: ImmutableRef) -> ImmutableRef:
        ref = self.manager.merge([one, two])
        assert ref is not None
        self.took(ref, {**self.files[one.id], **self.files[two.id]}, ref.record.parents)
        return ref

    @rule(target=immutable, ref=immutable)
    def clone(self, ref: ImmutableRef) -> ImmutableRef:
        self.refs[ref.id] += 1
        return ref.clone()

    @rule(target=immutable, ref=immutable)
    def load(self, ref: ImmutableRef) -> ImmutableRef:
        loaded = self.manager.load(ref.id)
        assert loaded is not None
        self.refs[ref.id] += 1
        return loaded

    @rule(ref=immutable)
    def read(self, ref: ImmutableRef) -> None:
        assert tree(ref) == dict(sorted(self.files[ref.id].items()))

    @rule(ref=immutable)
    def export(self, ref: ImmutableRef) -> None:
        layers = ref.remote()
        assert len(layers) == len(ref.layers())
        assert ref.remote() == layers

    @rule(target=immutable, ref=consumes(immutable))
    def release(self, ref: ImmutableRef) -> object:
        ref.release()
        self.refs[ref.id] -= 1
        return multiple()

    @rule(by_visitor=st.booleans())
    def prune(self, by_visitor: bool) -> None:
        needed: set[str] = set()
        stack = [at for at, count in self.refs.items() if count]
        while stack:
            at = stack.pop()
            if at not in needed:
                needed.add(at)
                stack += self.parents[at]
        expected = self.files.keys() - needed
        with self.manager.lease.transaction():
            pass  # what was let go is told to others with the next transaction
        pruner = self.visitor if by_visitor else self.manager
        assert {x.id for x in pruner.collector.prune([PrunePolicy(all=True)])} == expected
        self.gone(expected)

    def gone(self, ids: set[str]) -> None:
        for at in ids:
            del self.files[at], self.parents[at], self.refs[at]

    @invariant()
    def known_results_exist(self) -> None:
        usage = {x.id: x for x in self.manager.collector.disk_usage() if x.record_type != "internal"}
        assert usage.keys() == self.files.keys()
        assert all(usage[at].in_use for at, count in self.refs.items() if count)
        assert self.warnings == []

    def teardown(self) -> None:
        assert self.manager.check.damage(verify=True) == []
        self.close(self.visitor)
        self.close(self.manager)
        self.folder.cleanup()

    def close(self, manager: CacheManager) -> None:
        manager.close()
        manager.database.close()


# ``merge`` with a merge among its inputs has the inputs of that one as parents: see ``took``.
TestCacheModel = CacheModel.TestCase
TestCacheModel.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
