"""What scripts and settings made for docker ask for, in builds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Pybuild, assert_refused

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


def test_flags_in_every_spelling_that_docker_takes(pybuild: Pybuild, context: Context, tmp_path: Path) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    flags = "--rm --force-rm=false --compress --pull=false --no-cache=false --push=false --check=false --builder default"
    flags += " --attest type=provenance,disabled=true --sbom=false -q=true -t=one -t two --load=true"
    done = pybuild.ok(*flags.split(), folder)
    assert done.out.startswith("sha256:")
    assert done.err == ""
    images = pybuild.ok("images").out
    assert "one" in images
    assert "two" in images


def test_the_platform_of_the_environment(pybuild: Pybuild, context: Context, tmp_path: Path) -> None:
    folder = context({"Dockerfile": "FROM scratch\nARG TARGETPLATFORM\nCOPY <<e /p\n$TARGETPLATFORM\ne\n"})
    pybuild.ok("-o", f"type=local,dest={tmp_path}/out", folder, env={"DOCKER_DEFAULT_PLATFORM": "linux/arm64"})
    assert (tmp_path / "out" / "p").read_text() == "linux/arm64\n"


def test_proxies_of_the_client_configuration_reach_steps_and_no_key(
    pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "docker").mkdir()
    config = tmp_path / "docker" / "config.json"
    run = 'RUN echo "$HTTP_PROXY $http_proxy $NO_PROXY" > /p'
    folder = context({"Dockerfile": f"FROM {busybox} AS b\n{run}\nFROM scratch\nCOPY --from=b /p /\n"})

    def build(proxy: str) -> str:
        config.write_text(json.dumps({"proxies": {"default": {"httpProxy": proxy, "noProxy": "n"}}}))
        done = pybuild.ok("-o", f"type=local,dest={tmp_path}/out", folder, env={"DOCKER_CONFIG": str(config.parent)})
        assert "not consumed" not in done.err
        return done.ending("RUN echo")

    assert build("http://one") != "CACHED"
    assert (tmp_path / "out" / "p").read_text() == "http://one http://one n\n"
    assert build("http://two") == "CACHED", "a proxy is no part of what a step does"


def test_hosts_in_lists_and_the_gateway_of_the_host(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": f"FROM {busybox} AS b\nRUN cat /etc/hosts > /h\nFROM scratch\nCOPY --from=b /h /\n"})
    hosts = ["--add-host=a:1.1.1.1,b=2.2.2.2", '--add-host="c=3.3.3.3,[::4]"', "--add-host", "host.docker.internal:host-gateway"]
    pybuild.ok("-o", f"type=local,dest={tmp_path}/out", *hosts, folder)
    lines = [tuple(line.split()) for line in (tmp_path / "out" / "h").read_text().splitlines()]
    for pair in (("1.1.1.1", "a"), ("2.2.2.2", "b"), ("3.3.3.3", "c"), ("::4", "c"), ("127.0.0.1", "host.docker.internal")):
        assert pair in lines


def test_a_key_file_is_an_agent_in_a_step(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && ! test -e {tmp_path}/key\n"})
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    pybuild.ok("--ssh", f"default={tmp_path}/key", folder)
    done = pybuild("--ssh", f"default={folder}/Dockerfile", folder)
    assert_refused(done, f"--ssh default: {folder}/Dockerfile can't be used as a key")


def test_a_ulimit_that_can_not_be_is_told_before_anything_runs(pybuild: Pybuild, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN true\n"})
    done = pybuild("--ulimit", f"nofile={1 << 40}", folder)
    assert_refused(done, f"ulimit nofile: {1 << 40} is over the hard limit of this process")
    assert "#1" not in done.err


def test_limits_of_resources_hold_and_are_no_part_of_the_key(pybuild: Pybuild, context: Context, busybox: str) -> None:
    hungry = "RUN dd if=/dev/zero of=/dev/null bs=64M count=1"
    folder = context({"Dockerfile": f"FROM {busybox}\n{hungry}\n"})
    done = pybuild("--runtime=native", "-m", "16m", "--memory-swap", "16m", folder)
    assert_refused(done, "killed: out of memory, limit 16m")
    assert "--resource memory=16m" in done.err
    assert pybuild.ok("--runtime=native", "--resource", "memory=1g", folder).ending("RUN dd") != "CACHED"
    assert pybuild.ok("--runtime=native", "--resource", "cpu-shares=2", folder).ending("RUN dd") == "CACHED"


def test_a_limit_that_this_machine_can_not_keep_is_told_before_anything_is_pulled(
    pybuild: Pybuild, context: Context, busybox: str
) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN true\n"})
    done = pybuild("--cpuset-cpus=8000", folder)
    assert_refused(done, "--resource cpuset-cpus=8000 can't be had")
    assert "extracting" not in done.err
