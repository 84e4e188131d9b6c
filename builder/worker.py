"""The worker: everything that lies under one state root, opened once a process (BuildKit: worker/base)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from builder.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.cache.manager import CacheManager
    from builder.config import Config
    from builder.content.store import ContentStore
    from builder.net.client import RegistryClient
    from builder.oci.digest import Digest
    from builder.snapshots.types import Snapshotter
    from builder.state.database import Database
    from builder.state.layout import Layout
    from builder.state.scratch import Scratch
    from runtime.executor import Executor
    from runtime.linux.namespaces import Entered


@dataclass(slots=True)
class Worker:
    """Parts that ops and exporters share. ``executor`` looks for the sandbox runtime at the first RUN that is not cached."""

    layout: Layout
    database: Database
    content: ContentStore
    snapshotter: Snapshotter
    cache: CacheManager
    config: Config
    runtime: str | None = None
    entered: Entered | None = None
    _executor: Executor | None = None
    _registry: RegistryClient | None = None
    _scratch: Scratch | None = None
    _database_lock: int = -1
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _said: set[str] = field(default_factory=set)

    def is_first(self, what: str) -> bool:
        """Has ``what`` not been asked before? For what is told once a process."""
        with self._lock:
            first = what not in self._said
            self._said.add(what)
            return first

    @property
    def executor(self) -> Executor:
        with self._lock:
            if self._executor is None:
                from runtime.executor import select

                self._executor = select(self.runtime, self.entered, owners=self.keeps_owners)
            return self._executor

    @property
    def keeps_owners(self) -> bool:
        """Are owners kept beside the files? Steps must be run so, too."""
        from builder.files.owners import REAL, current

        return current() is not REAL

    @property
    def may_mount(self) -> bool:
        """False where no namespace can be had."""
        return self.entered is None or self.entered.kind != "none"

    @property
    def registry(self) -> RegistryClient:
        """The worker's one client: tokens and connections are shared by all that it does."""
        with self._lock:
            if self._registry is None:
                from builder.net.client import RegistryClient

                self._registry = RegistryClient(self.config)
            return self._registry

    @registry.setter
    def registry(self, client: RegistryClient) -> None:
        """For tests, which bring one with another transport."""
        self._registry = client

    def close(self) -> None:
        """End the lease and write what is still in memory. A process that dies without it leaves that to the next one's sweep."""
        self.cache.close()
        self.database.close()
        if self._scratch is not None:
            self._scratch.close()
        if self._database_lock >= 0:
            import os

            os.close(self._database_lock)
            self._database_lock = -1

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_worker(root: str | None, config: Config, runtime: str | None = None, *, repair: bool = True) -> Worker:
    """Open the state root (None: the default one), making it where it is missing.

    Enters a private mount namespace (and, when the caller is not root, a user namespace) first: every mount is then the process's
    own and gone with it, also after SIGKILL. That works before the first thread only. Where the host allows no namespace, all but
    RUN works: snapshots are plain folders then. With one id only, owners are kept beside files in this process from now on.
    ``repair`` False: what a copy of the root lost stays as it is, and is not to be used. StoreError if the root can't be used.
    """
    from builder.cache.manager import CacheManager
    from builder.content.store import ContentStore
    from builder.snapshots.select import choose_owners, open_snapshotter
    from builder.state import recovery, reserve, scratch
    from builder.state.layout import Layout, default_root
    from runtime.executor import LAST
    from runtime.linux import namespaces
    from runtime.linux.namespaces import Entered

    root = root or default_root()  # of the account that we have now: in a user namespace everybody is root
    # Who asks for steps without namespaces by name gets them without mounts too: what is set up with renames wants plain folders.
    entered = Entered("none", reasons=(f"{LAST} was asked for",)) if runtime == LAST else namespaces.enter()
    layout = Layout(root)
    layout.create()
    reserve.keep(layout)
    own = scratch.enter(layout)
    layout = own.layout
    recovered = recovery.enter(layout)
    database = recovered.database
    content = ContentStore(layout)
    choose_owners(entered)
    snapshotter = open_snapshotter(layout, database, config.snapshotter, private=entered.kind != "none")

    def image_roots() -> Iterable[Digest]:
        from builder.images.store import ImageStore

        return ImageStore(database, content).gc_roots()

    if recovered.look_over:
        from builder.images.store import ImageStore

        ImageStore(database, content).restore()
    cache = CacheManager(layout, database, content, snapshotter, roots=[image_roots], look_over=recovered.look_over)
    cache.use_snapshots(repair=repair, asked_for=runtime == LAST or config.snapshotter not in (None, "", "auto"))
    if recovered.look_over:
        recovery.done(layout)
    return Worker(
        layout, database, content, snapshotter, cache, config, runtime, entered, _scratch=own, _database_lock=recovered.lock
    )
