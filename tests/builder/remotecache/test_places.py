"""A cache in a folder: whole or not there, whatever happens on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.content.store import ContentStore
from builder.content.types import Layer
from builder.errors import IntegrityError, NotFoundError, SourceError, StoreError
from builder.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from builder.oci.digest import Digest
from builder.oci.documents import describe
from builder.remotecache.places import LocalReader, LocalWriter
from builder.remotecache.types import LocalPlace, RemoteLayer
from builder.state.layout import Layout

DATA = b"a layer's bytes"


class Elsewhere:
    """Provides ``data`` for any descriptor."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        yield iter([self.data[offset:]])


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    layout = Layout(str(tmp_path / "root"))
    layout.create()
    return ContentStore(layout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def remote(provider: Elsewhere | None = None) -> RemoteLayer:
    digest = Digest.of(DATA)
    return RemoteLayer(Layer(Descriptor(OCI_LAYER_GZIP, digest, len(DATA)), digest, provider))


def blobs(folder: Path) -> set[str]:
    return set(os.listdir(folder / "blobs" / "sha256"))


def write(content: ContentStore, folder: Path, document: bytes, tag: str = "latest", *, reset: bool = False) -> Descriptor:
    top = describe("application/vnd.oci.image.manifest.v1+json", document)
    LocalWriter(content, LocalPlace(str(folder), tag), reset=reset).finish(top, document)
    return top


def test_layers_come_from_the_store_or_straight_from_elsewhere(content: ContentStore, folder: Path) -> None:
    writer = LocalWriter(content, LocalPlace(str(folder)), reset=False)
    writer.layer(remote(Elsewhere(DATA)))
    assert not content.has(Digest.of(DATA)), "what is only passed on is not kept"
    content.put(DATA)
    (folder / "blobs" / "sha256" / Digest.of(DATA).hex).unlink()
    writer.layer(remote())
    assert blobs(folder) == {Digest.of(DATA).hex}


def test_a_blob_with_other_bytes_leaves_nothing(content: ContentStore, folder: Path) -> None:
    with pytest.raises(IntegrityError):
        LocalWriter(content, LocalPlace(str(folder)), reset=False).layer(remote(Elsewhere(DATA[:-1] + b"?")))
    assert blobs(folder) == set()


def test_a_truncated_blob_is_written_anew(content: ContentStore, folder: Path) -> None:
    writer = LocalWriter(content, LocalPlace(str(folder)), reset=False)
    writer.layer(remote(Elsewhere(DATA)))
    path = folder / "blobs" / "sha256" / Digest.of(DATA).hex
    path.write_bytes(DATA[:3])
    writer.layer(remote(Elsewhere(DATA)))
    assert path.read_bytes() == DATA


def test_a_tag_moves_and_others_stay(content: ContentStore, folder: Path) -> None:
    one, two = write(content, folder, b'{"n":1}'), write(content, folder, b'{"n":2}', "other")
    three = write(content, folder, b'{"n":3}')
    assert LocalReader(LocalPlace(str(folder))).top() == Descriptor(
        three.media_type, three.digest, three.size, (("org.opencontainers.image.ref.name", "latest"),)
    )
    assert LocalReader(LocalPlace(str(folder), "other")).top().digest == two.digest
    assert LocalReader(LocalPlace(str(folder), digest=one.digest)).manifest(one) == b'{"n":1}'
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_reset_follows_what_manifests_name(content: ContentStore, folder: Path) -> None:
    """Also that of other tags, and what the config and the layers of an image manifest are."""
    LocalWriter(content, LocalPlace(str(folder)), reset=False).layer(remote(Elsewhere(DATA)))
    named = json.dumps({"layers": [{"digest": Digest.of(DATA)}], "config": {"digest": Digest.of(b"gone")}}).encode()
    kept = write(content, folder, named, "other")
    old = write(content, folder, b'{"n":1}')
    new = write(content, folder, b'{"n":2}', reset=True)
    assert blobs(folder) == {Digest.of(DATA).hex, kept.digest.hex, new.digest.hex}
    assert old.digest.hex not in blobs(folder)


def test_documents_are_checked(content: ContentStore, folder: Path) -> None:
    top = write(content, folder, b'{"n":1}')
    (folder / "blobs" / "sha256" / top.digest.hex).write_bytes(b'{"n":2}')
    with pytest.raises(IntegrityError, match="has another digest"):
        LocalReader(LocalPlace(str(folder))).manifest(top)


def test_what_is_not_there_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFoundError):
        LocalReader(LocalPlace(str(folder))).top()
    folder.mkdir()
    (folder / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    with pytest.raises(NotFoundError, match="tagged latest"):
        LocalReader(LocalPlace(str(folder))).top()
    with pytest.raises(NotFoundError):
        LocalReader(LocalPlace(str(folder), digest=Digest.of(b""))).top()


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"manifests":1}', '{"manifests":[1]}', '{"manifests":[{"annotations":1}]}',
     '{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"latest"},"digest":"../x","size":1}]}'],
)  # fmt: skip
def test_an_index_of_something_else_is_an_error_of_one_line(content: ContentStore, folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "index.json").write_text(text)
    with pytest.raises(SourceError):
        LocalReader(LocalPlace(str(folder))).top()


def test_a_folder_that_can_not_be_written_is_an_error_of_one_line(content: ContentStore, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(StoreError, match="can't write to"):
        write(content, folder, b"{}")
