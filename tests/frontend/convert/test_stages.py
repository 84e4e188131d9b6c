"""Stages: which are needed, what they read, what goes wrong between them."""

from __future__ import annotations

from typing import Any

import pytest

from builder.graph.ops import CDIDevice
from builder.graph.vertex import Graph
from frontend.errors import FrontendError, Range

from .conftest import AMD64, Build, World, render


def failure(build: Build, text: str, **options: Any) -> FrontendError:
    with pytest.raises(FrontendError) as caught:
        build(text, **options)
    return caught.value


def test_images_of_stages_that_the_target_does_not_need_are_never_asked_for(build: Build, world: World) -> None:
    text = "FROM no-such-image AS a\nRUN x\nFROM busybox AS b\nFROM other-missing AS c\nCOPY --from=a / /\n"
    assert build(text, target="b").targets[0].stage == "b"
    assert world.asked == ["docker.io/library/busybox:latest"]


def test_an_image_is_asked_for_once_however_often_it_is_named(build: Build, world: World) -> None:
    build("FROM busybox AS a\nFROM busybox:latest AS b\nCOPY --from=a /x /\nCOPY --from=docker.io/library/busybox /y /\n")
    assert world.asked == ["docker.io/library/busybox:latest"]


def test_several_images_are_asked_for_in_threads(build: Build, world: World) -> None:
    import threading

    together = threading.Barrier(2, timeout=10)
    ask = world.image_config
    world.image_config = lambda *args: (together.wait(), ask(*args))[1]  # type: ignore[method-assign]
    build("FROM busybox AS a\nFROM alpine\nCOPY --from=a / /\n")
    assert sorted(world.asked) == ["docker.io/library/alpine:latest", "docker.io/library/busybox:latest"]


def test_the_last_stage_is_the_target(build: Build) -> None:
    assert build("FROM scratch AS a\nFROM scratch AS b\n").targets[0].stage == "b"


def test_target_and_from_find_stages_in_any_casing(build: Build) -> None:
    text = "FROM busybox AS one\nRUN x\nFROM scratch AS two\nCOPY --from=OnE /f /\nFROM scratch\n"
    assert "RUN x" in "".join(render(build(text, target="TWO").targets[0].edge))


def test_a_stage_is_also_known_by_its_number(build: Build) -> None:
    lines = render(build("FROM busybox\nRUN x\nFROM scratch\nCOPY --from=0 /f /\n").targets[0].edge)
    assert '[stage-0 2/2] RUN x' in lines[1]


@pytest.mark.parametrize(
    ("text", "message", "lines"),
    [
        ("", "the Dockerfile cannot be empty", ()),
        ("ARG A=1\n", "dockerfile contains no stages to build", ()),
        ("ARG E=\nFROM $E\n", "base name ($E) should not be blank", (2,)),
        ("FROM Not_Valid/UPPER\n", 'failed to parse stage name "Not_Valid/UPPER": invalid reference format', (1,)),
        ("FROM scratch\nCOPY --from=7 / /\n", "invalid stage index 7", (2,)),
        ("FROM scratch\nCOPY --from=$X / /\n", "variable expansion is not supported for --from, ", (2,)),
        ("FROM scratch AS a\nCOPY --from=0 / /\n", "circular dependency detected on stage: a", (2,)),
        (
            "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /\n",
            "circular dependency detected on stage: a",
            (2, 4),
        ),
        (
            "FROM scratch AS a\nCOPY --from=1 / /\nFROM busybox AS b\nFROM scratch\nCOPY --from=a / /\n",
            'cannot copy from stage "1", it needs to be defined before current stage "a"',
            (2,),
        ),
        (
            "FROM busybox AS a\nRUN --mount=from=b,target=/b x\nFROM busybox AS b\nFROM a\n",
            'cannot mount from stage "b" to "/b", stage needs to be defined before current command',
            (2,),
        ),
        ("FROM busybox\nRUN --mount=type=bind,target=/ x\n", 'invalid mount target "/"', (2,)),
        ("FROM busybox\nRUN --mount=type=ssh,source=/x y\n", "ssh does not support source", (2,)),
        ("FROM --platform=$NO busybox\n", "empty platform value from expression $NO", (1,)),
        ("FROM --platform=a/b/c/d busybox\n", "failed to parse platform a/b/c/d: ", (1,)),
        ("FROM scratch\nCOPY https://example.com/x /\n", "source can't be a URL for COPY", (2,)),
        ("FROM scratch\nCOPY git@example.com:a/b.git /\n", "source can't be a git ref for COPY", (2,)),
        ("FROM scratch\nCOPY --chmod=9 a /\n", "invalid chmod parameter: '9'. it should be octal string and between 0 and", (2,)),
        ("FROM scratch\nCOPY --chmod=17777 a /\n", "invalid chmod parameter: '17777'. ", (2,)),
        ("FROM scratch\nADD --checksum=sha256:0 a /\n", "checksum requires HTTP(S) or Git sources", (2,)),
        ("FROM scratch\nADD --checksum=x http://e/a http://e/b /\n", "checksum can't be specified for multiple sources", (2,)),
        ("FROM scratch\nADD --checksum=sha256:0 http://e/a /\n", "invalid checksum digest length", (2,)),
        (
            "FROM scratch\nADD --keep-git-dir=false https://e/a.git?keep-git-dir=true /\n",
            "inconsistent keep-git-dir configuration",
            (2,),
        ),
        ("FROM scratch\nEXPOSE 70000\n", "invalid containerPort: 70000", (2,)),
        ("FROM scratch\nSTOPSIGNAL SIGNOPE\n", "invalid signal: SIGNOPE", (2,)),
        ("FROM scratch\nSTOPSIGNAL 0\n", "invalid signal: 0", (2,)),
        ("FROM scratch\nENV A=${B?}\n", "B: is not allowed to be unset", (2,)),
        ("#syntax=nobody/knows\nFROM scratch\n", "failed to resolve source metadata for docker.io/nobody/knows:latest", (1,)),
    ],
)
def test_mistakes_are_told_with_their_lines(build: Build, text: str, message: str, lines: tuple[int, ...]) -> None:
    error = failure(build, text)
    assert message in str(error)
    assert tuple(r.start for r in error.ranges) == lines


def test_stages_that_read_one_another_need_no_stack(build: Build) -> None:
    """In a row, and in a circle."""
    stages = [f"FROM scratch AS s{i + 1}\nCOPY --from=s{i} / /\n" for i in range(2000)]
    edge = build("FROM busybox AS s0\nRUN x\n" + "".join(stages)).targets[0].edge
    assert edge is not None
    assert sum(1 for _ in Graph((edge,))) == 2002
    continued = "".join(f"FROM s{i} AS s{i + 1}\nENV A=$A.\n" for i in range(2000))
    assert build("FROM scratch AS s0\n" + continued).targets[0].config.config.env[-1] == "A=" + "." * 2000
    error = failure(build, "FROM scratch AS s0\nCOPY --from=2000 / /\n" + "".join(stages))
    assert str(error) == "circular dependency detected on stage: s0"
    assert len(error.ranges) == 2001


def test_a_target_that_is_not_there_is_told_with_the_nearest_name(build: Build) -> None:
    error = failure(build, "FROM scratch AS build\nFROM scratch AS final\n", target="fnal")
    assert str(error) == 'target stage "fnal" could not be found (did you mean final?)'
    assert error.suggestion == "final"


def test_an_image_that_is_not_there_is_told_with_the_nearest_stage_or_common_image(build: Build) -> None:
    error = failure(build, "FROM busybox AS tools\nFROM tool\n")
    cause = "docker.io/library/tool:latest: not found"
    source = "failed to resolve source metadata for docker.io/library/tool:latest"
    assert str(error) == f"tool: {source}: {cause} (did you mean tools?)"
    assert error.ranges == (Range(2, 2),)
    assert "(did you mean alpine?)" in str(failure(build, "FROM alpne\n"))


def test_a_wrong_base_name_is_told_even_where_the_stage_is_not_needed(build: Build) -> None:
    assert "failed to parse stage name" in str(failure(build, "FROM A/B AS a\nFROM scratch\n"))


def test_no_cache_marks_the_steps_of_the_named_stages(build: Build) -> None:
    text = "FROM busybox AS a\nRUN one\nFROM busybox\nRUN two\nCOPY --from=a /x /\n"
    lines = render(build(text, no_cache=frozenset(["A"])).targets[0].edge)
    assert [line.split()[0] for line in lines if line[0].isdigit()] == ["1", "2", "3!", "4"]


def test_an_image_without_layers_is_an_empty_root(build: Build, world: World) -> None:
    world.add("docker.io/library/empty:latest", Env=["A=1"])
    world.images["docker.io/library/empty:latest"].update(rootfs={"type": "layers", "diff_ids": []}, history=[])
    target = build("FROM empty\n").targets[0]
    assert (target.edge, target.config.config.env[0]) == (None, "A=1")


def test_other_frontends_are_looked_up_and_named_but_ours_is_taken(build: Build, world: World) -> None:
    world.add("docker.io/me/front:1")
    assert build("# syntax=me/front:1\nFROM scratch\n").external_frontend == "docker.io/me/front:1"
    assert build("# syntax=docker/dockerfile:1-labs\nFROM scratch\n").external_frontend == ""
    assert build("FROM scratch\n", build_args={"BUILDKIT_SYNTAX": "me/front:1"}).external_frontend == "docker.io/me/front:1"


def test_a_platform_that_was_asked_for_is_that_of_the_result(build: Build, world: World) -> None:
    from builder.oci.platform import Platform

    arm = Platform("linux", "arm64")
    assert build("FROM busybox\n", target_platforms=(arm,)).targets[0].config.platform == arm
    world.add("docker.io/library/armed:latest", architecture="arm64")
    assert build("FROM armed\n").targets[0].config.platform == arm  # none was asked for: the image decides
    assert build("FROM scratch\n").targets[0].config.platform == AMD64


def test_devices_are_optional_unless_required(build: Build) -> None:
    (target,) = build("FROM busybox\nRUN --device=v.com/c=1 --device=gpu,required x\n").targets
    assert target.edge is not None
    assert target.edge.vertex.op.devices == (CDIDevice("v.com/c=1", True), CDIDevice("gpu"))  # type: ignore[union-attr]
