"""ONBUILD: triggers of images and of stages."""

from __future__ import annotations

import pytest

from frontend.errors import FrontendError

from .conftest import Build, World, render


def test_triggers_of_an_image_run_before_the_stage_and_are_gone_after(build: Build, world: World) -> None:
    world.add("docker.io/library/app:latest", OnBuild=["ENV A=1", "COPY . /src"])
    target = build("FROM app\nRUN make\n").targets[0]
    assert target.config.config.onbuild == ()
    assert [entry.created_by for entry in target.config.history[1:]] == [
        "ENV A=1",
        "COPY . /src # buildkit",
        "RUN /bin/sh -c make # buildkit",
    ]
    # BuildKit counts every trigger as a step.
    assert "[2/4] ONBUILD COPY . /src" in "".join(render(target.edge))


def test_triggers_of_a_stage_run_in_the_stages_that_continue_it_but_not_further(build: Build) -> None:
    text = "FROM busybox AS a\nONBUILD ENV T=1\nFROM a AS b\nENV B=1\nFROM b\n"
    history = [entry.created_by for entry in build(text).targets[0].config.history[1:]]
    assert history == ["ENV T=1", "ENV B=1"]


def test_triggers_may_need_stages_and_images_that_nothing_else_needs(build: Build, world: World) -> None:
    world.add("docker.io/library/app:latest", OnBuild=["COPY --from=alpine /f /", "RUN --mount=from=tools,target=/t x"])
    lines = "".join(render(build("FROM busybox AS tools\nRUN tools\nFROM app\n").targets[0].edge))
    assert "FROM docker.io/library/alpine" in lines
    assert "[tools 2/2] RUN tools" in lines
    assert len(world.asked) == 3


def test_heredocs_of_triggers_are_kept(build: Build) -> None:
    text = "FROM busybox AS a\nONBUILD COPY <<E /f\nhello\nE\nFROM a\n"
    assert 'data="hello\\n"' in "".join(render(build(text).targets[0].edge))


def test_a_wrong_trigger_is_told_at_the_from_that_pulls_it(build: Build, world: World) -> None:
    world.add("docker.io/library/app:latest", OnBuild=["NOPE x"])
    with pytest.raises(FrontendError, match="unknown instruction: NOPE") as caught:
        build("\nFROM app\n")
    assert [item.start for item in caught.value.ranges] == [2]
