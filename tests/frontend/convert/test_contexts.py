"""Main and named contexts, and SOURCE_DATE_EPOCH that is read from them."""

from __future__ import annotations

import pytest

from builder.graph.ops import NO_INPUT, CopyAction, File, GitSource, HTTPSource, LocalSource, Source
from builder.graph.vertex import Edge, Vertex
from frontend.convert import context_name, oci_layout_ref, remote_context
from frontend.errors import FrontendError

from .conftest import Build, World, render

GIT = "https://example.com/r.git"
HTTP = "http://example.com/src.tar"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("./dir", '1 local() name="base"'),
        ("docker-image://alpine", '1 image() linux/amd64 ref="docker.io/library/alpine:latest@'),
        ("oci-layout:///images:v1", '1 oci-layout() linux/amd64 store="base" ref="sha256:'),
        ("https://example.com/r.git#v1", '1 git() remote="https://example.com/r.git" ref="v1"'),
        ("https://example.com/f.txt", '1 http() url="https://example.com/f.txt" filename="context"'),
        ("docker-image://scratch", "1 file()"),
    ],
)
def test_a_named_context_takes_the_place_of_an_image(build: Build, world: World, value: str, expected: str) -> None:
    world.images["oci"] = world.images["docker.io/library/alpine:latest"]
    text = "FROM scratch\nCOPY <<e /x\ne\nCOPY --from=base /f /\n"
    lines = render(build(text, named_contexts={"base": value}).targets[0].edge)
    if expected.endswith("file()"):
        assert not any("FROM" in line for line in lines)
    else:
        assert any(line.split(" ", 1)[1].startswith(expected.split(" ", 1)[1]) for line in lines)


def test_a_named_context_brings_its_config(build: Build) -> None:
    found = build("FROM nothing-like-this\n", named_contexts={"nothing-like-this": "docker-image://alpine"}).targets[0]
    assert found.config.config.cmd == ("/bin/sh",)
    assert found.base_config is not None


def test_a_named_context_with_the_name_of_a_stage_replaces_it(build: Build, world: World) -> None:
    text = "FROM busybox AS dep\nRUN expensive\nFROM scratch\nCOPY --from=dep /f /\n"
    lines = render(build(text, named_contexts={"dep": "docker-image://alpine"}).targets[0].edge)
    assert not any("expensive" in line for line in lines)
    assert world.asked == ["docker.io/library/alpine:latest"]


@pytest.mark.parametrize("target", ["dep", "app"])
def test_a_folder_that_replaces_a_stage_makes_files_but_no_image(build: Build, target: str) -> None:
    text = "FROM busybox AS dep\nFROM dep AS app\nUSER u\n"
    found = build(text, target=target, named_contexts={"dep": "./dir"}).targets[0]
    assert (found.config.platform.os, found.config.platform.architecture) == ("linux", "")


def test_names_are_compared_as_docker_shows_them(build: Build) -> None:
    target = build("FROM alpine:latest\n", named_contexts={"docker.io/library/alpine": "docker-image://busybox"}).targets[0]
    assert target.config.config.cmd == ("sh",)
    assert context_name("docker.io/library/a:latest") == "a"
    assert context_name("docker.io/library/a:latest::linux/arm64") == "a::linux/arm64"
    assert context_name("[::1]:5000/a") == "[::1]:5000/a"
    assert context_name("[::1]:5000/a::linux/arm64") == "[::1]:5000/a::linux/arm64"


def test_a_context_for_the_platform_goes_first(build: Build) -> None:
    given = {"base": "docker-image://alpine", "base::linux/amd64": "docker-image://busybox"}
    assert build("FROM base\n", named_contexts=given).targets[0].config.config.cmd == ("sh",)


def test_the_ignore_file_of_a_named_folder_is_read(build: Build, world: World) -> None:
    world.ignores = {"src": b"# no\n/tmp/\n!tmp/x\n"}
    lines = render(build("FROM scratch\nCOPY --from=src / /\n", named_contexts={"src": "dir"}).targets[0].edge)
    assert 'exclude=["tmp", "!tmp/x"]' in lines[0]


def test_ignore_patterns_count_for_a_local_main_context_only(build: Build) -> None:
    text = "FROM scratch\nCOPY . /\n"
    assert 'exclude=["a"]' in render(build(text, ignore=("a",)).targets[0].edge)[0]
    assert "exclude" not in render(build(text, ignore=("a",), main_context=GitSource(GIT)).targets[0].edge)[0]


def test_an_archive_as_main_context_is_unpacked(build: Build) -> None:
    lines = render(build("FROM scratch\nCOPY . /\n", main_context=HTTPSource(HTTP, filename="context")).targets[0].edge)
    assert lines[0].startswith(f'1 http() url="{HTTP}"')
    assert 'src="/context" dest="/" attempt_unpack=yes' in lines[2]


@pytest.mark.parametrize("value", ["target:x", "input:y"])
def test_contexts_of_bake_and_other_frontends_are_refused(build: Build, value: str) -> None:
    with pytest.raises(FrontendError, match="unsupported context source"):
        build("FROM base\n", named_contexts={"base": value})


def test_a_context_name_is_an_image_name(build: Build) -> None:
    with pytest.raises(FrontendError, match="invalid context name BAD: invalid reference format"):
        build("FROM scratch\n", named_contexts={"BAD": "x"})


def test_remote_contexts_know_the_switches_of_the_build() -> None:
    assert remote_context("./dir", {}) is None
    assert remote_context(HTTP, {}) == HTTPSource(HTTP, filename="context")
    found = remote_context(f"{GIT}#main:sub", {"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1", "SOURCE_DATE_EPOCH": "context"})
    assert found == GitSource(GIT, "main", "sub", keep_git_dir=True, mtime_commit=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("oci-layout://a/b", ("a/b", "latest")), ("oci-layout://a:t", ("a", "t")), ("oci-layout://a@d", ("a", "d"))],
)
def test_oci_layouts_name_a_folder_and_an_image(value: str, expected: tuple[str, str]) -> None:
    assert oci_layout_ref(value) == expected


def unpacked(archive: Source) -> Edge:
    """As the library makes a context of an archive: unpacked, and a folder of that."""
    unpack = CopyAction(NO_INPUT, 0, 0, "/sent.tar", "/", attempt_unpack=True)
    edge = Edge(Vertex(File((unpack,)), (Edge(Vertex(archive)),)))
    return Edge(Vertex(File((CopyAction(NO_INPUT, 0, 0, "/sub", "/"),)), (edge,)))


ADD_STAGE = "FROM scratch AS when\nARG HOST=example.com\nADD http://$HOST/src.tar /\n"


@pytest.mark.parametrize(
    ("text", "options", "epoch"),
    [
        ("FROM scratch\n", {}, None),
        ("FROM scratch\n", {"epoch": "12"}, 12),
        ("FROM scratch\n", {"epoch": "12", "build_args": {"SOURCE_DATE_EPOCH": "13"}}, 13),
        ("FROM scratch\n", {"epoch": "12", "build_args": {"SOURCE_DATE_EPOCH": ""}}, None),
        ("ARG SOURCE_DATE_EPOCH=14\nFROM scratch\n", {}, 14),
        ("FROM scratch\n", {"epoch": "context"}, None),
        ("FROM scratch\n", {"epoch": "context", "main_context": GitSource(GIT)}, 100),
        ("FROM scratch\n", {"epoch": "context", "main_context": HTTPSource(HTTP)}, 200),
        ("FROM scratch\n", {"epoch": "context", "main_context": LocalSource("context")}, None),
        ("FROM scratch\n", {"epoch": "context", "main_context": unpacked(LocalSource("context"))}, 300),
        ("FROM scratch\n", {"epoch": "context", "main_context": unpacked(HTTPSource(HTTP))}, 200),
        ("FROM scratch\n", {"epoch": "src", "named_contexts": {"src": GIT}}, 100),
        ("FROM scratch\n", {"epoch": "src", "named_contexts": {"src": "./dir"}}, None),
        (ADD_STAGE + "FROM scratch\n", {"epoch": "when"}, 200),
    ],
)
def test_where_the_epoch_comes_from(build: Build, world: World, text: str, options: dict[str, object], epoch: int | None) -> None:
    world.times = {GIT: 100, HTTP: 200, "context:/sent.tar": 300}
    target = build(text, **options).targets[0]
    assert target.epoch == epoch


def test_the_epoch_is_in_history_in_folders_and_in_its_argument(build: Build, world: World) -> None:
    world.times = {GIT: 100}
    text = "FROM scratch\nWORKDIR /a\nARG SOURCE_DATE_EPOCH\n"
    target = build(text, epoch="context", main_context=GitSource(GIT)).targets[0]
    assert "timestamp=100000000000" in render(target.edge)[1]
    assert target.config.history[-1].created_by == "ARG SOURCE_DATE_EPOCH=100"
    assert target.config.history[-1].created == "1970-01-01T00:01:40Z"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM scratch\n", "invalid SOURCE_DATE_EPOCH: when"),
        ("FROM busybox AS when\nFROM scratch\n", "SOURCE_DATE_EPOCH stage must use FROM scratch"),
        ("FROM scratch AS when\nFROM scratch\n", "must contain exactly one remote ADD"),
        ("FROM scratch AS when\nRUN x\nFROM scratch\n", "unsupported RUN instruction"),
        ("FROM scratch AS when\nADD a /\nFROM scratch\n", "must be a single HTTP(S) or Git ADD"),
        ("FROM scratch AS when\nADD a b /\nFROM scratch\n", "exactly one remote ADD source"),
    ],
)
def test_stages_that_tell_no_epoch(build: Build, text: str, message: str) -> None:
    with pytest.raises(FrontendError) as caught:
        build(text, epoch="when")
    assert message in str(caught.value)
