"""The other builders and the Dockerfiles of testdata/compare.

A folder there holds a Dockerfile and its context, and where needed:
    context.sh    run in the copied context before it is built: what git can't store (modes, times, hard links, archives)
    case.toml     ``flags``: flags of compare, CONTEXT being the context's path; ``except``: builder -> why it can't build this
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builder.compare import BuildSpec
from builder.compare.builders import Buildah, Docker, Pybuild
from tests.support import bases
from tests.support.oci import Entry, layer_tar, write_layout
from tests.support.processes import Dockerd, Registry, _unmount_below

DATA = Path(__file__).resolve().parents[2] / "testdata" / "compare"
LONG_AGO = 1_600_000_000
NAMES = sorted(p.parent.name for p in DATA.glob("*/Dockerfile"))


@dataclass(frozen=True)
class Case:
    """A prepared build; ``excuses`` says why a builder can't do it."""

    context: str
    build_args: tuple[str, ...] = ()
    target: str = ""
    secrets: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    excuses: dict[str, str] = field(default_factory=dict)

    def spec(self, base: str) -> BuildSpec:
        args = (f"BASE={base}", *self.build_args)
        return BuildSpec(context=self.context, build_args=args, target=self.target, secrets=self.secrets, labels=self.labels)


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[str], Case]:
    """The case of that name, its context in a folder of its own."""

    def prepare(name: str) -> Case:
        folder = tmp_path / name
        shutil.copytree(DATA / name, folder, symlinks=True)
        for path in (folder, *folder.rglob("*")):
            # What the checkout made of modes and times is not what is compared.
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
        settings = folder / "case.toml"
        doc = tomllib.loads(settings.read_text()) if settings.exists() else {}
        settings.unlink(missing_ok=True)
        script = folder / "context.sh"
        if script.exists():
            text = script.read_text()
            script.unlink()
            environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
            subprocess.run(["sh", "-euc", "umask 022\n" + text], cwd=folder, check=True, env=environ)
        flags: dict[str, list[str]] = {}
        for text in doc.get("flags", ()):
            flag, _, value = text.removeprefix("--").partition("=")
            flags.setdefault(flag, []).append(value.replace("CONTEXT", str(folder)))
        return Case(
            context=str(folder),
            build_args=tuple(flags.pop("build-arg", ())),
            target=flags.pop("target", [""])[0],
            secrets=tuple(flags.pop("secret", ())),
            labels=tuple(flags.pop("label", ())),
            excuses={**doc.get("except", {}), **{f: f"unknown flag of a case: {f}" for f in flags}},
        )

    return prepare


@pytest.fixture(scope="session")
def base(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """busybox with some accounts, in the registry."""
    layout = bases.busybox_layout(str(tmp_path_factory.mktemp("compare") / "layout"))
    index = json.loads(Path(layout, "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]))
    lower = [gzip.decompress(_blob(layout, d["digest"])) for d in manifest["layers"]]
    accounts = layer_tar(
        [
            Entry("etc", mode=0o755),
            Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nbin:x:1:1:bin:/:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\n"),
            Entry("etc/group", b"root:x:0:\nbin:x:1:\nwww:x:33:\nstaff:x:50:\n"),
            Entry("home", mode=0o755),
        ]
    )
    config = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}
    made = write_layout(layout + "-accounts", [*lower, accounts], config)
    return bases.push(made, f"{registry.host}/compare/base:1")


def _blob(layout: str, digest: str) -> bytes:
    return Path(layout, "blobs", *digest.split(":")).read_bytes()


@pytest.fixture(scope="session")
def since() -> float:
    """From then on every time is one that a build made."""
    return time.time()


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory, since: float) -> Pybuild:
    """pybuild on one root for all cases: the base is pulled once."""
    return Pybuild(root=str(tmp_path_factory.mktemp("pybuild")))


@pytest.fixture(scope="session")
def docker(dockerd: Dockerd, since: float) -> Iterator[Docker]:
    """docker build on a daemon of the tests' own."""
    environ = {**os.environ, "DOCKER_CONFIG": f"{os.path.dirname(dockerd.socket)}/client"}
    with_daemon = Docker(f"unix://{dockerd.socket}", environ=environ)
    yield with_daemon
    with_daemon.close()


@pytest.fixture(scope="session")
def buildah(registry: Registry, tmp_path_factory: pytest.TempPathFactory, since: float) -> Iterator[Buildah]:
    """buildah in a store of the tests' own, with their registry without TLS."""
    folder = tmp_path_factory.mktemp("buildah")
    (folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    files = {"CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf", "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf"}
    yield Buildah(environ={**os.environ, **files})
    # Its overlay driver leaves its folder mounted onto itself.
    _unmount_below(str(folder))
    shutil.rmtree(folder)
