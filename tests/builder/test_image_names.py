"""Names of images are no cache: one that the database lost comes back from ROOT/images.json, before a registry is asked for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from builder.content.store import ContentStore
from builder.images.store import ImageStore
from builder.oci.descriptor import Descriptor
from builder.oci.reference import Reference
from builder.state.database import Database
from builder.state.layout import Layout
from builder.state.schema import BLOB_SOURCES, COUNTS, IMAGES, RESOLUTIONS
from tests.support.rows import garble

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
DAMAGED = ["", "[]", '{"images": 7, "sources": []}', *(f'{{"images": [{x}], "sources": []}}' for x in ('["a"]', "[1,2,3,4,5,6,7]"))]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(str(tmp_path / "root"))
    layout.create()
    return layout


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def database(layout: Layout, told: list[str]) -> Database:
    return Database(layout.database, warn=told.append)


@pytest.fixture
def images(layout: Layout, database: Database) -> ImageStore:
    """Two names, of two images."""
    content = ContentStore(layout)
    store = ImageStore(database, content)
    for name in ("app", "other"):
        store.put(ref(name), image(content, name))
    return store


def image(content: ContentStore, text: str) -> Descriptor:
    config = content.put(json.dumps({"created": "2026-01-01T00:00:00Z", "author": text}).encode())
    document = {"schemaVersion": 2, "config": {"mediaType": CONFIG, "digest": config, "size": 2}, "layers": []}
    data = json.dumps(document).encode()
    return Descriptor(MANIFEST, content.put(data), len(data))


def ref(name: str) -> Reference:
    return Reference.parse(name)


def again(layout: Layout) -> ImageStore:
    """As another process has it."""
    return ImageStore(Database(layout.database, warn=lambda _: None), ContentStore(layout))


@pytest.mark.parametrize("column", IMAGES.columns)
def test_a_damaged_name_is_read_from_the_other_place(
    images: ImageStore, database: Database, layout: Layout, column: str
) -> None:
    before = images.list()
    garble(database, IMAGES, {"name": "docker.io/library/app:latest"}, **{column: "x"})
    assert again(layout).get(ref("app")) == before[1]
    assert again(layout).list() == before


@pytest.mark.parametrize("sql", ["DELETE FROM images", "DELETE FROM images WHERE name LIKE '%app%'", "DELETE FROM counts"])
def test_names_that_are_gone_without_a_trace_are_missed(images: ImageStore, database: Database, layout: Layout, sql: str) -> None:
    before = images.list()
    with database.transaction() as c:
        c.execute(sql)
    assert again(layout).get(ref("app")) is not None
    assert again(layout).list() == before
    assert database.select(COUNTS) == [("images", 2)]


def test_a_name_that_was_taken_away_does_not_come_back(images: ImageStore, database: Database, layout: Layout) -> None:
    assert images.remove(ref("app"))
    garble(database, IMAGES, {}, digest="x")
    store = again(layout)
    assert store.get(ref("app")) is None
    assert store.get(ref("other")) is not None


def test_another_name_does_not_write_down_that_one_is_lost(images: ImageStore, database: Database, layout: Layout) -> None:
    garble(database, IMAGES, {"name": "docker.io/library/app:latest"}, digest="x")
    store = again(layout)
    store.put(ref("third"), image(ContentStore(layout), "third"))
    assert {str(i.ref.repository) for i in store.list()} == {"library/app", "library/other", "library/third"}


def test_a_name_whose_blobs_are_gone_is_not_named_again(images: ImageStore, database: Database, layout: Layout) -> None:
    target = images.list()[1].target
    ContentStore(layout).delete(target.digest)
    garble(database, IMAGES, {"name": "docker.io/library/app:latest"}, size="x")
    store = again(layout)
    assert store.get(ref("app")) is None
    assert len(store.list()) == 1


@pytest.mark.parametrize("text", DAMAGED)
def test_a_list_that_is_damaged_too_is_no_error(images: ImageStore, database: Database, layout: Layout, text: str) -> None:
    garble(database, IMAGES, {"name": "docker.io/library/app:latest"}, size="x")
    Path(layout.path("images.json")).write_text(text)
    store = again(layout)
    assert store.get(ref("app")) is None
    assert [str(i.ref.repository) for i in store.list()] == ["library/other"]
    assert store.get(ref("app")) is None


def test_what_gc_must_keep_is_not_known_while_names_are_missing(
    images: ImageStore, database: Database, layout: Layout
) -> None:
    with database.transaction() as c:
        c.execute("DELETE FROM images WHERE name LIKE '%app%'")
    other = Database(layout.database, warn=lambda _: None)
    ImageStore(other, ContentStore(layout)).gc_roots()
    assert other.is_suspect


def test_what_a_registry_said_is_asked_again_when_it_is_damaged(images: ImageStore, database: Database, layout: Layout) -> None:
    target = images.list()[0].target
    images.remember(ref("base"), target)
    images.add_sources([target.digest], ref("base"))
    assert images.recall(ref("base")) == target
    garble(database, RESOLUTIONS, {}, size=target.size + 1)
    garble(database, BLOB_SOURCES, {}, repository="docker.io/library/elsewhere")
    assert again(layout).recall(ref("base")) is None
    assert again(layout).sources(target.digest) == ()


def test_a_sound_store_tells_nothing(images: ImageStore, told: list[str], layout: Layout) -> None:
    assert images.get(ref("nothing")) is None
    before = os.stat(layout.path("images.json")).st_mtime_ns
    assert len(images.list()) == 2
    assert not told
    assert os.stat(layout.path("images.json")).st_mtime_ns == before
