"""A worker on real parts, without mounts: content store, native snapshotter, database, and a registry without sockets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from builder.cache.manager import CacheManager
from builder.cache.refs import ImmutableRef
from builder.config import Config
from builder.content.store import ContentStore
from builder.net.agent import Agent
from builder.net.auth import NONE
from builder.net.client import RegistryClient
from builder.snapshots.native import NativeSnapshotter
from builder.sources.providers import connect
from builder.state.database import Database
from builder.state.layout import Layout
from builder.worker import Worker
from tests.builder.net.conftest import FakeTransport, World

OpenWorker = Callable[[], Worker]


@pytest.fixture
def world() -> World:
    transport: FakeTransport = FakeTransport()
    slept: list[float] = []
    return World(transport, Agent(transport, sleep=slept.append), slept)


@pytest.fixture
def open_worker(tmp_path: object, world: World) -> Iterator[OpenWorker]:
    """Opens a further worker on one root, as another process would."""
    opened: list[Worker] = []
    layout = Layout(f"{tmp_path}/root")

    def one() -> Worker:
        layout.create()
        database = Database(layout.database)
        content = ContentStore(layout)
        snapshotter = NativeSnapshotter(layout, database, bind=False)
        worker = Worker(layout, database, content, snapshotter, CacheManager(layout, database, content, snapshotter), Config())
        worker.registry = RegistryClient(worker.config, agent=world.agent, credentials=lambda host, repository: NONE)
        connect(worker)
        opened.append(worker)
        return worker

    yield one
    for worker in opened:
        worker.cache.close()
        worker.database.close()


@pytest.fixture
def worker(open_worker: OpenWorker) -> Worker:
    return open_worker()


def files(ref: ImmutableRef) -> dict[str, str]:
    """Path -> text of every file in the ref; folders that hold nothing are left out."""
    found: dict[str, str] = {}
    with ref.mount() as root:
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    found[os.path.relpath(path, root)] = file.read()
    return dict(sorted(found.items()))
