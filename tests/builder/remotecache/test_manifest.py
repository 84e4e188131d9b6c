"""The manifest around a cache config, and the cache inside an image's config."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from builder.content.types import Layer
from builder.errors import IntegrityError
from builder.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from builder.oci.digest import Digest
from builder.remotecache.config import MEDIA_TYPE, CacheConfig, CacheLayer, CacheResult, ConfigRecord
from builder.remotecache.manifest import CacheManifest, ImageIndex, InlineImage, inline_cache, read, remote_layers, write
from builder.remotecache.types import RemoteLayer

BLOB, DIFF = Digest.of(b"blob"), Digest.of(b"diff")
CONFIG = Descriptor(MEDIA_TYPE, Digest.of(b"config"), 6)
LAYER = RemoteLayer(Layer(Descriptor(OCI_LAYER_GZIP, BLOB, 4), DIFF), 1787326175123456789)


@pytest.mark.parametrize(
    ("image_manifest", "oci", "media_type"),
    [
        (True, True, "application/vnd.oci.image.manifest.v1+json"),
        (False, True, "application/vnd.oci.image.index.v1+json"),
        (False, False, "application/vnd.docker.distribution.manifest.list.v2+json"),
    ],
)
def test_what_is_written_is_read(image_manifest: bool, oci: bool, media_type: str) -> None:
    top, data = write(CONFIG, [LAYER], image_manifest=image_manifest, oci=oci)
    assert top == Descriptor(media_type, Digest.of(data), len(data))
    found = read(data, media_type, "cache")
    assert isinstance(found, CacheManifest)
    assert found.config == CONFIG
    assert remote_layers(found) == {BLOB: LAYER}
    assert found.layers[0].media_type == (OCI_LAYER_GZIP if oci else DOCKER_LAYER_GZIP)


def test_the_bytes_are_buildkits() -> None:
    """Compact, as Go writes it; the annotations are those of cache/refs.go."""
    _, data = write(CONFIG, [LAYER], image_manifest=True, oci=True)
    assert data.decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        f'"config":{{"mediaType":"{MEDIA_TYPE}","digest":"{CONFIG.digest}","size":6}},'
        f'"layers":[{{"mediaType":"{OCI_LAYER_GZIP}","digest":"{BLOB}","size":4,"annotations":{{'
        f'"buildkit/createdat":"2026-08-21T15:29:35.123456789Z","containerd.io/uncompressed":"{DIFF}"}}}}]}}'
    )


def test_layers_without_a_diff_id_can_not_be_used() -> None:
    bare = Descriptor(OCI_LAYER_GZIP, BLOB, 4)
    bad = Descriptor(OCI_LAYER_GZIP, BLOB, 4, (("containerd.io/uncompressed", "sha256:short"),))
    assert remote_layers(CacheManifest(CONFIG, (bare,))) == remote_layers(CacheManifest(CONFIG, (bad,))) == {}


def test_images_and_indexes_of_images_are_told_apart() -> None:
    def descriptor(media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": BLOB, "size": 4}

    image = {"schemaVersion": 2, "config": descriptor("application/vnd.oci.image.config.v1+json"), "layers": []}
    assert isinstance(read(json.dumps(image).encode(), "", "x"), InlineImage)
    attestation = descriptor("application/vnd.oci.image.manifest.v1+json") | {
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"}
    }
    index = {"schemaVersion": 2, "manifests": [descriptor("application/vnd.oci.image.manifest.v1+json"), attestation]}
    found = read(json.dumps(index).encode(), "", "x")
    assert isinstance(found, ImageIndex)
    assert len(found.manifests) == 1


DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
IMAGE = InlineImage(CONFIG, (Descriptor(DOCKER_LAYER_GZIP, BLOB, 4),))


def image_config(**changes: Any) -> bytes:
    records = CacheConfig(records=(ConfigRecord(DIFF, (), (CacheResult(0),)),)).records_json()
    document = {
        "rootfs": {"diff_ids": [DIFF]},
        "history": [{"empty_layer": True}, {"created": "2026-08-21T15:29:35.123456789Z", "created_by": "RUN x"}],
        "moby.buildkit.cache.v0": base64.b64encode(records).decode(),
    }
    return json.dumps({k: v for k, v in (document | changes).items() if v is not None}).encode()


def test_an_inline_cache_stands_on_the_images_layers() -> None:
    """What the image says of its layers, diffID, time and command, goes with them."""
    found = inline_cache(IMAGE, image_config())
    assert found is not None
    config, layers = found
    assert config.layers == (CacheLayer(BLOB),)
    assert layers == {BLOB: RemoteLayer(LAYER.layer, LAYER.created_ns, "RUN x")}


def test_most_images_have_none() -> None:
    assert inline_cache(IMAGE, image_config(**{"moby.buildkit.cache.v0": None})) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"moby.buildkit.cache.v0": "not base64!"},
        {"moby.buildkit.cache.v0": 1},
        {"moby.buildkit.cache.v0": base64.b64encode(b'[{"layers":[{"layer":1}]}]').decode()},
        {"rootfs": {"diff_ids": []}},
        {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": []},
        {"history": [1]},
    ],
)
def test_what_is_no_inline_cache_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        inline_cache(IMAGE, image_config(**changes))


def test_an_image_config_that_is_no_object_is_refused() -> None:
    with pytest.raises(IntegrityError):
        inline_cache(IMAGE, b"[]")
