"""Whatever a stage begins with, with a step on it or without: every kind of output has its files, or one and the same error.

What each gives is BuildKit's: a named context in the place of an image is an image of its files, in the place of a whole stage it
is files alone (frontend/dockerui/namedcontext.go, resolveBaseImage).
"""

from __future__ import annotations

import os
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Pybuild, assert_refused
from tests.support.gitserver import GitServer
from tests.support.oci import Entry, layer_tar, read_image, write_layout
from tests.support.processes import Registry
from tests.support.web import served

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
STEP = "COPY <<E /made\nby a step\nE\n"
NO_IMAGE = "invalid image config for export: missing architecture"


@pytest.fixture
def sources(tmp_path: Path, context: Context, registry: Registry) -> Iterator[dict[str, str]]:
    """What --build-context can name, each with one file ``f`` (the served file is called ``context``)."""
    layout = write_layout(str(tmp_path / "layout"), [layer_tar([Entry("f", b"in an image")])], {})
    image = f"{registry.host}/one/file:1"
    subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{image}"], check=True)
    area = tmp_path / "area"
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", f"{area}/r.git"]
    (area / "r.git").mkdir(parents=True)
    (area / "r.git" / "f").write_text("in a repository")
    for command in (["init", "-q", "-b", "main"], ["add", "f"], ["commit", "-q", "-m", "m"], ["update-server-info"]):
        subprocess.run([*git, *command], check=True)
    with GitServer(str(area)) as repositories, served(context({"f": "over http"})) as web:
        yield {
            "local": context({"f": "in a folder"}),
            "git": f"{repositories.url}/r.git",
            "http": f"{web}/f",
            "oci-layout": f"oci-layout://{layout}",
            "docker-image": f"docker-image://{image}",
            "image": image,
        }


CASES = {
    "an image": ("FROM {image}\n", {"f"}),
    "scratch": ("FROM scratch\n", set()),
    "a folder": ("FROM local\n", {"f"}),
    "a repository": ("FROM git\n", {"f"}),
    "a file": ("FROM http\n", {"context"}),
    "an image of a layout": ("FROM oci-layout\n", {"f"}),
    "a named image": ("FROM docker-image\n", {"f"}),
    "another stage": ("FROM local AS other\nFROM other\n", {"f"}),
}
NO_IMAGES = {
    "a folder": ("FROM scratch AS local\n", {"f"}),
    "a repository": ("FROM scratch AS git\n", {"f"}),
    "a file": ("FROM scratch AS http\n", {"context"}),
    "a stage on a folder": ("FROM scratch AS local\nFROM local\n", {"f"}),
}


def flags(sources: dict[str, str]) -> list[str]:
    return [word for name, value in sources.items() if name != "image" for word in ("--build-context", f"{name}={value}")]


def listed(tar: Path) -> set[str]:
    with tarfile.open(tar) as archive:
        return {os.path.normpath(m.name) for m in archive if m.isfile()}


@pytest.mark.parametrize("step", ["", STEP], ids=["no-step", "step"])
@pytest.mark.parametrize("case", CASES)
def test_every_output_has_the_files_of_every_source(
    pybuild: Pybuild, context: Context, registry: Registry, sources: dict[str, str], tmp_path: Path, case: str, step: str
) -> None:
    text, files = CASES[case]
    folder = context({"Dockerfile": text.format(**sources) + step})
    expected = files | ({"made"} if step else set())
    pushed = f"{registry.host}/out/{tmp_path.name.lower()}:1"
    outputs = [
        f"type=oci,dest={tmp_path}/oci.tar",
        f"type=docker,dest={tmp_path}/docker.tar",
        f"type=image,name={pushed},push=true",
        f"type=tar,dest={tmp_path}/files.tar",
        f"type=local,dest={tmp_path}/local",
        "type=cacheonly",
    ]
    arguments = [*flags(sources), *(word for spec in outputs for word in ("-o", spec)), folder]
    for _ in range(2):  # the second time from the cache
        pybuild.ok(*arguments)
    assert set(read_image(tmp_path / "oci.tar").files()) == expected
    assert set(read_image(tmp_path / "docker.tar").files()) == expected
    assert listed(tmp_path / "files.tar") == expected
    assert {p.name for p in (tmp_path / "local").iterdir()} == expected
    subprocess.run(
        ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{pushed}", f"oci:{tmp_path}/pulled:x"], check=True
    )
    assert set(read_image(tmp_path / "pulled").files()) == expected
    pybuild.fsck()


@pytest.mark.parametrize("case", NO_IMAGES)
def test_files_in_the_place_of_a_stage_are_no_image(
    pybuild: Pybuild, context: Context, sources: dict[str, str], tmp_path: Path, case: str
) -> None:
    text, files = NO_IMAGES[case]
    folder = context({"Dockerfile": text})
    for spec in ("type=oci,dest=-", "type=docker,dest=-", "type=image"):
        assert_refused(pybuild(*flags(sources), "-o", spec, folder), NO_IMAGE)
    outputs = (f"type=tar,dest={tmp_path}/t", f"type=local,dest={tmp_path}/l", "type=cacheonly")
    pybuild.ok(*flags(sources), *(word for spec in outputs for word in ("-o", spec)), folder)
    assert listed(tmp_path / "t") == {p.name for p in (tmp_path / "l").iterdir()} == files


def test_a_registry_may_have_an_ipv6_address(
    pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path
) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = Registry(str(tmp_path / "registry"), "[::1]")
    try:
        base = f"{server.host}/base:1"
        given = ("--build-context", f"busybox=oci-layout://{busybox_layout}")
        pybuild.ok(*given, "-t", base, "--push", context({"Dockerfile": "FROM busybox\n"}))
        folder = context({"Dockerfile": f"FROM {base}\nRUN echo made > /made\n"})
        pybuild.ok("-t", f"{server.host}/a/b:c", "--push", folder)
        pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", context({"Dockerfile": f"FROM {server.host}/a/b:c\n"}))
        assert "made" in read_image(tmp_path / "i.tar").files()
        pybuild.ok("--build-context", f"{base}=docker-image://{server.host}/a/b:c", "-o", "type=cacheonly", folder)
    finally:
        server.stop()
