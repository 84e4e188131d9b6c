"""Images are what other tools take them for: skopeo, umoci, docker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bases import run_tool
from tests.support.cli import Pybuild
from tests.support.processes import Dockerd, Registry

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("dockerd")]

Context = Callable[[dict[str, str | bytes]], str]

DOCKERFILE = """FROM {base}
RUN rm /etc/motd && mkdir -p /srv/deep && ln -s deep /srv/link && echo served > /srv/deep/file && chown -R app /srv/deep
COPY --chmod=4755 tool /usr/bin/tool
ENV ANSWER=42
LABEL who=pybuild
USER app
WORKDIR /srv/link
CMD ["/bin/sh", "-c", "cat file && test ! -e /etc/motd && /usr/bin/tool && id -u"]
"""
SAYS = "served\ntool 42\n1000\n"


@pytest.fixture
def app(pybuild: Pybuild, context: Context, busybox: str) -> str:
    """A build context."""
    return context({"Dockerfile": DOCKERFILE.format(base=busybox), "tool": "#!/bin/sh\necho tool $ANSWER\n"})


def test_skopeo_inspects_and_copies(pybuild: Pybuild, app: str, tmp_path: Path, registry: Registry) -> None:
    pybuild.ok("-t", "app:1", "-o", f"type=oci,dest={tmp_path}/i.tar", app)
    seen = json.loads(run_tool("skopeo", "inspect", f"oci-archive:{tmp_path}/i.tar"))
    assert seen["Labels"] == {"who": "pybuild"}
    assert "ANSWER=42" in seen["Env"]
    target = f"docker://{registry.host}/copied:1"
    run_tool("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci-archive:{tmp_path}/i.tar", target)
    assert json.loads(run_tool("skopeo", "inspect", "--tls-verify=false", target))["Digest"] == seen["Digest"]
    run_tool("skopeo", "--insecure-policy", "copy", f"oci-archive:{tmp_path}/i.tar", f"dir:{tmp_path}/dir")


def test_umoci_unpacks(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    pybuild.ok("-t", "app:1", "-o", f"type=oci,tar=false,dest={tmp_path}/layout", app)
    assert "1" in run_tool("umoci", "ls", "--layout", str(tmp_path / "layout")).split()
    run_tool("umoci", "unpack", "--image", f"{tmp_path}/layout:1", str(tmp_path / "bundle"))
    rootfs = tmp_path / "bundle/rootfs"
    assert (rootfs / "srv/link/file").read_text() == "served\n"
    assert (rootfs / "srv/deep/file").stat().st_uid == 1000
    assert (rootfs / "usr/bin/tool").stat().st_mode & 0o7777 == 0o4755
    assert not (rootfs / "etc/motd").exists()
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    assert config["process"]["user"]["uid"] == 1000
    assert config["process"]["cwd"] == "/srv/link"


def test_docker_loads_and_runs_a_docker_archive(pybuild: Pybuild, app: str, tmp_path: Path, dockerd: Dockerd) -> None:
    pybuild.ok("-t", "app:docker", "-o", f"type=docker,dest={tmp_path}/i.tar", app)
    assert b"app:docker" in dockerd.docker("load", "-i", str(tmp_path / "i.tar")).stdout
    assert dockerd.docker("run", "--rm", "--network", "none", "app:docker").stdout.decode() == SAYS


def test_docker_runs_what_save_wrote(pybuild: Pybuild, app: str, tmp_path: Path, dockerd: Dockerd) -> None:
    pybuild.ok("-t", "app:saved", app)
    pybuild.ok("save", "-o", str(tmp_path / "i.tar"), "app:saved")
    dockerd.docker("load", "-i", str(tmp_path / "i.tar"))
    assert dockerd.docker("run", "--rm", "--network", "host", "app:saved").stdout.decode() == SAYS


def test_docker_archive_goes_to_standard_output(pybuild: Pybuild, context: Context, dockerd: Dockerd) -> None:
    import subprocess

    folder = context({"Dockerfile": 'FROM scratch\nCOPY Dockerfile /\nCMD ["/none"]\n'})
    done = subprocess.run(
        pybuild.command("-t", "piped", "-o", "type=docker", folder),
        env=pybuild.environment(),
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert b"piped:latest" in dockerd.docker("load", input=done.stdout).stdout


def test_skopeo_reads_the_docker_archive(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    pybuild.ok("-t", "app:1", "-o", f"type=docker,dest={tmp_path}/i.tar", app)
    seen = json.loads(run_tool("skopeo", "inspect", f"docker-archive:{tmp_path}/i.tar"))
    assert seen["RepoTags"] == ["docker.io/library/app:1"] or seen["Labels"] == {"who": "pybuild"}
