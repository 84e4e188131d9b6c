"""Vertices: what their digest depends on, and the printed graph."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable

import pytest

from builder.graph.ops import CopyAction, Exec, File, ImageSource, LocalSource, MkfileAction
from builder.graph.vertex import Edge, Graph, Vertex, VertexMeta
from builder.oci.platform import Platform
from builder.values import replace

BASE = Vertex(ImageSource("docker.io/library/busybox:latest@sha256:" + "0" * 64), platform=Platform("linux", "amd64"))
RUN = Vertex(Exec(("sh", "-c", "true")), (Edge(BASE),), BASE.platform)


def test_equal_definitions_have_equal_digests() -> None:
    assert Vertex(Exec(("sh", "-c", "true")), (Edge(BASE),), BASE.platform).digest == RUN.digest


def test_names_and_places_are_no_part_of_the_digest() -> None:
    assert replace(RUN, meta=VertexMeta("other", ignore_cache=True)).digest == RUN.digest


def test_proxy_variables_are_no_part_of_the_digest_but_are_printed() -> None:
    proxied = replace(RUN, op=Exec(("sh", "-c", "true"), proxy_env=("http_proxy=http://p",)))
    assert proxied.digest == RUN.digest
    assert "http_proxy=http://p" in Graph((Edge(proxied),)).to_json()


def test_op_inputs_index_and_platform_are_part_of_the_digest() -> None:
    others = [
        replace(RUN, op=Exec(("sh", "-c", "false"))),
        replace(RUN, inputs=()),
        replace(RUN, inputs=(Edge(BASE, 1),)),
        replace(RUN, platform=Platform("linux", "arm64")),
    ]
    assert len({v.digest for v in [RUN, *others]}) == len(others) + 1


def test_a_graph_lists_every_vertex_once_inputs_first() -> None:
    context = Vertex(LocalSource("context"))
    copy = Vertex(File((CopyAction(0, 1, 0, "/a", "/b"),)), (Edge(RUN), Edge(context)))
    final = Vertex(File((CopyAction(0, 1, 0, "/c", "/d"),)), (Edge(copy), Edge(context)))
    assert [v.digest for v in Graph((Edge(final), Edge(copy)))] == [v.digest for v in (BASE, RUN, context, copy, final)]


def test_the_json_form_names_vertices_by_digest_and_keeps_bytes() -> None:
    note = Vertex(File((MkfileAction(-1, 0, "/n", b"\xff\x00"),)), meta=VertexMeta("note"))
    doc = json.loads(Graph((Edge(note),)).to_json())
    assert doc["outputs"] == [{"digest": note.digest, "index": 0}]
    (vertex,) = doc["vertices"]
    assert vertex["op"]["actions"][0]["data"] == {"base64": "/wA="}
    assert vertex["meta"]["name"] == "note"


def test_the_dot_form_quotes_names() -> None:
    vertex = replace(RUN, meta=VertexMeta('RUN echo "hi"'))
    assert 'label="RUN echo \\"hi\\""' in Graph((Edge(vertex),)).to_dot()


def deep(depth: int = 3000) -> Vertex:
    """A chain of which nothing was asked yet, so that every question goes all the way down."""
    vertex = BASE
    for i in range(depth):
        vertex = Vertex(Exec((str(i),)), (Edge(vertex),), meta=VertexMeta(str(i)))
    return vertex


@pytest.mark.parametrize(
    "ask",
    [
        lambda v: v.digest,
        hash,
        repr,
        lambda v: v == deep(),
        lambda v: list(Graph((Edge(v),))),
        lambda v: Graph((Edge(v),)).to_json(),
        lambda v: Graph((Edge(v),)).to_dot(),
        lambda v: Edge(v) in {Edge(deep()): 1},
        lambda v: repr(Graph((Edge(v),))),
        lambda v: pickle.loads(pickle.dumps(v)).digest,
        lambda v: copy.deepcopy(v).digest,
    ],
    ids=["digest", "hash", "repr", "equal", "walk", "json", "dot", "edges", "graph-repr", "pickle", "deepcopy"],
)
def test_no_question_to_a_deep_graph_exhausts_the_stack(ask: Callable[[Vertex], object]) -> None:
    assert ask(deep())


def test_the_digest_of_a_vertex_does_not_depend_on_what_was_asked_before() -> None:
    chain = deep(20)
    asked: list[Vertex] = []
    vertex = BASE
    for i in range(20):
        vertex = Vertex(Exec((str(i),)), (Edge(vertex),))
        asked.append(vertex)
        assert vertex.digest
    assert chain.digest == vertex.digest


def test_a_graph_that_was_pickled_shares_what_it_shared() -> None:
    left, right = (Vertex(Exec((name,)), (Edge(RUN),), meta=VertexMeta(name)) for name in ("left", "right"))
    top = Vertex(Exec(("top",)), (Edge(left), Edge(right, 1)), RUN.platform)
    again = pickle.loads(pickle.dumps(top))
    assert again == top
    assert again.inputs[0].vertex.inputs[0].vertex is again.inputs[1].vertex.inputs[0].vertex
    assert again.inputs[0].vertex.meta == left.meta
