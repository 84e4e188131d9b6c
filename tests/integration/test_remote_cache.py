"""Remote caches between machines: each root is a machine that has seen nothing but what it was given."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Done, Pybuild, assert_refused
from tests.support.oci import read_image
from tests.support.processes import Registry, running

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
NewRoot = Callable[[], Pybuild]

DOCKERFILE = """FROM {base} AS tool
RUN echo made > /made
RUN echo other > /other
FROM {base}
WORKDIR /srv
COPY a.txt ./
COPY --from=tool /made .
COPY --link --from=tool /other /linked
RUN cat a.txt made > both
CMD ["cat", "both"]
"""
CONFIG_TYPE = "application/vnd.buildkit.cacheconfig.v0"


@pytest.fixture
def project(context: Context, busybox: str) -> str:
    return context({"Dockerfile": DOCKERFILE.format(base=busybox), "a.txt": "a\n"})


def ran(done: Done) -> list[str]:
    """The steps that were not cached."""
    return [name for name, ending in done.instructions().items() if ending != "CACHED" and "FROM " not in name.split("]")[1][:6]]


def blobs(machine: Pybuild) -> set[str]:
    """Digests in the content store."""
    return {f"sha256:{p.name}" for p in Path(machine.root, "content").rglob("*") if p.is_file()}


def local_cache(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(manifest, cache config) of a folder."""
    index = json.loads((folder / "index.json").read_text())
    (top,) = index["manifests"]
    assert top["annotations"] == {"org.opencontainers.image.ref.name": "latest"}
    manifest = blob(folder, top["digest"])
    named = manifest.get("manifests") or [*manifest["layers"], manifest["config"]]
    assert named[-1]["mediaType"] == CONFIG_TYPE
    for d in named:
        assert (folder / "blobs" / "sha256" / d["digest"][7:]).stat().st_size == d["size"]
    return manifest, blob(folder, named[-1]["digest"])


def blob(folder: Path, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "blobs" / "sha256" / digest[7:]).read_bytes())
    return found


def oci(path: Path) -> str:
    return f"type=oci,dest={path}"


@pytest.mark.parametrize("form", ["", ",image-manifest=false", ",oci-mediatypes=false", ",compression=zstd"])
@pytest.mark.parametrize("kind", ["local", "registry"])
def test_another_machine_runs_nothing_and_pulls_no_layer(
    new_root: NewRoot, project: str, registry: Registry, tmp_path: Path, kind: str, form: str
) -> None:
    """mode=max, every form of manifest. Only documents come over: of the base image, and none of the cache is kept."""
    name = f"ref={registry.host}/{tmp_path.name}:cache" if kind == "registry" else f"{{}}={tmp_path}/cache"
    first, second = new_root(), new_root()
    first.ok("-o", oci(tmp_path / "1.tar"), "--cache-to", f"type={kind},{name.format('dest')},mode=max{form}", project)
    done = second.ok("-o", "type=cacheonly", "--cache-from", f"type={kind},{name.format('src')}", project)
    assert ran(done) == []
    assert len(blobs(second)) == 2, "manifest and config of the base image"
    assert ran(second.ok("-o", oci(tmp_path / "2.tar"), project)) == []
    assert read_image(tmp_path / "2.tar") == read_image(tmp_path / "1.tar")
    second.fsck()


def test_an_image_pulls_the_layers_it_has_and_no_others(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    first, second = new_root(), new_root()
    first.ok("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max", project)
    second.ok("-o", oci(tmp_path / "2.tar"), "--cache-from", f"type=local,src={tmp_path}/cache", project)
    manifest, _ = local_cache(tmp_path / "cache")
    cached = {d["digest"] for d in manifest["layers"]}
    image = set(read_image(tmp_path / "2.tar").layer_digests)
    assert image < cached, "the steps of the other stage are in the cache"
    assert blobs(second) & cached == image


def test_a_change_runs_its_step_and_what_follows(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    first, second = new_root(), new_root()
    first.ok("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max", project)
    Path(project, "a.txt").write_text("changed\n")
    done = second.ok("-o", oci(tmp_path / "2.tar"), "--cache-from", f"type=local,src={tmp_path}/cache", project)
    assert [name.split("] ")[1].split()[0] for name in ran(done)] == ["COPY", "COPY", "LINK", "RUN"]
    assert done.ending("] COPY --link") == "CACHED"
    assert read_image(tmp_path / "2.tar").files()["srv/both"].text == "changed\nmade\n"


def test_min_exports_layers_of_the_result_alone(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    """The other stage's steps have no layers there, whatever blobs an earlier export made of them; they are not needed either."""
    first, second = new_root(), new_root()
    first.ok("-o", oci(tmp_path / "1.tar"), "--cache-to", f"type=local,dest={tmp_path}/max,mode=max", project)
    first.ok("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/min", project)
    manifest, _ = local_cache(tmp_path / "min")
    assert {d["digest"] for d in manifest["layers"]} == set(read_image(tmp_path / "1.tar").layer_digests)
    done = second.ok("-o", oci(tmp_path / "2.tar"), "--cache-from", f"type=local,src={tmp_path}/min", project)
    assert ran(done) == []
    assert read_image(tmp_path / "2.tar") == read_image(tmp_path / "1.tar")


def test_a_failed_build_exports_what_it_finished(new_root: NewRoot, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo kept > /kept\nRUN test -e /other\n"})
    first, second = new_root(), new_root()
    for mode in ("min", "max"):
        assert first("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/{mode},mode={mode}", folder).code == 1
        Path(folder, "Dockerfile").write_text(f"FROM {busybox}\nRUN echo kept > /kept\nRUN true\n")
        done = second.ok("-o", "type=cacheonly", "--cache-from", f"type=local,src={tmp_path}/{mode}", folder)
        assert done.ending("RUN echo kept") == "CACHED"
        assert done.ending("RUN true").startswith("DONE")
        second = new_root()
        Path(folder, "Dockerfile").write_text(f"FROM {busybox}\nRUN echo kept > /kept\nRUN test -e /other\n")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("type=local,src={}/none", "is not an OCI layout: it has no index.json"),
        ("type=registry,ref={}/none:x", "not found"),
        ("{}/none:x", "not found"),
    ],
)
def test_a_cache_that_is_not_there_is_a_warning(
    pybuild: Pybuild, context: Context, registry: Registry, tmp_path: Path, source: str, said: str
) -> None:
    place = source.format(tmp_path if "local" in source else registry.host)
    done = pybuild.ok("-o", "type=cacheonly", "--cache-from", place, context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
    assert "[Warning] cache from " in done.err
    assert said in done.err


def test_a_damaged_cache_is_a_warning(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    first, second = new_root(), new_root()
    first.ok("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max", project)
    manifest, _ = local_cache(tmp_path / "cache")
    path = tmp_path / "cache" / "blobs" / "sha256" / manifest["config"]["digest"][7:]
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    done = second.ok("-o", "type=cacheonly", "--cache-from", f"type=local,src={tmp_path}/cache", project)
    assert "has another digest" in done.err
    assert len(ran(done)) > 5


def test_export_errors_fail_the_build_unless_they_are_to_be_ignored(pybuild: Pybuild, context: Context, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    where = f"type=local,dest={tmp_path}/file/cache"
    assert_refused(pybuild("-o", oci(tmp_path / "1.tar"), "--cache-to", where, folder), "can't write to")
    assert (tmp_path / "1.tar").exists(), "the outputs were written before"
    done = pybuild.ok("-o", "type=cacheonly", "--cache-to", where + ",ignore-error=true", folder)
    assert "[Warning] cache was not exported" in done.err


@pytest.mark.parametrize("way", [("--cache-to", "type=inline"), ("--build-arg", "BUILDKIT_INLINE_CACHE=1")])
def test_inline_cache_travels_in_the_image(
    new_root: NewRoot, project: str, registry: Registry, tmp_path: Path, way: tuple[str, str]
) -> None:
    first, second = new_root(), new_root()
    name = f"{registry.host}/{tmp_path.name}:app"
    first.ok("-t", name, "--push", *way, project)
    first.ok("-t", name, "-o", oci(tmp_path / "1.tar"), *way, project)
    image = read_image(tmp_path / "1.tar")
    records = json.loads(base64.b64decode(image.config["moby.buildkit.cache.v0"]))
    assert max(r["layer"] for record in records for r in record.get("layers", ())) == len(image.layers) - 1
    done = second.ok("-o", "type=cacheonly", "--cache-from", f"type=registry,ref={name}", project)
    assert ran(done) == []
    assert len(blobs(second)) == 2
    second.ok("-o", oci(tmp_path / "2.tar"), *way, "--cache-from", name, project)
    assert read_image(tmp_path / "2.tar") == image, "and with it the cache goes on"


def test_an_image_without_inline_cache_gives_nothing(pybuild: Pybuild, project: str, busybox: str) -> None:
    done = pybuild.ok("-o", "type=cacheonly", "--cache-from", busybox, project)
    assert len(ran(done)) > 5
    assert "[Warning]" not in done.err


def test_a_cache_goes_on_from_machine_to_machine(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    """What was imported is exported again, without a copy on the machine between."""
    first, second, third = new_root(), new_root(), new_root()
    first.ok("-o", oci(tmp_path / "1.tar"), "--cache-to", f"type=local,dest={tmp_path}/a,mode=max", project)
    second.ok(
        "-o", "type=cacheonly", "--cache-from", f"type=local,src={tmp_path}/a",
        "--cache-to", f"type=local,dest={tmp_path}/b,mode=max", project,
    )  # fmt: skip
    assert len(blobs(second)) == 2
    shutil.rmtree(tmp_path / "a")
    done = third.ok("-o", oci(tmp_path / "3.tar"), "--cache-from", f"type=local,src={tmp_path}/b", project)
    assert ran(done) == []
    assert read_image(tmp_path / "3.tar") == read_image(tmp_path / "1.tar")


def test_the_same_build_exports_the_same_cache(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    """Byte for byte: a cached build writes what the first one wrote."""
    machine = new_root()
    for name in ("a", "b", "c"):
        machine.ok("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/{name},mode=max", project)
    assert local_cache(tmp_path / "b") == local_cache(tmp_path / "c")
    assert local_cache(tmp_path / "a") == local_cache(tmp_path / "b")


def test_a_folder_that_vanished_is_a_miss(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    first, second = new_root(), new_root()
    first.ok("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max", project)
    second.ok("-o", "type=cacheonly", "--cache-from", f"type=local,src={tmp_path}/cache", project)
    shutil.rmtree(tmp_path / "cache")
    done = second.ok("-o", oci(tmp_path / "2.tar"), project)
    assert "RUN cat a.txt made > both" in str(ran(done))


def test_reset_keeps_only_what_is_named(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    machine, where = new_root(), f"type=local,dest={tmp_path}/cache,mode=max"
    machine.ok("-o", "type=cacheonly", "--cache-to", where, project)
    Path(project, "a.txt").write_text("changed\n")
    machine.ok("-o", "type=cacheonly", "--cache-to", where + ",reset=true", project)
    manifest, _ = local_cache(tmp_path / "cache")
    named = {d["digest"][7:] for d in (*manifest["layers"], manifest["config"])}
    assert len(set(os.listdir(tmp_path / "cache" / "blobs" / "sha256")) - named) == 1, "the manifest itself"


def test_tags_keep_caches_apart(new_root: NewRoot, project: str, tmp_path: Path) -> None:
    first, second = new_root(), new_root()
    first.ok("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max,tag=one", project)
    Path(project, "a.txt").write_text("changed\n")
    first.ok("-o", "type=cacheonly", "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max,tag=two", project)
    for tag, missing in (("one", True), ("two", False)):
        done = second.ok("-o", "type=cacheonly", "--cache-from", f"type=local,src={tmp_path}/cache,tag={tag}", project)
        assert bool(ran(done)) == missing
        second = new_root()


def test_a_registry_that_is_gone_is_a_warning(new_root: NewRoot, context: Context, tmp_path: Path) -> None:
    with running(Registry(str(tmp_path / "registry"))) as registry:
        assert isinstance(registry, Registry)
        host = registry.host
    done = new_root().ok("-o", "type=cacheonly", "--cache-from", f"{host}/x", context({"Dockerfile": "FROM scratch\nCOPY . /\n"}))
    assert "[Warning] cache from " in done.err


def test_skopeo_reads_the_cache_as_an_artifact(new_root: NewRoot, project: str, registry: Registry, tmp_path: Path) -> None:
    """The default form is a manifest that registries and their tools take for an image's."""
    ref = f"{registry.host}/{tmp_path.name}:cache"
    new_root().ok("-o", "type=cacheonly", "--cache-to", f"type=registry,ref={ref},mode=max", project)
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{ref}"]
    manifest = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert manifest["config"]["mediaType"] == CONFIG_TYPE
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{ref}", f"oci:{tmp_path}/copy:latest"],
        check=True,
    )
    done = new_root().ok("-o", "type=cacheonly", "--cache-from", f"type=local,src={tmp_path}/copy", project)
    assert ran(done) == []
