"""Against docker-registry on loopback, and with skopeo on the other side: what we push others read, what they push we read."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from builder.config import Config
from builder.errors import NotFoundError
from builder.net.auth import NONE
from builder.net.client import RegistryClient
from builder.net.transport import HttpxTransport, Request, TransportError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from tests.builder.net.conftest import image_manifest
from tests.support.oci import Entry, layer_tar, write_layout
from tests.support.processes import Registry

pytestmark = pytest.mark.integration
LAYER = layer_tar([Entry("a", b"x" * 3_000_000)])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = Registry(str(tmp_path_factory.mktemp("registry")))
    yield server
    server.stop()


@pytest.fixture
def client() -> RegistryClient:
    return RegistryClient(Config(), credentials=lambda host, repository: NONE)


def push(client: RegistryClient, ref: Reference) -> tuple[bytes, Descriptor]:
    """An image of one layer; gives the manifest and the layer's descriptor."""
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["' + Digest.of(LAYER).encode() + b'"]}}'
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(LAYER), len(LAYER))
    client.push_blob(ref, layer, lambda: (LAYER[i : i + 100_000] for i in range(0, len(LAYER), 100_000)))
    client.push_blob(ref, Descriptor("application/vnd.oci.image.config.v1+json", Digest.of(config), len(config)), lambda: [config])
    manifest = image_manifest(config, [LAYER])
    client.push_manifest(ref, manifest, manifests.OCI_MANIFEST)
    return manifest, layer


def test_what_is_pushed_comes_back_and_skopeo_reads_it(client: RegistryClient, registry: Registry) -> None:
    ref = Reference.parse(f"{registry.host}/team/app:1")
    manifest, layer = push(client, ref)
    target = client.resolve(ref)
    assert target == Descriptor(manifests.OCI_MANIFEST, Digest.of(manifest), len(manifest))
    assert client.fetch_manifest(ref, target) == manifest
    for offset in (0, 1, len(LAYER) - 1):
        with client.open_blob(ref, layer, offset) as chunks:
            assert b"".join(chunks) == LAYER[offset:]
    done = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{ref}"], capture_output=True, text=True, check=True, timeout=60
    )
    assert target.digest in done.stdout


def test_a_blob_is_mounted_from_another_repository(client: RegistryClient, registry: Registry) -> None:
    _, layer = push(client, Reference.parse(f"{registry.host}/team/base:1"))
    other = Reference.parse(f"{registry.host}/team/other:1")

    def never() -> list[bytes]:
        raise AssertionError("the blob was sent")

    assert not client.push_blob(other, layer, never, mount_from="team/base")
    assert client.has_blob(other, layer.digest)


def test_what_skopeo_pushes_is_read(client: RegistryClient, registry: Registry, tmp_path: object) -> None:
    layout = write_layout(f"{tmp_path}/layout", [LAYER], {}, tag="v1")
    ref = Reference.parse(f"{registry.host}/from/skopeo:v1")
    command = ["skopeo", "copy", "--format=v2s2", "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{ref}"]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    target = client.resolve(ref)
    document = manifests.parse(client.fetch_manifest(ref, target), target.media_type)
    assert isinstance(document, manifests.Manifest)
    assert document.media_type == manifests.DOCKER_MANIFEST
    assert client.fetch_document(ref, document.config, manifests.MAX_CONFIG)


def test_what_is_not_there_is_not_found(client: RegistryClient, registry: Registry) -> None:
    for name in ("team/app:nowhere", "no/such/repository", "team/app@" + Digest.of(b"nothing")):
        with pytest.raises(NotFoundError, match="not found"):
            client.resolve(Reference.parse(f"{registry.host}/{name}"))


def test_the_registry_as_a_mirror_of_docker_hub(registry: Registry) -> None:
    config = f'[registry."docker.io"]\nmirrors = ["{registry.host}"]\n[registry."{registry.host}"]\nhttp = true\n'
    client = RegistryClient(Config.parse(config.encode()), credentials=lambda host, repository: NONE)
    push(client, Reference.parse(f"{registry.host}/library/busybox:latest"))
    ref = Reference.parse("busybox")
    assert client.fetch_manifest(ref, client.resolve(ref))


def test_nobody_there_is_one_line_with_the_address() -> None:
    with pytest.raises(TransportError, match=r"^failed to do request: GET http://127\.0\.0\.1:1/v2/: Connection refused$") as e:
        HttpxTransport().send(Request("GET", "http://127.0.0.1:1/v2/"))
    assert not e.value.transient


def test_a_plain_registry_asked_with_tls_says_what_to_set(registry: Registry) -> None:
    with pytest.raises(TransportError, match="no TLS there") as e:
        HttpxTransport().send(Request("GET", f"https://{registry.host}/v2/"))
    assert e.value.tls
    assert "http = true" in e.value.hint
