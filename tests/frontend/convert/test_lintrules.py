"""Lint rules that need the conversion, and the results of --call=check|outline|targets."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from builder.text import gojson
from frontend.convert import ConvertOptions
from frontend.errors import FrontendError
from frontend.requests import CheckResult, check, list_targets, outline

from .conftest import AMD64, Build, World


def run_check(world: World, text: str, **options: Any) -> CheckResult:
    return check(text.encode(), ConvertOptions(**{"build_platform": AMD64, **options}), world)


UNDEFINED = "UndefinedVar: Usage of undefined variable"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nCOPY $foo /\n", [f"{UNDEFINED} '$foo' (line 2)"]),
        ("FROM scratch\nARG foo\nCOPY $foo /\n", []),
        ("FROM scratch\nENV HOMES=1\nCOPY $HOME /\n", [f"{UNDEFINED} '$HOME' (did you mean $HOMES?) (line 3)"]),
        ("FROM scratch\nARG A=$B\n", [f"{UNDEFINED} '$B' (line 2)"]),
        ("FROM scratch\nARG A=1 B=$A\n", []),
        ("FROM busybox\nRUN echo $nothing\n", []),
        (
            "ARG TAG=latest\nARG T\nFROM busybox:${TGA:-latest}\n",
            ["UndefinedArgInFrom: FROM argument 'TGA' is not declared (did you mean TAG?) (line 3)"],
        ),
        (
            "FROM --platform=$TARGETPLATFORM busybox\n",
            [
                "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is "
                "the default behavior (line 1)"
            ],
        ),
        (
            "FROM --platform=linux/amd64 busybox\n",
            ['FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64" (line 1)'],
        ),
        ("FROM --platform=linux/amd64 busybox AS for-amd64\n", []),
        (
            "FROM --platform=linux/arm64 busybox AS arm64\n",
            [
                'InvalidBaseImagePlatform: Base image busybox was pulled with platform "linux/amd64", expected '
                '"linux/arm64" for current build (line 1)'
            ],
        ),
        (
            "FROM scratch\nWORKDIR a\nWORKDIR b\n",
            [
                'WorkdirRelativePath: Relative workdir "a" can have unexpected results if the base image changes '
                "(line 2)"
            ],
        ),
        ("FROM scratch\nWORKDIR /a\nWORKDIR b\n", []),
        (
            "FROM scratch\nENV A b\n",
            [
                'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format '
                "(line 2)"
            ],
        ),
        (
            "FROM scratch\nCMD a\n",
            [
                "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS "
                "signals (line 2)"
            ],
        ),
        ('FROM scratch\nSHELL ["x"]\nCMD a\n', []),
        (
            'FROM scratch\nCMD ["a"]\nCMD ["b"]\n',
            [
                "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because "
                "only the last one will be used (line 2)"
            ],
        ),
        ("FROM scratch\nCMD []\nFROM scratch\nCMD []\n", []),
        (
            "FROM scratch\nARG API_KEY\n",
            [
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data "
                '(ARG "API_KEY") (line 2)'
            ],
        ),
        ("FROM scratch\nENV PUBLIC_KEY=1 KEYS=2 TOKEN_FILE=3 MONKEY=4\n", []),
        (
            "FROM scratch\nEXPOSE 80/TCP\n",
            ["ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)"],
        ),
        ("# check=skip=JSONArgsRecommended\nFROM scratch\nCMD a\n", []),
        ("FROM scratch\n# check=skip=JSONArgsRecommended\nCMD a\n", []),
    ],
)
def test_findings(world: World, text: str, expected: list[str]) -> None:
    assert [warning.short() for warning in run_check(world, text).warnings] == expected


@pytest.mark.parametrize("base", ["busybox:$V", "$V", "busybox@$V"])
def test_base_images_are_named_also_without_build_arguments(world: World, base: str) -> None:
    result = run_check(world, f"ARG V\nFROM {base}\n", build_args={"V": "latest"})
    found = f"InvalidDefaultArgInFrom: Default value for ARG {base} results in empty or invalid base image name (line 2)"
    assert result.warnings[0].short() == found


@pytest.mark.parametrize(
    ("patterns", "source", "found"),
    [
        (("tmp",), "tmp/x", True),
        (("tmp",), "x", False),
        (("*",), ".", True),
        (("tmp",), ".", False),
        (("*", "!keep"), "x", False),
    ],
)
def test_sources_that_the_ignore_file_takes_away(world: World, patterns: tuple[str, ...], source: str, found: bool) -> None:
    result = run_check(world, f"FROM scratch\nCOPY {source} /\n", ignore=patterns)
    assert [warning.rule for warning in result.warnings] == (["CopyIgnoredFile"] if found else [])


def test_without_a_target_all_stages_are_checked(world: World) -> None:
    text = "FROM scratch AS a\nCOPY $a /\nFROM scratch AS b\nCOPY $b /\n"
    assert [warning.line for warning in run_check(world, text).warnings] == [2, 4]
    assert [warning.line for warning in run_check(world, text, target="b").warnings] == [4]


def test_findings_are_told_also_when_the_build_fails(build: Build, world: World) -> None:
    told: list[str] = []
    with pytest.raises(FrontendError):
        build("FROM scratch\nCMD a\nSTOPSIGNAL no\n", warn=lambda warning: told.append(warning.rule))
    assert told == ["JSONArgsRecommended"]


def test_findings_can_be_made_errors(build: Build) -> None:
    with pytest.raises(FrontendError, match="lint violation found for rules: JSONArgsRecommended"):
        build("# check=error=true\nFROM scratch\nCMD a\n")


def test_check_prints_as_buildx_does(world: World) -> None:
    result = run_check(world, "FROM scratch\nCMD a\n")
    assert result.status == 1
    assert result.text() == (
        "Check complete, 1 warning has been found!\n"
        "\n"
        "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n"
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
        "Dockerfile:2\n"
        "--------------------\n"
        "   1 |     FROM scratch\n"
        "   2 | >>> CMD a\n"
        "   3 |     \n"
        "--------------------\n"
    )


def test_check_without_findings(world: World) -> None:
    result = run_check(world, "FROM scratch\n")
    assert (result.text(), result.error_text(), result.status) == ("Check complete, no warnings found.\n", "", 0)


def test_check_tells_an_error_beside_the_findings(world: World) -> None:
    result = run_check(world, "FROM scratch\nCMD a\nNOPE\n")
    assert result.text() == ""
    assert result.error_text().startswith("dockerfile parse error on line 3: unknown instruction: NOPE")
    assert ">>> NOPE" in result.error_text()
    document = result.json()
    assert document["warnings"] is None
    assert document["buildError"]["location"] == {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]}


def test_check_as_json(world: World) -> None:
    text = "FROM scratch\nCMD a\n"
    document = json.loads(gojson.text(run_check(world, text).json(), indent=2))
    (warning,) = document["warnings"]
    assert warning["ruleName"] == "JSONArgsRecommended"
    assert warning["location"] == {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}
    assert base64.b64decode(document["sources"][0]["data"]).decode() == text


OUTLINED = """\
# VERSION of the tool
ARG VERSION=1
ARG UNUSED
FROM busybox AS base
ARG DEBUG
RUN --mount=type=secret,id=token,required=true --mount=type=ssh x
# final what is shipped
FROM alpine:${EDITION:-latest} AS final
# FLAVOR how it tastes
ARG FLAVOR=plain
ARG VERSION
COPY --from=base / /
"""


def test_outline_shows_what_the_target_asks_for(world: World) -> None:
    found = outline(OUTLINED.encode(), ConvertOptions(build_platform=AMD64, build_args={"FLAVOR": "hot"}), world)
    assert found.text() == (
        "TARGET:      final\n"
        "DESCRIPTION: what is shipped\n"
        "\n"
        "BUILD ARG   VALUE   DESCRIPTION\n"
        "VERSION     1       of the tool\n"
        "DEBUG               \n"
        "FLAVOR      hot     how it tastes\n"
        "\n"
        "SECRET   REQUIRED\n"
        "token    true\n"
        "\n"
        "SSH       REQUIRED\n"
        "default   \n"
        "\n"
    )
    assert found.json()["args"][0] == {
        "name": "VERSION",
        "description": "of the tool",
        "value": "1",
        "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
    }


@pytest.mark.parametrize(
    ("text", "args"),
    [
        # FROM names a stage by an argument: the outline of that stage is taken over, and this one's own names stay.
        ("ARG F=one\nFROM scratch AS one\nFROM ${F} AS chosen\nFROM scratch\nCOPY --from=chosen / /\n", [("F", "one")]),
        ("ARG F=one\nFROM scratch AS one\nFROM ${F}\n", [("F", "one")]),
        ("ARG F=one\nFROM scratch AS one\nFROM ${F} AS two\nFROM two AS three\nFROM three\n", [("F", "one")]),
        ("ARG P=linux/arm64\nFROM scratch AS one\nFROM --platform=$P one\n", [("P", "linux/arm64")]),
        ("ARG A=one\nARG F=$A\nARG X\nFROM scratch AS one\nFROM ${F:-$X}\n", [("A", "one"), ("F", "one")]),
        # Those of the stage that is continued, of those that are read, and of neither of the others.
        (
            "FROM scratch AS one\nARG A=1\nFROM scratch AS two\nARG B=2\nFROM scratch AS no\nARG C=3\n"
            "FROM one\nARG D=4\nCOPY --from=two / /\n",
            [("A", "1"), ("B", "2"), ("D", "4")],
        ),
        # Of one name the nearer one is told.
        ("ARG A=global\nFROM busybox:$A AS one\nARG A=base\nFROM one\nARG A=own\n", [("A", "own")]),
    ],
)
def test_outline_has_the_arguments_of_from_and_of_all_stages_below(world: World, text: str, args: list[tuple[str, str]]) -> None:
    world.add("docker.io/library/busybox:global")
    found = outline(text.encode(), ConvertOptions(build_platform=AMD64), world)
    assert [(arg.name, arg.value) for arg in found.args] == args


def test_targets_are_the_stages(world: World) -> None:
    found = list_targets(OUTLINED.encode())
    assert found.text() == "TARGET          DESCRIPTION\nbase            \nfinal (default) what is shipped\n"
    assert [target["base"] for target in found.json()["targets"]] == ["busybox", "alpine:${EDITION:-latest}"]
    assert list_targets(b"FROM scratch\n").text() == "TARGET    DESCRIPTION\n(default) \n"
