"""Flags: spelled and understood as in docker buildx build."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.cli import request as r
from builder.cli.secrets import secret_provider
from builder.errors import UsageError
from builder.graph.ops import Ulimit


def test_build_args_take_a_missing_value_from_the_environment() -> None:
    assert r.parse_build_args(["A=1", "B", "C", "D="], {"B": "2"}) == {"A": "1", "B": "2", "D": ""}


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("id=a,src=f", r.SecretSpec("a", "f")),
        ("id=a,source=f", r.SecretSpec("a", "f")),
        ("id=a,env=V", r.SecretSpec("a", env="V")),
        ("type=env,id=a,src=V", r.SecretSpec("a", env="V")),
        ("id=a", r.SecretSpec("a")),
        ("src=f", r.SecretSpec("f", "f")),
    ],
)
def test_secrets_name_a_file_or_a_variable(text: str, spec: r.SecretSpec) -> None:
    assert r.parse_secret(text) == spec


@pytest.mark.parametrize(
    ("text", "size"), [("64m", 64 << 20), ("1.5g", 3 << 29), ("134217728", 1 << 27), ("1kb", 1024), ("2GiB", 2 << 30)]
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert r.parse_size(text, "shm-size") == size


@pytest.mark.parametrize(
    ("text", "pair"),
    [("h=1.2.3.4", ("h", "1.2.3.4")), ("h:1.2.3.4", ("h", "1.2.3.4")), ("h=::1", ("h", "::1")), ("h:[::1]", ("h", "::1"))],
)
def test_hosts_are_given_with_an_equals_sign_or_a_colon(text: str, pair: tuple[str, str]) -> None:
    assert r.parse_add_host(text) == pair


def test_a_ulimit_has_a_soft_and_a_hard_limit() -> None:
    assert r.parse_ulimit("nofile=1:2") == Ulimit("nofile", 1, 2)
    assert r.parse_ulimit("nofile=5") == Ulimit("nofile", 5, 5)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (r.parse_ulimit, "nofile"),
        (r.parse_ulimit, "bogus=1"),
        (r.parse_ulimit, "nofile=2:1"),
        (r.parse_ulimit, "nofile=-1:1"),
        (r.parse_add_host, "h"),
        (r.parse_add_host, "h=host-gateway"),
        (r.parse_add_host, "h=x"),
        (r.parse_secret, "id"),
        (r.parse_secret, "bogus=1,id=a"),
        (r.parse_secret, "type=bogus,id=a"),
        (r.parse_secret, ""),
        (r.parse_network, "bridge"),
        (r.parse_tag, "A"),
        (r.parse_tag, "a@sha256:" + "0" * 64),
        (lambda t: r.parse_size(t, "shm-size"), "1x"),
        (lambda t: r.parse_size(t, "shm-size"), ""),
        (lambda t: r.parse_platforms([t]), "bogus"),
        (lambda t: r.parse_allow([t]), "everything"),
        (lambda t: r.parse_pairs([t], "build-context"), "name"),
        (lambda t: r.parse_ssh([t], {}), "default"),
        (lambda t: r.parse_ssh([t], {}), "default=/etc/passwd"),
    ],
)
def test_a_wrong_value_is_a_usage_error(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_an_ssh_agent_is_a_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        assert r.parse_ssh(["default", f"other={path}"], {"SSH_AUTH_SOCK": path}) == {"default": path, "other": path}


def test_a_secret_is_read_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s"
    file.write_bytes(b"old")
    monkeypatch.setenv("V", "from env")
    lookup = secret_provider([r.SecretSpec("a", str(file)), r.SecretSpec("b", env="V")])
    file.write_bytes(b"new")
    assert lookup("a") == b"new"
    assert lookup("b") == b"from env"
    assert lookup("c") is None


def test_a_secret_file_that_is_not_there_is_told_before_the_build() -> None:
    with pytest.raises(UsageError, match="no such file"):
        secret_provider([r.SecretSpec("a", "/nonexistent/secret")])


def test_platforms_are_in_normal_form() -> None:
    asked = ["linux/arm64/v8,linux/x86_64", "linux/armhf", "linux/amd64/v1"]
    assert [str(p) for p in r.parse_platforms(asked)] == ["linux/arm64", "linux/amd64", "linux/arm/v7", "linux/amd64"]


def test_a_platform_that_is_given_twice_is_built_for_twice() -> None:
    assert [str(p) for p in r.parse_platforms(["linux/amd64,linux/arm64", "linux/amd64"])] == [
        "linux/amd64",
        "linux/arm64",
        "linux/amd64",
    ]
