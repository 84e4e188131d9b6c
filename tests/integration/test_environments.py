"""Builds where a daemon can't be had: containers and pods in which nothing was relaxed, beside the same build by root."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support import containers
from tests.support.cli import Pybuild
from tests.support.containers import DOCKER, DOCKER_USER, KUBERNETES, KUBERNETES_USER, RESTRICTED, Container

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="runc makes the containers as root"),
]


OUTPUT = ("--output", "type=image,name=app,rewrite-timestamp=true")


@dataclass(frozen=True)
class Place:
    """A container with a home; ``base`` is a busybox, as an OCI layout."""

    container: Container
    root: str
    home: str

    def pybuild(self, *args: str) -> CompletedProcess[str]:
        return containers.pybuild(self.container, self.root, self.home, *args)

    def build(self, dockerfile: str, *args: str, files: dict[str, str] | None = None) -> CompletedProcess[str]:
        """Build from a context of ``files``, as an ordinary user's umask leaves them."""
        context = _context(self.home, dockerfile, files or {}, self.container.uid)
        return self.pybuild("--build-context", f"base=oci-layout://{self.home}/base", *args, context)


def _context(folder: str, dockerfile: str, files: dict[str, str], owner: int) -> str:
    context = tempfile.mkdtemp(prefix="context-", dir=folder)
    os.chmod(context, 0o755)
    for name, text in {"Dockerfile": dockerfile, **files}.items():
        path = os.path.join(context, name)
        Path(path).write_text(text)
        os.chown(path, owner, owner)
    os.chown(context, owner, owner)
    return context


@pytest.fixture(scope="module")
def machine() -> Iterator[str]:
    """A root file system for containers. Not in pytest's own folder, where only root gets to."""
    work = tempfile.mkdtemp(prefix="machine-")
    with containers.machine(work) as root:
        yield root
    shutil.rmtree(work)


@pytest.fixture
def place(machine: str, busybox_layout: str) -> Iterator[Callable[[Container], Place]]:
    homes: list[str] = []

    def make(container: Container) -> Place:
        home = tempfile.mkdtemp(prefix="home-")
        homes.append(home)
        shutil.copytree(busybox_layout, f"{home}/base")
        for folder, _, names in os.walk(home):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, container.uid, container.uid)
        os.chmod(home, 0o755)
        return Place(container, machine, home)

    yield make
    for home in homes:
        shutil.rmtree(home)


@pytest.fixture
def by_root(pybuild: Pybuild, busybox_layout: str, tmp_path: Path) -> Callable[..., str]:
    """The digest that root's build gives on this machine."""

    def build(dockerfile: str, files: dict[str, str], *more: str) -> str:
        context = _context(str(tmp_path), dockerfile, files, 0)
        env = {"SOURCE_DATE_EPOCH": "1700000000"}
        metadata = tmp_path / "metadata.json"
        base = f"base=oci-layout://{busybox_layout}"
        pybuild.ok("--build-context", base, *OUTPUT, "--metadata-file", str(metadata), *more, context, env=env)
        return _digest(metadata)

    return build


def _digest(metadata: Path) -> str:
    digest: str = json.loads(metadata.read_text())["containerimage.digest"]
    return digest


EVERYWHERE = {
    "docker": DOCKER,
    "docker-user": DOCKER_USER,
    "kubernetes": KUBERNETES,
    "kubernetes-user": KUBERNETES_USER,
    "restricted": RESTRICTED,
}


@pytest.mark.parametrize("container", EVERYWHERE.values(), ids=EVERYWHERE)
def test_what_runs_nothing_needs_no_namespace(place: Callable[[Container], Place], container: Container) -> None:
    here = place(container)
    dockerfile = "FROM base\nARG A=1\nRUN true $A\n"
    assert here.build(dockerfile, "--check").returncode == 0
    outline = here.build(dockerfile, "--call=outline")
    assert re.search(r"^BUILD ARG.*\nA ", outline.stdout, re.MULTILINE), outline.stderr
    for command in (["images"], ["du"], ["fsck"], ["prune", "-f"]):
        done = here.pybuild(*command)
        assert done.returncode == 0, (command, done.stderr)
    context = _context(here.home, dockerfile, {}, container.uid)
    for name, code in (("plan", 10), ("graph", 0)):  # 10: something would run
        done = here.pybuild(name, "--build-context", f"base=oci-layout://{here.home}/base", context)
        assert (done.returncode, "RUN true" in done.stdout) == (code, True), (name, done.stderr)


@pytest.mark.parametrize("name", ["docker", "kubernetes"])
def test_an_image_without_run_is_roots(
    place: Callable[[Container], Place], by_root: Callable[[str, dict[str, str]], str], name: str
) -> None:
    here = place(EVERYWHERE[name])
    dockerfile = "FROM base AS one\nCOPY --chown=33:44 a /a\nFROM base\nWORKDIR /w/x\nCOPY --from=one /a b\nUSER 1000\nCOPY a .\n"
    files = {"a": "hello"}
    metadata = f"{here.home}/metadata.json"
    done = here.build(dockerfile, *OUTPUT, "--metadata-file", metadata, files=files)
    assert done.returncode == 0, done.stderr
    assert _digest(Path(metadata)) == by_root(dockerfile, files)


@pytest.mark.parametrize("masked", [True, False], ids=["proc-masked", "proc-whole"])
def test_root_without_cap_sys_admin_runs_steps_in_a_user_namespace(
    place: Callable[[Container], Place], by_root: Callable[[str, dict[str, str]], str], masked: bool
) -> None:
    here = place(replace(KUBERNETES, masked=masked))
    steps = [
        "RUN id -u > /who && chown 33:44 /who",
        "RUN test -e /proc/self/status && test -c /dev/null",
        "USER 12",
        "RUN id > /tmp/x",
    ]
    dockerfile = "\n".join(["FROM base", *steps])
    metadata = f"{here.home}/metadata.json"
    done = here.build(dockerfile, *OUTPUT, "--metadata-file", metadata)
    assert done.returncode == 0, done.stderr
    assert _digest(Path(metadata)) == by_root(dockerfile, {})


STEPS = """FROM base
RUN id -u > /who && chown 33:44 /who && chmod 4755 /who && test "$(stat -c %u:%g:%a /who)" = 33:44:4755
RUN --mount=type=cache,target=/c echo kept > /c/f
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t cp /c/f /kept && echo x > /t/x
RUN --mount=type=bind,source=a,target=/b/a cp /b/a /copied
RUN --mount=type=secret,id=s,target=/run/secrets/s wc -c < /run/secrets/s > /length
RUN test -e /proc/self/status && readlink /proc/self/exe && test -c /dev/null && echo x > /dev/null && ls /sys > /dev/null
RUN echo 127.0.0.1 > /dev/null; grep -q localhost /etc/hosts && rm -rf /tmp/x && mkdir -p /d/e && ln -s e /d/l && rm /who
USER 12:13
WORKDIR /w
RUN id > /tmp/x && umask > /tmp/y && test "$(id -u)" = 12
"""


@pytest.mark.parametrize("masked", [True, False], ids=["proc-masked", "proc-whole"])
def test_root_of_a_container_with_nothing_relaxed_runs_steps(
    place: Callable[[Container], Place], by_root: Callable[..., str], masked: bool
) -> None:
    """No namespace, no mount: a chroot, and answers to system calls. The image is the one of root's build."""
    here = place(replace(DOCKER, masked=masked))
    files = {"a": "copied", "secret": "hidden"}
    metadata = f"{here.home}/metadata.json"
    secret = os.path.join(here.home, "secret")
    Path(secret).write_text("hidden")
    done = here.build(STEPS, *OUTPUT, "--secret", f"id=s,src={secret}", "--metadata-file", metadata, files=files)
    assert done.returncode == 0, done.stderr
    assert "RUN has no sandbox of its own here" in done.stderr
    assert _digest(Path(metadata)) == by_root(STEPS, files, "--secret", f"id=s,src={secret}")


def test_root_may_ask_for_steps_without_namespaces_by_name(by_root: Callable[..., str], tmp_path: Path) -> None:
    """They want plain folders, whose parts can be renamed: no overlays."""
    (tmp_path / "hidden").write_text("hidden")
    files, secret = {"a": "copied"}, ("--secret", f"id=s,src={tmp_path}/hidden")
    usual = by_root(STEPS, files, *secret)
    assert by_root(STEPS, files, *secret, "--runtime", "unprivileged", "--root", f"{tmp_path}/other") == usual


def test_a_cache_of_overlays_is_not_lost_to_a_runtime_that_was_asked_for(
    pybuild: Pybuild, busybox_layout: str, tmp_path: Path
) -> None:
    context = _context(str(tmp_path), "FROM base\nRUN echo 1 > /x\n", {}, 0)
    flags = ("--build-context", f"base=oci-layout://{busybox_layout}", context)
    pybuild.ok(*flags)
    done = pybuild("--runtime", "unprivileged", *flags)
    assert done.code == 1
    assert "has snapshots of the overlay one" in done.err
    assert "--root" in done.err
    assert pybuild.ok(*flags).not_cached() == {}


def test_a_step_that_can_not_run_says_so_before_anything_is_pulled(place: Callable[[Container], Place]) -> None:
    here = place(DOCKER_USER)
    done = here.build("FROM base\nRUN true\n", "--progress=plain", "-t", "app")
    assert done.returncode == 1
    assert "cannot make a user namespace: Operation not permitted" in done.stderr
    assert "a seccomp policy of the container around may forbid it" in done.stderr
    layers = [line for line in done.stderr.splitlines() if " / " in line and "sha256:" in line]
    assert not layers, done.stderr


def test_subordinate_ids_that_can_not_be_mapped_leave_ones_own(place: Callable[[Container], Place]) -> None:
    """No new privileges: newuidmap is there, the ranges are granted, and it has no right to write them."""
    ranges = {"/etc/subuid": "43210:100000:65536\n", "/etc/subgid": "43210:100000:65536\n"}
    here = place(replace(RESTRICTED, seccomp=False, files=ranges))
    done = here.build("FROM base\nRUN id -u\n", "--progress=plain", "-t", "app")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^#\d+ [\d.]+ 0$", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.parametrize(
    ("container", "code", "said"),
    [
        (DOCKER, 0, "missing  namespaces .*cannot make a user namespace(.|\n)*ok +runtime unprivileged +works, and is taken"),
        (DOCKER_USER, 1, "missing  namespaces .*cannot make a user namespace(.|\n)*so RUN can't be executed"),
        (KUBERNETES, 0, "limited  /proc .*parts of it are hidden(.|\n)*ok +runtime native +works, and is taken"),
        (KUBERNETES_USER, 0, "limited  ids .*one id: 43210 has no range(.|\n)*usermod --add-subuids"),
    ],
    ids=["docker", "docker-user", "kubernetes", "kubernetes-user"],
)
def test_the_doctor_names_what_is_missing(place: Callable[[Container], Place], container: Container, code: int, said: str) -> None:
    here = place(container)
    done = here.pybuild("doctor")
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(said, done.stdout), done.stdout
    as_json = json.loads(here.pybuild("doctor", "--json").stdout)
    assert {"name", "state", "found", "cost", "mend"} == as_json[0].keys()
