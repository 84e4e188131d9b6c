"""Annotations in the documents of an image that was built, byte for byte as Go writes them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.support.cli import Pybuild, assert_refused
from tests.support.processes import Registry

pytestmark = pytest.mark.integration
Context = Callable[[dict[str, str | bytes]], str]
ALL = ("manifest:in=manifest", "manifest-descriptor:in=manifest descriptor", "manifest[linux/arm64]:only=arm64")
INDEX = ("index:in=index", "index-descriptor:in=index descriptor", "manifest-descriptor[linux/arm64]:only=arm64")


@pytest.fixture
def folder(context: Context) -> str:
    return context({"Dockerfile": "FROM scratch\nCOPY file /\n", "file": "text"})


class Layout:
    """An OCI archive's documents."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as tar:
            self._members = {m.name: f.read() for m in tar if (f := tar.extractfile(m)) is not None}
        (self.entry,) = json.loads(self._members["index.json"])["manifests"]
        self.entry_annotations = {k: v for k, v in self.entry["annotations"].items() if "." not in k}

    def raw(self, descriptor: dict[str, Any]) -> bytes:
        return self._members["blobs/" + descriptor["digest"].replace(":", "/")]

    def document(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw(descriptor))
        return found


def flags(values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in ("--annotation", value)]


def test_each_document_of_an_index_has_its_own(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    platforms = ["--platform", "linux/amd64,linux/arm64"]
    pybuild.ok("build", *platforms, *flags(ALL + INDEX), "-o", f"type=oci,dest={tmp_path}/image.tar", folder)
    layout = Layout(tmp_path / "image.tar")
    assert layout.entry_annotations == {"in": "index descriptor"}
    index = layout.document(layout.entry)
    assert index["annotations"] == {"in": "index"}
    amd64, arm64 = index["manifests"]
    assert amd64["annotations"] == {"in": "manifest descriptor"}
    assert arm64["annotations"] == {"in": "manifest descriptor", "only": "arm64"}
    assert layout.document(amd64)["annotations"] == {"in": "manifest"}
    assert layout.document(arm64)["annotations"] == {"in": "manifest", "only": "arm64"}


def test_without_an_index_the_manifest_is_described_by_the_layout(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    done = pybuild.ok("build", "--platform", "linux/amd64", *flags(ALL), "-o", f"type=oci,dest={tmp_path}/image.tar", folder)
    layout = Layout(tmp_path / "image.tar")
    assert layout.entry_annotations == {"in": "manifest descriptor"}
    assert layout.document(layout.entry)["annotations"] == {"in": "manifest"}
    assert "[Warning] annotations of linux/arm64 are written nowhere" in done.err


@pytest.mark.parametrize("platform", ["", "[linux/amd64]"])
def test_an_output_has_annotations_of_its_own(pybuild: Pybuild, folder: str, tmp_path: Path, platform: str) -> None:
    keys = f"annotation{platform}.a=1,annotation-manifest-descriptor{platform}.b=2"
    pybuild.ok("build", "--platform", "linux/amd64", "-o", f"type=docker,dest={tmp_path}/image.tar,{keys}", folder)
    layout = Layout(tmp_path / "image.tar")
    assert layout.entry_annotations == {"b": "2"}
    assert layout.document(layout.entry)["annotations"] == {"a": "1"}


def test_a_time_of_creation_that_is_given_stays(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    given = flags(("manifest-descriptor:org.opencontainers.image.created=once",))
    pybuild.ok("build", *given, "-o", f"type=oci,dest={tmp_path}/image.tar", folder)
    assert Layout(tmp_path / "image.tar").entry["annotations"]["org.opencontainers.image.created"] == "once"


def test_values_are_escaped_as_go_does_it(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    """Else the same build has another digest with BuildKit."""
    pybuild.ok("build", *flags(("url=https://example.com/?a=<1>&b=é",)), "-o", f"type=oci,dest={tmp_path}/image.tar", folder)
    layout = Layout(tmp_path / "image.tar")
    assert '"url": "https://example.com/?a=\\u003c1\\u003e\\u0026b=é"'.encode() in layout.raw(layout.entry)


def test_a_registry_gets_them(pybuild: Pybuild, registry: Registry, folder: str) -> None:
    given = flags(("manifest,index,manifest-descriptor:k=v",))
    name = f"{registry.host}/annotated:1"
    pybuild.ok("build", "--platform", "linux/amd64,linux/arm64", "-t", name, "--push", *given, folder)
    accept = {"Accept": "application/vnd.oci.image.index.v1+json"}
    with urlopen(Request(f"http://{registry.host}/v2/annotated/manifests/1", headers=accept)) as answer:
        index = json.load(answer)
    assert index["annotations"] == {"k": "v"}
    assert [m["annotations"] for m in index["manifests"]] == [{"k": "v"}] * 2


def test_an_index_of_one_platform_may_be_annotated(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    output = f"type=oci,dest={tmp_path}/image.tar,annotation-index.k=v"
    refused = pybuild("build", "-o", output, folder)
    assert_refused(refused, "index annotations not supported for single platform export", "BUILDKIT_MULTI_PLATFORM")
    assert "COPY" not in refused.err
    pybuild.ok("build", "--build-arg", "BUILDKIT_MULTI_PLATFORM=1", "-o", output, folder)
    layout = Layout(tmp_path / "image.tar")
    assert layout.document(layout.entry)["annotations"] == {"k": "v"}


def test_an_annotation_of_a_platform_that_is_not_built_is_refused(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    output = f"type=oci,dest={tmp_path}/image.tar,annotation[linux/s390x].k=v"
    refused = pybuild("build", "--platform", "linux/amd64,linux/arm64", "-o", output, folder)
    assert_refused(refused, "invalid annotation: no platform linux/s390x found in source")
