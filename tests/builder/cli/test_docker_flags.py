"""Flags and defaults that scripts for docker bring along: taken, warned about or refused by name, never broken by."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from builder.build.request import BuildRequest
from builder.cli.build_command import ALL_OPTIONS, add_options, build_request
from builder.cli.docker_flags import default_platforms, docker_options, proxy_args
from builder.cli.goflags import FlagCommand
from builder.errors import UnsupportedError, UsageError
from builder.graph.ops import LinuxResources
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


@pytest.mark.parametrize(
    ("flags", "limits"),
    [
        (["--memory", "1g"], LinuxResources(memory=1 << 30)),
        (["-m=1.5g", "--memory-swap=-1"], LinuxResources(memory=3 << 29, memory_swap=-1)),
        (["-c", "2", "--cpu-period=1000", "--cpu-quota", "50000"], LinuxResources(cpu_shares=2, cpu_period=1000, cpu_quota=50000)),
        (["--cpuset-cpus=0-1,3", "--cpuset-mems", "0"], LinuxResources(cpuset_cpus="0-1,3", cpuset_mems="0")),
        (["--resource", " memory = 64 MiB ", "--resource=memory-swap=64mb"], LinuxResources(memory=1 << 26, memory_swap=1 << 26)),
        (["--resource=memory=7m", "-m", "9m"], LinuxResources(memory=7 << 20)),
        (["--resource=cpu-shares=1", "--resource=cpu-shares=2"], LinuxResources(cpu_shares=2)),
        (["--resource=memory=0", "--resource=cpu-quota=-1", "--resource=cpuset-cpus="], LinuxResources()),
    ],
)  # fmt: skip
def test_resources_in_buildx_words_and_in_dockers_older_ones(flags: list[str], limits: LinuxResources) -> None:
    assert request(*flags).resources == limits


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        ("memory", 'invalid resource "memory", expected key=value'),
        ("disk=1g", 'unknown resource "disk"'),
        ("memory=1x", 'invalid value "1x" for resource memory'),
        ("memory=-1", 'invalid value "-1" for resource memory'),
        ("memory=9999999p", 'invalid value "9999999p" for resource memory'),
        ("memory=1m", "minimum memory limit allowed is 6MB"),
        ("memory-swap=1g", "memory-swap needs memory"),
        ("cpu-shares=many", 'invalid value "many" for resource cpu-shares'),
        ("cpu-shares=9223372036854775808", 'invalid value "9223372036854775808" for resource cpu-shares'),
        ("cpu-period=999", "cpu-period can't be less than 1ms"),
        ("cpu-quota=999", "cpu-quota can't be less than 1ms"),
        ("cpuset-cpus=2-1", 'invalid cpuset-cpus value: 2-1: invalid cpuset range "2-1"'),
        ("cpuset-cpus=a", 'invalid cpuset-cpus value: a: invalid cpuset element "a"'),
        ("cpuset-mems=0-999999999", "exceeds maximum 8192"),
    ],
)
def test_a_resource_that_docker_refuses_is_named(entry: str, cause: str) -> None:
    with pytest.raises(UsageError, match=re.escape(cause)):
        request("--resource", entry)


def test_less_swap_than_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="memory-swap: minimum"):
        request("--resource=memory=1g", "--resource=memory-swap=512m")
