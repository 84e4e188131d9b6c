"""Flags: spelled and understood as in docker buildx build."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.build import flags as r
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
    [
        ("h=1.2.3.4", ("h", "1.2.3.4")),
        ("h:1.2.3.4", ("h", "1.2.3.4")),
        ("h=::1", ("h", "::1")),
        ("h:[::1]", ("h", "::1")),
        ("H.Example:[1.2.3.4]", ("h.example", "1.2.3.4")),
        ("h=::ffff:1.2.3.4", ("h", "1.2.3.4")),
        ("h=host-gateway", ("h", "127.0.0.1")),
        ("h:host-gateway", ("h", "127.0.0.1")),
    ],
)
def test_hosts_are_given_with_an_equals_sign_or_a_colon(text: str, pair: tuple[str, str]) -> None:
    assert r.parse_add_hosts([text]) == (pair,)


def test_hosts_come_in_lists_and_with_several_addresses() -> None:
    assert r.parse_add_hosts(["a=1.1.1.1,b:2.2.2.2", "c=::3"]) == (("a", "1.1.1.1"), ("b", "2.2.2.2"), ("c", "::3"))
    assert r.parse_add_hosts(['"a=1.1.1.1,[::2]"']) == (("a", "1.1.1.1"), ("a", "::2"))


def test_a_ulimit_has_a_soft_and_a_hard_limit() -> None:
    assert r.parse_ulimits(["nofile=1:2"]) == (Ulimit("nofile", 1, 2),)
    assert r.parse_ulimits(["nofile=5"]) == (Ulimit("nofile", 5, 5),)
    assert r.parse_ulimits(["core=5:-1"]) == (Ulimit("core", 5, -1),)


def test_ulimits_are_sorted_and_the_last_of_two_counts() -> None:
    found = r.parse_ulimits(["nofile=1", "core=0", "nofile=2:3"])
    assert found == (Ulimit("core", 0, 0), Ulimit("nofile", 2, 3))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("type=provenance,disabled=true", ("provenance", False)),
        ("type=provenance,mode=max", ("provenance", True)),
        ("Type=sbom,DISABLED=0", ("sbom", True)),
        ('type=sbom,"generator=a,b"', ("sbom", True)),
    ],
)
def test_an_attestation_is_wanted_or_not(text: str, found: tuple[str, bool]) -> None:
    assert r.parse_attest(text) == found


def test_the_short_forms_of_attestations() -> None:
    assert r.shorthand_attest("sbom", "false") == ("sbom", False)
    assert r.shorthand_attest("provenance", "1") == ("provenance", True)
    assert r.shorthand_attest("provenance", "mode=max") == ("provenance", True)
    assert r.shorthand_attest("provenance", "disabled=true") == ("provenance", False)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((lambda t: r.parse_ulimits([t]), t) for t in ("nofile", "bogus=1", "nofile=2:1", "nofile=-1:1", "nofile=-2", "nofile=")),
        *((lambda t: r.parse_ulimits([t]), t) for t in ("nofile=1:", "nofile=1:2:3", "nofile=1_0", "nofile= 1", "nofile=\u0661")),
        *((lambda t: r.parse_ulimits([t]), t) for t in ("nofile=99999999999999999999",)),
        *((lambda t: r.parse_add_hosts([t]), t) for t in ("h", "h=x", "h=1.1.1.1,2.2.2.2", "h=fe80::1%eth0", "=::1", "h=1.1.1")),
        *((r.parse_attest, t) for t in ("", "provenance", "disabled=true", "type=sbom,disabled=maybe", "type=")),
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
        (lambda t: r.parse_ssh([t], {}), "default=/nonexistent"),
        (lambda t: r.parse_ssh([t], {}), "default=/etc/passwd,"),
        (lambda t: r.parse_ssh([t, t], {}), "default=/etc/passwd"),
    ],
)
def test_a_wrong_value_is_a_usage_error(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_an_ssh_agent_is_a_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        found = r.parse_ssh(["default", f"other={path}"], {"SSH_AUTH_SOCK": path})
        assert found == ({"default": path, "other": path}, {})
        with pytest.raises(UsageError, match="only single socket allowed"):
            r.parse_ssh([f"default={path},{__file__}"], {})


def test_anything_else_for_an_ssh_agent_is_a_key_file() -> None:
    assert r.parse_ssh([f"k={__file__},/etc/passwd"], {}) == ({}, {"k": (__file__, "/etc/passwd")})


def test_platforms_are_in_normal_form() -> None:
    asked = ["linux/arm64/v8,linux/x86_64", "linux/armhf", "linux/amd64/v1"]
    assert [str(p) for p in r.parse_platforms(asked)] == ["linux/arm64", "linux/amd64", "linux/arm/v7", "linux/amd64"]


def test_a_platform_that_is_given_twice_is_built_for_twice() -> None:
    assert [str(p) for p in r.parse_platforms(["linux/amd64,linux/arm64", "linux/amd64"])] == [
        "linux/amd64",
        "linux/arm64",
        "linux/amd64",
    ]
