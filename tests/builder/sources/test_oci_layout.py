"""OCI layouts on disk as images."""

from __future__ import annotations

import json
import os

import pytest

from builder.errors import IntegrityError, NotFoundError, PybuildError
from builder.graph.ops import OCILayoutSource
from builder.graph.vertex import Vertex
from builder.oci.digest import Digest
from builder.oci.platform import host
from builder.ops.source import SourceOp
from builder.session import Session
from builder.solver.types import OpContext
from builder.sources.oci_layout import resolve_config
from builder.worker import Worker
from tests.builder.sources.conftest import OpenWorker, files
from tests.support.oci import Entry, layer_tar, write_layout


@pytest.fixture
def layout(tmp_path: object) -> str:
    layers = [layer_tar([Entry("a", b"lower")]), layer_tar([Entry("b", b"upper")])]
    return write_layout(f"{tmp_path}/layout", layers, {"Env": ["A=b"]}, tag="v1")


def digest_of(layout: str) -> str:
    with open(f"{layout}/index.json") as file:
        return str(json.load(file)["manifests"][0]["digest"])


def test_an_image_is_found_by_tag_or_digest(worker: Worker, layout: str) -> None:
    by_tag = resolve_config(worker, layout, "v1", host())
    by_digest = resolve_config(worker, layout, digest_of(layout), host())
    assert by_tag.ref == by_digest.ref == f"{layout}@{digest_of(layout)}"
    assert json.loads(by_tag.config)["config"] == {"Env": ["A=b"]}


def test_latest_is_the_only_image_where_there_is_one(worker: Worker, layout: str) -> None:
    assert resolve_config(worker, layout, "latest", host()).target.digest == digest_of(layout)


def test_a_tag_that_is_not_there_is_not_found_and_the_others_are_named(worker: Worker, layout: str) -> None:
    with pytest.raises(NotFoundError, match="tag 'v2': not found") as e:
        resolve_config(worker, layout, "v2", host())
    assert e.value.hint == "it has v1"


def test_a_folder_that_is_no_layout_is_told(worker: Worker, tmp_path: object) -> None:
    for ref in ("latest", "sha256:" + "0" * 64):
        with pytest.raises(NotFoundError):
            resolve_config(worker, str(tmp_path), ref, host())


@pytest.mark.parametrize("data", [b"{}", b"[]", b"\xff", b'{"manifests": [{}]}', b'{"manifests": 7}'])
def test_a_malformed_index_is_one_line(worker: Worker, layout: str, data: bytes) -> None:
    with open(f"{layout}/index.json", "wb") as file:
        file.write(data)
    with pytest.raises(PybuildError) as e:
        resolve_config(worker, layout, "v1", host())
    assert "\n" not in str(e.value)


def test_a_document_with_other_bytes_is_refused(worker: Worker, layout: str) -> None:
    path = f"{layout}/blobs/sha256/{Digest(digest_of(layout)).hex}"
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data.replace(b"schemaVersion", b"schemaversion"))
    with pytest.raises(IntegrityError, match="another digest"):
        resolve_config(worker, layout, "v1", host())


def test_the_op_reads_the_layers_in_place_also_in_a_later_process(open_worker: OpenWorker, layout: str) -> None:
    first = open_worker()
    vertex = Vertex(OCILayoutSource("base", digest_of(layout)), platform=host())
    op = SourceOp(vertex, first, Session(oci_layouts={"base": layout}))
    (ref,) = op.exec(OpContext(vertex), [])
    saved = first.cache.save(ref)
    ref.release()
    assert os.listdir(first.layout.path("content", "sha256")) == []
    loaded = open_worker().cache.load(saved)
    assert loaded is not None
    assert files(loaded) == {"a": "lower", "b": "upper"}
    loaded.release()


def test_a_layout_that_was_not_given_is_not_found(worker: Worker) -> None:
    vertex = Vertex(OCILayoutSource("base", "latest"), platform=host())
    with pytest.raises(NotFoundError, match="no OCI layout named base"):
        SourceOp(vertex, worker, Session()).exec(OpContext(vertex), [])


def test_a_layout_may_consist_of_links_to_its_files(worker: Worker, layout: str, tmp_path: object) -> None:
    """As build systems make them."""
    farm = f"{tmp_path}/farm"
    for folder, _, names in os.walk(layout):
        at = os.path.join(farm, os.path.relpath(folder, layout))
        os.makedirs(at)
        for name in names:
            os.symlink(os.path.join(folder, name), os.path.join(at, name))
    found = resolve_config(worker, farm, "v1", host())
    session = Session(oci_layouts={"x": farm})
    vertex = Vertex(OCILayoutSource("x", found.ref.rpartition("@")[2]), platform=host())
    (ref,) = SourceOp(vertex, worker, session).exec(OpContext(vertex), [])
    assert files(ref) == {"a": "lower", "b": "upper"}
    ref.release()


@pytest.mark.parametrize("which", ["index.json", "manifest"])
def test_a_fifo_in_a_layout_is_refused_and_not_waited_for(worker: Worker, layout: str, which: str) -> None:
    path = f"{layout}/index.json" if which == "index.json" else f"{layout}/blobs/sha256/{Digest(digest_of(layout)).hex}"
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(IntegrityError, match="is not a regular file"):
        resolve_config(worker, layout, "v1", host())
