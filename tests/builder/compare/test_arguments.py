"""A build in each builder's own flags."""

from __future__ import annotations

from typing import Any

import pytest

from builder.compare import BuildSpec, CompareError, arguments

FULL = BuildSpec(
    context="ctx",
    file="f/Other",
    target="t",
    platform="linux/arm64",
    network="none",
    build_args=("A=1", "B"),
    build_contexts=("lib=../lib", "img=docker-image://x"),
    labels=("l=v",),
    add_hosts=("h=1.2.3.4",),
    ulimits=("nofile=1:2",),
    secrets=("id=s,src=f",),
    ssh=("default",),
    allow=("network.host",),
    shm_size="64m",
    cgroup_parent="/c",
    pull=True,
)
SHARED = [
    "--file=f/Other",
    "--target=t",
    "--platform=linux/arm64",
    "--build-arg=A=1",
    "--build-arg=B",
    "--build-context=lib=../lib",
    "--build-context=img=docker-image://x",
    "--label=l=v",
    "--ulimit=nofile=1:2",
    "--secret=id=s,src=f",
    "--ssh=default",
    "--shm-size=64m",
    "--cgroup-parent=/c",
    "--pull",
]


def test_pybuild_gets_every_flag_as_it_was_given() -> None:
    given = [*SHARED, "--no-cache", "--add-host=h=1.2.3.4", "--allow=network.host", "--network=none", "--tag=n", "ctx"]
    assert arguments.pybuild(FULL, "n", no_cache=True) == given


@pytest.mark.parametrize("form", [arguments.docker, arguments.buildah])
def test_docker_and_buildah_know_the_colon_of_add_host_and_no_entitlements(form: Any) -> None:
    assert form(FULL, "n", no_cache=False) == [*SHARED, "--add-host=h:1.2.3.4", "--network=none", "--tag=n", "ctx"]


def test_the_network_is_the_hosts_unless_told_otherwise() -> None:
    assert "--network=host" in arguments.docker(BuildSpec(context="."), "n", no_cache=False)
    assert not any(a.startswith("--network") for a in arguments.pybuild(BuildSpec(context="."), "n", no_cache=False))


def test_the_dockerfile_is_always_named() -> None:
    assert arguments.dockerfile(BuildSpec(context="ctx")) == "ctx/Dockerfile"
    assert arguments.dockerfile(BuildSpec(context="https://example.com/x.git")) == "Dockerfile"
    assert arguments.dockerfile(BuildSpec(context="git@example.com:x.git", file="a/D")) == "a/D"


def test_buildctl_gets_frontend_options() -> None:
    assert arguments.buildctl(FULL, "o.tar", {"B": "2"}, no_cache=True) == [
        "--frontend=dockerfile.v0",
        "--output=type=oci,dest=o.tar",
        "--local=context=ctx",
        "--local=dockerfile=f",
        "--local=lib=../lib",
        "--opt=target=t",
        "--opt=platform=linux/arm64",
        "--opt=force-network-mode=none",
        "--opt=filename=Other",
        "--opt=build-arg:A=1",
        "--opt=build-arg:B=2",
        "--opt=label:l=v",
        "--opt=context:lib=local:lib",
        "--opt=context:img=docker-image://x",
        "--opt=add-hosts=h=1.2.3.4",
        "--opt=ulimit=nofile=1:2",
        "--opt=shm-size=64m",
        "--opt=cgroup-parent=/c",
        "--opt=image-resolve-mode=pull",
        "--secret=id=s,src=f",
        "--ssh=default",
        "--allow=network.host",
        "--no-cache",
    ]


def test_buildctl_keeps_empty_build_args_and_drops_those_without_a_value() -> None:
    flags = arguments.buildctl(BuildSpec(context=".", build_args=("A=", "B")), "o", {}, no_cache=False)
    assert "--opt=build-arg:A=" in flags
    assert not any("build-arg:B" in f for f in flags)


def test_buildctl_builds_remote_contexts_by_url() -> None:
    flags = arguments.buildctl(BuildSpec(context="https://example.com/x.git"), "o", {}, no_cache=False)
    assert "--opt=context=https://example.com/x.git" in flags
    with pytest.raises(CompareError, match="can't name a file here"):
        arguments.buildctl(BuildSpec(context="https://example.com/x.git", file=__file__), "o", {}, no_cache=False)
