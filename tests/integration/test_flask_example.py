"""examples/flask for real: Debian from a registry, packages from Debian and PyPI, and the page over HTTP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.support.bases import run_tool
from tests.support.cli import REPOSITORY, Pybuild

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("flask")]


def test_flask_example_serves_its_page(pybuild: Pybuild, debian: str, tmp_path: Path) -> None:
    example = os.path.join(REPOSITORY, "examples", "flask")
    flags = ("--network", "host", "--build-arg", f"BASE={debian}", "--build-arg", "PIP_INDEX_URL", "-t", "flask-example:1")
    pybuild.ok(*flags, "-o", f"type=oci,dest={tmp_path}/i.tar", example)

    run_tool("skopeo", "--insecure-policy", "copy", f"oci-archive:{tmp_path}/i.tar", f"oci:{tmp_path}/layout:1")
    run_tool("umoci", "unpack", "--image", f"{tmp_path}/layout:1", str(tmp_path / "bundle"))
    page = _page_of_container(tmp_path / "bundle")
    assert page.startswith("Hello from pybuild: uid 1001, Python 3.")

    again = pybuild.ok(*flags, "-o", f"type=oci,dest={tmp_path}/again.tar", example)
    assert len(again.instructions()) >= 9
    assert again.not_cached() == {}
    assert not list((tmp_path / "bundle/rootfs/var/lib/apt/lists").iterdir()), "what a step removed is not in the image"


def _page_of_container(bundle: Path) -> str:
    """Run the image's own command with runc in the host's network, fetch /, and end it by its container name."""
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    # Port 0: the kernel picks a free one and the server says which.
    config["process"]["env"].append("PORT=0")
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
    path.write_text(json.dumps(config))
    name, state = f"flask-{os.getpid()}", str(bundle / "state")
    container = subprocess.Popen(
        ["runc", "--root", state, "run", name],
        cwd=bundle,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    log = []
    try:
        assert container.stderr is not None
        for raw in container.stderr:
            log.append(raw.decode())
            if found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", log[-1]):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(f"http://127.0.0.1:{found.group(1)}/", timeout=30) as answer:
                    return str(answer.read().decode())
        raise AssertionError(f"the application ended: {''.join(log)}")
    finally:
        subprocess.run(["runc", "--root", state, "kill", name, "KILL"], check=False, capture_output=True)
        container.communicate(timeout=30)
        subprocess.run(["runc", "--root", state, "delete", "--force", name], check=False, capture_output=True)
