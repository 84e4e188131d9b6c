"""Build arguments: scopes, precedence, and where they show."""

from __future__ import annotations

from typing import Any

import pytest

from builder.oci.platform import Platform

from .conftest import Build, World


def history(build: Build, text: str, **options: Any) -> list[str]:
    return [entry.created_by for entry in build(text, **options).targets[0].config.history]


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("FROM scratch\nARG A\nENV X=$A.", {}, "ENV X=."),
        ("FROM scratch\nARG A=1\nENV X=$A.", {}, "ENV X=1."),
        ("FROM scratch\nARG A=1\nENV X=$A.", {"A": "2"}, "ENV X=2."),
        ("ARG A=g\nFROM scratch\nENV X=$A.", {}, "ENV X=."),
        ("ARG A=g\nFROM scratch\nARG A\nENV X=$A.", {}, "ENV X=g."),
        ("ARG A=g\nFROM scratch\nARG A=s\nENV X=$A.", {}, "ENV X=s."),
        ("ARG A=g\nFROM scratch\nARG A=s\nENV X=$A.", {"A": "b"}, "ENV X=b."),
        ("FROM scratch\nARG A=1\nENV A=2\nENV X=$A.", {"A": "3"}, "ENV X=2."),
        ("FROM scratch\nENV A=2\nARG A=1\nENV X=$A.", {}, "ENV X=1."),
        ("FROM scratch AS a\nARG A=1\nFROM a\nENV X=$A.", {}, "ENV X=1."),
        ("FROM scratch\nARG A=1 B=${A}2\nENV X=$B.", {}, "ENV X=12."),
        ("FROM scratch\nENV A=1\nENV A=2 B=$A\nENV X=$B.", {}, "ENV X=1."),
        ("FROM scratch\nENV X=$HTTP_PROXY.", {"HTTP_PROXY": "p"}, "ENV X=."),
        ("FROM scratch\nARG TARGETARCH\nARG TARGETSTAGE\nENV X=$TARGETARCH-$TARGETSTAGE", {}, "ENV X=amd64-default"),
    ],
)
def test_the_value_that_is_in_force(build: Build, text: str, args: dict[str, str], expected: str) -> None:
    assert history(build, text, build_args=args)[-1] == expected


def test_a_default_that_is_not_used_may_be_wrong(build: Build) -> None:
    assert history(build, "FROM scratch\nARG A=${B?}\n", build_args={"A": "1"}) == ["ARG A=1"]


def test_run_shows_the_arguments_in_scope_with_their_values_of_then(build: Build) -> None:
    text = "FROM busybox AS a\nARG A=1\nARG NONE\nFROM a\nARG B\nENV A=env\nRUN x\n"
    assert history(build, text)[-1] == "RUN |3 A=env NONE= B= /bin/sh -c x # buildkit"


def test_global_arguments_choose_base_images(build: Build) -> None:
    text = "ARG NAME=alpine\nARG TAG=${MORE:-latest}\nFROM ${NAME}:$TAG\n"
    for args, cmd in (({}, "/bin/sh"), ({"NAME": "busybox"}, "sh")):
        assert build(text, build_args=args).targets[0].config.config.cmd == (cmd,)


def test_platform_arguments_follow_the_target(build: Build) -> None:
    arguments = " ".join(f"{name}=$TARGET{name}" for name in ("PLATFORM", "OS", "ARCH", "VARIANT"))
    text = f"FROM scratch\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDARCH\nENV {arguments} B=$BUILDARCH\n"
    found = history(build, text, target_platforms=(Platform("linux", "arm", "v7"),))[-1]
    assert found == "ENV PLATFORM=linux/arm/v7 OS=linux ARCH=arm VARIANT=v7 B=amd64"


@pytest.mark.parametrize(
    ("asked", "platform", "variant"),
    [("linux/arm64/v8", "linux/arm64", ""), ("linux/aarch64", "linux/arm64", ""), ("linux/arm", "linux/arm/v7", "v7")],
)
def test_the_target_platform_is_told_in_normal_form(build: Build, asked: str, platform: str, variant: str) -> None:
    text = "FROM busybox\nARG TARGETPLATFORM TARGETVARIANT\nENV P=$TARGETPLATFORM V=$TARGETVARIANT.\n"
    target = build(text, target_platforms=(Platform.parse(asked),)).targets[0]
    assert target.config.history[-1].created_by == f"ENV P={platform} V={variant}."
    assert str(target.platform) == str(target.config.platform) == platform


def test_a_base_image_of_arm64_v8_makes_an_image_of_arm64(build: Build, world: World) -> None:
    world.add("docker.io/library/arm:latest", "arm64")
    world.images["docker.io/library/arm:latest"]["variant"] = "v8"
    for asked in ((), (Platform("linux", "arm64"),)):
        assert str(build("FROM arm\nENV A=1\n", target_platforms=asked).targets[0].config.platform) == "linux/arm64"


def test_the_solver_knows_one_spelling_of_a_platform_that_from_names(build: Build) -> None:
    text = "FROM --platform={} busybox\nRUN a\nCOPY a b\n"
    spelt = [build(text.format(name)).targets[0].edge for name in ("linux/arm64/v8", "linux/aarch64", "linux/arm64")]
    assert len({edge.vertex.digest for edge in spelt if edge}) == 1


def test_arguments_that_nothing_declares_are_named(build: Build) -> None:
    given = {"USED": "1", "GLOBAL": "1", "TYPO": "1", "http_proxy": "x", "BUILDKIT_INLINE_CACHE": "1", "TARGETARCH": "x"}
    assert build("ARG GLOBAL\nFROM scratch\nARG USED\n", build_args=given).unused_build_args == ("TYPO",)


@pytest.mark.parametrize(
    ("value", "platforms", "expected"), [("", 1, False), ("", 2, True), ("1", 1, True), ("false", 1, False)]
)
def test_an_index_is_wanted_for_several_platforms_or_by_argument(
    build: Build, value: str, platforms: int, expected: bool
) -> None:
    chosen = (Platform("linux", "amd64"), Platform("linux", "arm64"))[:platforms]
    found = build("FROM scratch\n", build_args={"BUILDKIT_MULTI_PLATFORM": value}, target_platforms=chosen)
    assert found.multi_platform is expected
