"""Every cell of the table in docs/environments.md: the image is root's, or the build is refused in the words that stand there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz.builds import ACCOUNT, AsAccount
from tests.integration.test_no_runtime import WithoutRuntimes
from tests.support import containers
from tests.support.cli import REPOSITORY, Done, Pybuild
from tests.support.containers import DOCKER, DOCKER_USER, KUBERNETES, KUBERNETES_USER, RESTRICTED, Container

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="runc makes the containers as root"),
    pytest.mark.xdist_group("matrix"),  # the machine of the containers, and root's image, are made once
]

CONTAINERS = {
    "container of docker, root": DOCKER,
    "the same, /proc not masked": replace(DOCKER, masked=False),
    "Kubernetes without a seccomp profile, root": KUBERNETES,
    "the same, /proc not masked, too": replace(KUBERNETES, masked=False),
    "the same, an ordinary user with one id": replace(KUBERNETES_USER, masked=False),
    "the same, /proc masked": KUBERNETES_USER,
    "container of docker, ordinary user": DOCKER_USER,
    "Kubernetes' restricted standard, ordinary user without capabilities": RESTRICTED,
}
ON_THE_MACHINE = ("root of the machine", "the same, no runtime installed", "account with subordinate ids")
DOCKERFILE = """FROM base
COPY --chown=33:44 Dockerfile /a
RUN id -u > /who && chown 55:66 /who && chmod 4755 /who && mkdir /d && ln -s x /d/l && chown -h 7:8 /d/l && test -c /dev/null
USER app
RUN id > /tmp/who && test -e /proc/self/status
"""
FLAGS = ("--progress=plain", "-o", "type=image,name=app,rewrite-timestamp=true")


def table() -> dict[tuple[str, str], str]:
    """(environment, runtime) -> the cell."""
    with open(f"{REPOSITORY}/docs/environments.md", encoding="utf-8") as file:
        lines = iter(file.read().splitlines())
    head = next(line for line in lines if line.startswith("| environment | native |"))
    runtimes = [cell.strip() for cell in head.strip("|").split("|")][1:]
    next(lines)
    cells: dict[tuple[str, str], str] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *said = (cell.strip() for cell in line.strip("|").split("|"))
        cells |= {(name, runtime): cell for runtime, cell in zip(runtimes, said, strict=True)}
    return cells


CELLS = table()


def test_the_table_has_every_environment_and_every_runtime() -> None:
    assert {name for name, _ in CELLS} == {*CONTAINERS, *ON_THE_MACHINE}
    assert {runtime for _, runtime in CELLS} == {"native", "runc", "crun", "bwrap", "unprivileged"}
    assert all(cell == "yes" or cell.startswith("no: ") for cell in CELLS.values())


@pytest.fixture
def home(busybox_layout: str) -> Iterator[Path]:
    """With a base and a context; not in pytest's own folder, where only root gets to."""
    folder = Path(tempfile.mkdtemp(prefix="home-"))
    shutil.copytree(busybox_layout, folder / "base")
    (folder / "context").mkdir()
    (folder / "context/Dockerfile").write_text(DOCKERFILE)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def give_to(uid: int, home: Path) -> None:
    for folder, _, names in os.walk(home):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, uid, uid)


def in_container(container: Container, machine: str, home: Path, flags: tuple[str, ...]) -> Done:
    give_to(container.uid, home)
    done = containers.pybuild(container, machine, str(home), *flags)
    return Done(flags, done.returncode, done.stdout, done.stderr)


def on_the_machine(name: str, home: Path, flags: tuple[str, ...]) -> Done:
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    if name == "account with subordinate ids":
        give_to(ACCOUNT, home)
        return AsAccount(f"{home}/root")(*flags, env=env)
    kind = WithoutRuntimes if name == "the same, no runtime installed" else Pybuild
    return kind(f"{home}/root")(*flags, env=env)


@pytest.fixture(scope="module")
def roots_digest(busybox_layout: str) -> Callable[[Path], str]:
    known: list[str] = []

    def digest(home: Path) -> str:
        if not known:
            with tempfile.TemporaryDirectory() as folder:
                flags = (f"--build-context=base=oci-layout://{busybox_layout}", "--metadata-file", f"{folder}/metadata")
                Pybuild(f"{folder}/root").ok(*FLAGS, *flags, f"{home}/context", env={"SOURCE_DATE_EPOCH": "1700000000"})
                known.append(json.loads(Path(f"{folder}/metadata").read_text())["containerimage.digest"])
        return known[0]

    return digest


@pytest.mark.parametrize(("environment", "runtime"), CELLS, ids=lambda v: v.replace(" ", "-").replace("'", ""))
def test_a_cell_of_the_table(
    environment: str, runtime: str, machine: str, home: Path, roots_digest: Callable[[Path], str]
) -> None:
    expected = roots_digest(home)
    flags = ("--runtime", runtime, f"--build-context=base=oci-layout://{home}/base", "--metadata-file", f"{home}/metadata")
    flags = (*FLAGS, *flags, f"{home}/context")
    if environment in CONTAINERS:
        done = in_container(CONTAINERS[environment], machine, home, flags)
    else:
        done = on_the_machine(environment, home, flags)
    cell = CELLS[environment, runtime]
    if cell == "yes":
        assert done.code == 0, done.err
        assert json.loads((home / "metadata").read_text())["containerimage.digest"] == expected
    else:
        assert done.code == 1, "the table says no"
        assert cell.removeprefix("no: ") in done.err
        (snapshots,) = (path for path in home.glob("**/snapshots") if path.is_dir())  # the other one is a lock
        made = [name for name in os.listdir(snapshots) if not name.startswith(".")]
        assert made == [], "nothing is unpacked or copied for a step that can't be run"
        assert not [path for path in home.glob("**/ingest/*") if path.is_file()], "nothing was about to come"
