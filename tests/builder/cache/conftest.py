"""A cache manager on real parts: content store, native snapshotter (needs no mounts), database."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest

from builder.cache.manager import CacheManager
from builder.cache.refs import ImmutableRef
from builder.content.store import ContentStore
from builder.content.types import Layer
from builder.errors import NotFoundError
from builder.files.tar import DIR, REG, Entry, TarWriter
from builder.files.types import NeedsParent
from builder.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from builder.oci.digest import Digest
from builder.snapshots.native import NativeSnapshotter
from builder.snapshots.types import Applied
from builder.state.database import Database
from builder.state.layout import Layout


class WatchedSnapshotter(NativeSnapshotter):
    """Counts calls by name. With ``parallel_apply`` every layer asks for its parent, as one with hard links into it would."""

    def __init__(self, layout: Layout, database: Database) -> None:
        super().__init__(layout, database, bind=False)
        self.calls: list[str] = []

    @contextmanager
    def mount(self, key: str) -> Iterator[str]:
        self.calls.append("mount")
        with super().mount(key) as folder:
            yield folder

    def apply(self, key: str, parent: str | None, chunks: Iterable[bytes]) -> Applied:
        self.calls.append("apply")
        if self.parallel_apply and parent is not None and not self.exists(parent):
            next(iter(chunks))
            raise NeedsParent("links into a lower layer")
        return super().apply(key, parent, chunks)

    def merge(self, key: str, parents: object) -> None:
        self.calls.append("merge")
        super().merge(key, parents)  # type: ignore[arg-type]

    def diff(self, key: str, parent: str | None, write: object, *, clamp_mtime: int | None = None) -> None:
        self.calls.append("diff")
        super().diff(key, parent, write, clamp_mtime=clamp_mtime)  # type: ignore[arg-type]


class Registry:
    """A provider of blobs from memory that counts."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.opened: list[Digest] = []

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        self.opened.append(descriptor.digest)
        if descriptor.digest not in self.blobs:
            raise NotFoundError(f"{descriptor.digest} is not here")
        data = self.blobs[descriptor.digest][offset:]
        yield iter([data[:10], data[10:]])

    def layer(self, files: dict[str, str], *, level: int = 6, source: str = "registry/image") -> Layer:
        """Push a gzip layer of ``files``; a name that ends in a slash is a folder, ``.wh.NAME`` deletes NAME below."""
        return self.stored(tar_of(files), level=level, source=source)

    def stored(self, tar: bytes, *, level: int = 6, source: str = "registry/image") -> Layer:
        blob = gzip.compress(tar, level, mtime=0)
        digest = Digest.of(blob)
        self.blobs[digest] = blob
        return Layer(Descriptor(OCI_LAYER_GZIP, digest, len(blob)), Digest.of(tar), self, source)


def tar_of(files: dict[str, str]) -> bytes:
    out: list[bytes] = []
    writer = TarWriter(out.append)
    for name, text in files.items():
        data = text.encode()
        kind = DIR if name.endswith("/") else REG
        entry = Entry(name, kind, mode=0o755 if kind == DIR else 0o644, size=len(data))
        writer.add(entry, [data] if kind == REG else ())
    writer.close()
    return b"".join(out)


def tree(ref: ImmutableRef) -> dict[str, str]:
    """Path -> text of every file in the ref."""
    found: dict[str, str] = {}
    with ref.mount() as root:
        for folder, _, files in os.walk(root):
            for name in files:
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    found[os.path.relpath(path, root)] = file.read()
    return dict(sorted(found.items()))


@pytest.fixture
def files_of() -> Callable[[ImmutableRef], dict[str, str]]:
    return tree


@pytest.fixture
def registry() -> Registry:
    return Registry()


Opener = Callable[..., CacheManager]


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path: object, warnings: list[str]) -> Iterator[Opener]:
    """Opens a further manager on one root, as another process would."""
    managers: list[CacheManager] = []
    layout = Layout(f"{tmp_path}/root")

    def one(
        *,
        repair: bool = True,
        warn: Callable[[str], None] = warnings.append,
        kind: type[NativeSnapshotter] | None = None,
        asked_for: bool = False,
    ) -> CacheManager:
        layout.create()
        database = Database(layout.database)
        snapshotter = WatchedSnapshotter(layout, database) if kind is None else kind(layout, database, bind=False)
        manager = CacheManager(layout, database, ContentStore(layout), snapshotter, warn=warn)
        managers.append(manager)
        manager.use_snapshots(repair=repair, asked_for=asked_for)
        return manager

    yield one
    for manager in managers:
        manager.close()
        manager.database.close()


@pytest.fixture
def manager(opened: Opener) -> CacheManager:
    return opened()


Step = Callable[..., ImmutableRef]


@pytest.fixture
def step() -> Step:
    """A build step: new on a parent, write files (None deletes), commit."""

    def run(manager: CacheManager, parent: ImmutableRef | None, files: dict[str, str | None], **options: str) -> ImmutableRef:
        work = manager.new(parent, **options)  # type: ignore[arg-type]
        with work.mount() as root:
            for name, text in files.items():
                path = os.path.join(root, name)
                if text is None:
                    os.unlink(path)
                    continue
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
        return work.commit()

    return run


def sha256(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())
