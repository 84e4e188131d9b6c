"""Config and history: what instructions leave there, and what stages and images hand on."""

from __future__ import annotations

import pytest

from builder.oci.image import Healthcheck
from frontend.convert.history import healthcheck_text

from .conftest import PATH, Build, World


@pytest.mark.parametrize(
    ("instruction", "created_by", "layer"),
    [
        ("RUN a  b", "RUN /bin/sh -c a  b # buildkit", True),
        ('RUN ["a", "b c"]', "RUN a b c # buildkit", True),
        ("RUN a \\\n  b", "RUN /bin/sh -c a   b # buildkit", True),
        ("COPY a b /c/", "COPY a b /c/ # buildkit", True),
        ("COPY --chown=a:b --chmod=640 --link a /c", "COPY --chown=a:b --chmod=640 a /c # buildkit", True),
        ("COPY --parents --exclude=x a/./b /c", "COPY --parents a/./b /c # buildkit", True),
        ("ADD http://example.com/f ./", "ADD http://example.com/f ./ # buildkit", True),
        ("WORKDIR /a", "WORKDIR /a", True),
        ("WORKDIR a//b/", "WORKDIR /a/b", True),
        ("WORKDIR /a//../b", "WORKDIR /a//../b", True),
        ("WORKDIR /", "WORKDIR /", False),
        ("ENV A='b c' D=e", "ENV A=b c D=e", False),
        ("LABEL a=b", "LABEL a=b", False),
        ("ARG A B=c", "ARG A B=c", False),
        ("EXPOSE 80/TCP 90-91", "EXPOSE [80/tcp 90/tcp 91/tcp]", False),
        ("CMD a", 'CMD ["/bin/sh" "-c" "a"]', False),
        ("CMD []", "CMD []", False),
        ("ENTRYPOINT ['a']", 'ENTRYPOINT ["/bin/sh" "-c" "[\'a\']"]', False),
        ("HEALTHCHECK NONE", "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}", False),
        ('SHELL ["a", "b"]', "SHELL [a b]", False),
        ("USER a:b", "USER a:b", False),
        ("VOLUME /a /b", "VOLUME [/a /b]", False),
        ("STOPSIGNAL 9", "STOPSIGNAL 9", False),
        ("MAINTAINER me", "MAINTAINER me", False),
    ],
)
def test_history_of_an_instruction(build: Build, instruction: str, created_by: str, layer: bool) -> None:
    entry = build(f"FROM scratch\n{instruction}\n").targets[0].config.history[-1]
    assert (entry.created_by, entry.empty_layer, entry.comment) == (created_by, not layer, "buildkit.dockerfile.v0")


def test_onbuild_leaves_no_history(build: Build) -> None:
    config = build("FROM scratch\nONBUILD RUN x\n").targets[0].config
    assert (config.history, config.config.onbuild) == ((), ("RUN x",))


def test_scratch_has_a_path_and_a_working_directory(build: Build) -> None:
    config = build("FROM scratch\n").targets[0].config.config
    assert (config.env, config.working_dir) == ((PATH,), "/")


def test_a_path_is_added_to_images_without_one(build: Build, world: World) -> None:
    world.add("docker.io/library/bare:latest", Env=["A=1"])
    assert build("FROM bare\n").targets[0].config.config.env == ("A=1", PATH)


def test_the_base_image_hands_on_its_config_and_history_but_not_when_it_was_made(build: Build, world: World) -> None:
    world.add("docker.io/library/full:latest", Env=[PATH, "A=1"], User="u", WorkingDir="/w", Labels={"l": "1"})
    target = build("FROM full\nENV A=2\nLABEL m=2\nCOPY a .\n").targets[0]
    config = target.config.config
    assert (config.env, config.user, config.working_dir) == ((PATH, "A=2"), "u", "/w")
    assert config.labels == (("l", "1"), ("m", "2"))
    assert target.config.created == ""
    assert target.config.history[0].created_by == "base"
    assert target.base_config is not None
    assert target.base_config.config.env == (PATH, "A=1")


@pytest.mark.parametrize(
    ("text", "cmd"),
    [
        ("FROM busybox\nENTRYPOINT x", None),
        ("FROM busybox\nCMD a\nENTRYPOINT x", ("/bin/sh", "-c", "a")),
        ("FROM busybox AS b\nCMD a\nFROM b\nENTRYPOINT x", None),
    ],
)
def test_an_entrypoint_drops_the_cmd_of_the_base_but_not_one_of_its_stage(
    build: Build, text: str, cmd: tuple[str, ...] | None
) -> None:
    assert build(text).targets[0].config.config.cmd == cmd


def test_shell_counts_for_what_follows_also_in_later_stages(build: Build) -> None:
    text = 'FROM busybox AS a\nSHELL ["/bin/ash", "-x"]\nFROM a\nRUN y\n'
    assert build(text).targets[0].config.history[-1].created_by == "RUN /bin/ash -x y # buildkit"


def test_labels_of_the_command_line_win_without_a_line_in_history(build: Build) -> None:
    config = build("FROM scratch\nLABEL a=1\n", labels={"a": "2", "b": "3"}).targets[0].config
    assert config.config.labels == (("a", "2"), ("b", "3"))
    assert len(config.history) == 1


def test_windows_images_have_their_own_shell_and_paths(build: Build) -> None:
    from builder.oci.platform import Platform

    text = "FROM scratch\nWORKDIR C:\\app\nCMD x\n"
    config = build(text, target_platforms=(Platform("windows", "amd64"),)).targets[0].config
    assert config.config.env == ()
    assert config.config.working_dir == "\\app"
    assert config.config.cmd == ("cmd", "/S", "/C", "x")


def test_healthcheck_looks_as_a_go_struct() -> None:
    check = Healthcheck(("CMD", "a", "b"), 1_000_000_000, 0, 0, 0, 3)
    assert healthcheck_text(check) == "{Test:[CMD a b] Interval:1s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}"
