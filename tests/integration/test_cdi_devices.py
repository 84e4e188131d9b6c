"""RUN --device: what a machine has registered by CDI, behind --allow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Pybuild, assert_refused

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, str]:
    """The variables that name a configuration whose one folder registers /dev/full as /dev/brim."""
    node = {"path": "/dev/brim", "hostPath": "/dev/full"}
    mounts = [{"hostPath": str(tmp_path / "lib"), "containerPath": "/vendor/lib", "options": ["ro", "bind"]}]
    entry = {"name": "one", "containerEdits": {"deviceNodes": [node], "env": ["BRIM=yes"], "mounts": mounts}}
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "driver").write_text("driver\n")
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "v.json").write_text(json.dumps({"cdiVersion": "0.6.0", "kind": "v.com/full", "devices": [entry]}))
    (tmp_path / "config.toml").write_text(f'[cdi]\nspecDirs = ["{tmp_path}/cdi"]\n')
    return {"PYBUILD_CONFIG": f"{tmp_path}/config.toml"}


def dockerfile(busybox: str, flag: str) -> str:
    run = f"RUN --device={flag} test $BRIM = yes && test -c /dev/brim && cat /vendor/lib/driver > /d"
    return f"# syntax=docker/dockerfile:1-labs\nFROM {busybox} AS b\n{run}\nFROM scratch\nCOPY --from=b / /\n"


def test_a_step_has_the_device_and_its_layer_no_trace(
    pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path, config: dict[str, str]
) -> None:
    folder = context({"Dockerfile": dockerfile(busybox, "v.com/full=one")})
    pybuild.ok("--allow", "device=v.com/full=one", "-o", f"type=local,dest={tmp_path}/out", folder, env=config)
    assert (tmp_path / "out" / "d").read_text() == "driver\n"
    assert not (tmp_path / "out" / "vendor").exists()
    assert pybuild.ok("--allow", "device=v.com/full=*", folder, env=config).ending("RUN --device") == "CACHED"


@pytest.mark.parametrize(
    ("flag", "cause"),
    [
        ("v.com/full=one", "device v.com/full=one is requested by the build but not allowed"),
        ("v.com/full=two,required", 'required device "v.com/full=two" is not registered'),
    ],
)
def test_what_can_not_be_had_is_told_before_anything_is_pulled(
    pybuild: Pybuild, context: Context, busybox: str, config: dict[str, str], flag: str, cause: str
) -> None:
    done = pybuild(context({"Dockerfile": dockerfile(busybox, flag)}), env=config)
    assert_refused(done, cause)
    assert "extracting" not in done.err


def test_an_optional_one_that_is_missing_is_no_matter(
    pybuild: Pybuild, context: Context, busybox: str, config: dict[str, str]
) -> None:
    text = f"# syntax=docker/dockerfile:1-labs\nFROM {busybox}\nRUN --device=v.com/full=two test ! -e /dev/brim\n"
    pybuild.ok(context({"Dockerfile": text}), env=config)
