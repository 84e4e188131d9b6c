"""Flags and defaults that scripts for docker bring along: taken, warned about or refused by name, never broken by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from builder.build.request import BuildRequest
from builder.cli.build_command import ALL_OPTIONS, add_options, build_request
from builder.cli.docker_flags import default_platforms, docker_options, proxy_args
from builder.cli.goflags import FlagCommand
from builder.errors import UnsupportedError
from builder.oci.platform import Platform
from builder.sources.pull import NEWER, PullPolicy


@click.command("build", cls=FlagCommand)
@add_options(ALL_OPTIONS)
@docker_options
@click.argument("context")
def command(context: str, **flags: Any) -> BuildRequest:
    return build_request(context, flags)


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("DOCKER_DEFAULT_PLATFORM", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)


def request(*args: str) -> BuildRequest:
    found = command.main([*args, "."], standalone_mode=False)
    assert isinstance(found, BuildRequest)
    return found


PLAIN = ("--rm", "--rm=true", "--rm=false", "--force-rm", "--compress", "--squash=false", "--check=false", "-q=false")
OFF = ("--provenance=false", "--sbom=0", "--attest=type=provenance,disabled=true", "--attest=type=sbom,disabled=1")
SAME = ("--pull=false", "--no-cache=false", "--push=false", "--load=false", "--builder=default", "--builder=")


@pytest.mark.parametrize("flag", [*PLAIN, *OFF, *SAME])
def test_a_flag_that_asks_for_what_is_so_anyway_changes_nothing(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert request(flag) == request()
    assert capsys.readouterr().err == ""


def test_switches_are_obeyed_in_every_spelling() -> None:
    assert request("--pull=true").pull is request("--pull").pull is request("--pull=always").pull is True
    assert request("--pull=missing").pull is request("--pull", "--pull=false").pull is False
    assert request("--pull=newer").pull == NEWER
    assert request("--pull=36h").pull == PullPolicy(36 * 3600)
    assert request("--no-cache=T").no_cache == "all"
    assert request("--push=1").outputs[0].get("push") == "true"
    assert request("--push", "--push=false") == request()


@pytest.mark.parametrize("flags", [("--isolation", "default"), ("--security-opt=seccomp=x", "--security-opt=y"), ("--squash",)])
def test_a_flag_without_effect_is_warned_about_once(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert request(*flags) == request()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert flags[0].partition("=")[0] in err


@pytest.mark.parametrize(
    ("flags", "cause"),
    [
        (["--memory", "1g"], "--memory is not supported"),
        (["-m=1g"], "--memory is not supported"),
        (["-c", "2"], "--cpu-shares is not supported"),
        (["--resource", "memory=1g"], "--resource is not supported"),
        (["--cpuset-cpus=0"], "--cpuset-cpus is not supported"),
        (["--builder", "other"], "--builder=other is not supported"),
        (["--policy", "x"], "--policy is not supported"),
        (["--attest", "type=sbom"], "--attest type=sbom is not supported"),
        (["--provenance", "mode=max"], "--attest type=provenance is not supported"),
        (["--sbom=true"], "--attest type=sbom is not supported"),
        (["--attest=type=sbom", "--sbom=false"], "--attest type=sbom is not supported"),
    ],
)
def test_a_flag_that_would_have_to_change_something_is_refused_by_name(flags: list[str], cause: str) -> None:
    with pytest.raises(UnsupportedError, match=cause):
        request(*flags)


def test_of_two_words_on_one_attestation_the_first_counts() -> None:
    assert request("--attest=type=sbom,disabled=true", "--sbom=true") == request()


def test_the_platform_of_the_environment_is_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    assert request().platforms == (Platform.parse("linux/arm64"),)
    assert request("--platform=linux/amd64").platforms == (Platform.parse("linux/amd64"),)
    assert default_platforms({"DOCKER_DEFAULT_PLATFORM": ""}) == ()


PROXIES = {
    "default": {"httpProxy": "http://p:1", "httpsProxy": "http://p:2", "noProxy": "a,b", "ftpProxy": "", "allProxy": "x"},
    "tcp://far:1": {"httpProxy": "http://far"},
}


def test_proxies_of_the_client_configuration_are_build_args(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {}, "proxies": PROXIES}))
    assert request("--build-arg=A=1").build_args == {
        "A": "1", "HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://p:2", "NO_PROXY": "a,b",
    }  # fmt: skip
    assert request("--build-arg=http_proxy=mine", "--build-arg=HTTPS_PROXY=").build_args == {
        "http_proxy": "mine", "HTTPS_PROXY": "", "NO_PROXY": "a,b",
    }  # fmt: skip
    monkeypatch.setenv("DOCKER_HOST", "tcp://far:1")
    assert request().build_args == {"HTTP_PROXY": "http://far"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"proxies"', True),
        ('{"proxies": 7}', True),
        ('{"x": "proxies"}', False),
        ("[" * 100_000 + '"proxies"', True),
        ('{"proxies": {"default": []}}', False),
        ('"proxies"', False),
    ],
)
def test_a_configuration_that_is_not_understood_has_no_proxies_and_that_is_said(
    tmp_path: Path, text: str, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(text)
    assert proxy_args({"A": "1"}, {"DOCKER_CONFIG": str(tmp_path)}) == {"A": "1"}
    assert ("are not used" in capsys.readouterr().err) == said


def test_odd_values_of_proxies_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"proxies": {"default": {"httpProxy": 7, "noProxy": null, "httpsProxy": "s"}}}')
    assert proxy_args({}, {"DOCKER_CONFIG": str(tmp_path)}) == {"HTTPS_PROXY": "s"}
