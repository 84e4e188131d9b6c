"""The installed command in a project whose own packages are called as ours are."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.support.cli import DEADLINE, REPOSITORY, Pybuild

pytestmark = pytest.mark.integration

NAMES = ("builder", "frontend", "runtime", "tests")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What is built: its packages must not even be imported."""
    folder = tmp_path / "project"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('the package of the project was imported')\n")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment where an installer has put pybuild: its command, and the repository on the path as site-packages is."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=DEADLINE)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "here.pth").write_text(f"{REPOSITORY}\n{sysconfig.get_paths()['purelib']}\n")
    with open(f"{REPOSITORY}/pyproject.toml", "rb") as f:
        module, _, function = tomllib.load(f)["project"]["scripts"]["pybuild"].partition(":")
    script = folder / "bin" / "pybuild"
    script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    script.chmod(0o755)
    return folder


def run(pybuild: Pybuild, *command: object, cwd: Path, path: Path | None, out: Path) -> None:
    env = pybuild.environment({"PYTHONPATH": None if path is None else str(path)})
    args = [*map(str, command), "-o", f"type=local,dest={out}", "."]
    done = subprocess.run(args, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, text=True)
    assert done.returncode == 0, done.stderr
    assert os.listdir(out) == ["Dockerfile"]


def test_the_command_works_where_python_path_leads_to_such_packages(
    pybuild: Pybuild, installed: Path, project: Path, tmp_path: Path
) -> None:
    run(pybuild, installed / "bin" / "pybuild", cwd=project, path=project, out=tmp_path / "out")


def test_the_module_works_where_the_working_folder_has_such_packages(
    pybuild: Pybuild, installed: Path, project: Path, tmp_path: Path
) -> None:
    run(pybuild, installed / "bin" / "python", "-m", "pybuild_main", cwd=project, path=None, out=tmp_path / "out")


def test_the_package_as_a_program_takes_its_siblings_from_beside_itself(
    pybuild: Pybuild, installed: Path, project: Path, tmp_path: Path
) -> None:
    (project / "builder" / "__init__.py").unlink()
    (project / "builder").rmdir()
    run(pybuild, installed / "bin" / "python", "-m", "builder", cwd=project, path=None, out=tmp_path / "out")


def test_the_standard_library_stays_before_what_is_installed(pybuild: Pybuild, installed: Path, tmp_path: Path) -> None:
    code = "import sys, pybuild_main as p; before = list(sys.path); p.own_packages(); print(sys.path == before)"
    env = pybuild.environment({"PYTHONPATH": None})
    done = subprocess.run([installed / "bin" / "python", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("way", ["path", "cwd"])
def test_the_helper_of_sandboxes_is_of_this_package(installed: Path, project: Path, pybuild: Pybuild, way: str) -> None:
    """Started by callers that have threads already, as a program of its own (runtime.zygote)."""
    code = (
        f"import os, sys; sys.path[0] = {REPOSITORY!r}; from runtime import zygote; helper = zygote._launch(); "
        "helper._channel.close(); print(os.waitstatus_to_exitcode(os.waitpid(helper.pid, 0)[1]))"
    )
    env = pybuild.environment({"PYTHONPATH": str(project) if way == "path" else None})
    done = subprocess.run([installed / "bin" / "python", "-c", code], cwd=project, env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
