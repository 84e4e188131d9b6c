"""``make demo``: what its script promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY, Done, Pybuild

pytestmark = pytest.mark.integration


def test_demo_builds_rebuilds_from_cache_and_says_where_the_image_is(pybuild: Pybuild, tmp_path: Path) -> None:
    command = tmp_path / "bin/pybuild"
    command.parent.mkdir()
    # The installed console script where there is one is the same main(); here the interpreter of the tests runs it.
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m builder "$@"\n')
    command.chmod(0o755)
    env = pybuild.environment(
        {"PYBUILD_ROOT": None, "PATH": f"{command.parent}:{os.environ['PATH']}", "DEMO_DIR": str(tmp_path / "demo")}
    )
    done = subprocess.run([f"{REPOSITORY}/examples/demo/run.sh"], env=env, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr

    cold, cached = (part for part in done.stderr.split("load build definition from Dockerfile\n")[1:])
    assert "built 1 time(s)" in cold
    steps = Done((), 0, "", "#1 [internal] load build definition from Dockerfile\n" + cached)
    assert steps.not_cached() == {}
    assert list(steps.instructions().values()).count("CACHED") >= 7
    archive = tmp_path / "demo/demo.tar"
    assert archive.exists()
    assert f"docker load -i {archive}" in done.stdout
    assert "demo" in done.stdout.split("== 4. The image")[1].split("The image is")[0], "`pybuild images` lists it"
