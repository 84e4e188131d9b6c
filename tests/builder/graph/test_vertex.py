"""Vertices: what their digest depends on, and the printed graph."""

from __future__ import annotations

import json

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


def test_a_deep_graph_does_not_exhaust_the_stack() -> None:
    vertex = BASE
    for i in range(5000):
        vertex = Vertex(Exec((str(i),)), (Edge(vertex),))
        _ = vertex.digest
    assert sum(1 for _ in Graph((Edge(vertex),))) == 5001
