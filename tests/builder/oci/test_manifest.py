"""Manifests and indexes: what is read, and what is refused."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import IntegrityError, PybuildError, UnsupportedError
from builder.oci import manifest as manifests
from builder.oci.digest import Digest
from builder.oci.manifest import Index, Manifest, parse
from builder.oci.platform import Platform
from tests.builder.net.conftest import image_manifest
from tests.support.anyjson import spoilt

DIGEST = Digest.of(b"x")


def entry(platform: dict[str, str] | None = None, **changes: object) -> dict[str, object]:
    out: dict[str, object] = {"mediaType": manifests.OCI_MANIFEST, "digest": DIGEST, "size": 1, **changes}
    return out if platform is None else {**out, "platform": platform}


def index(*entries: dict[str, object], **changes: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": entries, **changes}).encode()


def test_a_manifest() -> None:
    document = parse(image_manifest(b"{}", [b"a", b"bb"]))
    assert isinstance(document, Manifest)
    assert document.config.digest == Digest.of(b"{}")
    assert [layer.size for layer in document.layers] == [1, 2]


def test_documents_that_are_two_things_at_once_are_refused() -> None:
    with pytest.raises(IntegrityError, match="invalid ambiguous manifest and manifest list"):
        parse(image_manifest(b"{}", [], manifests=[]))


@pytest.mark.parametrize(
    ("data", "announced"),
    [
        (image_manifest(b"{}", []), manifests.OCI_INDEX),
        (image_manifest(b"{}", []), manifests.DOCKER_MANIFEST),
        (image_manifest(b"{}", [], mediaType=manifests.OCI_INDEX), ""),
        (index(mediaType=manifests.OCI_MANIFEST), ""),
        (index(), manifests.OCI_MANIFEST),
    ],
)
def test_a_media_type_that_does_not_fit_is_refused(data: bytes, announced: str) -> None:
    with pytest.raises(IntegrityError, match="mediaType in manifest"):
        parse(data, announced)


@pytest.mark.parametrize("data", [b'{"schemaVersion": 1, "fsLayers": []}', b'{"fsLayers": []}'])
def test_schema_1_is_refused_in_dockers_words(data: bytes) -> None:
    with pytest.raises(UnsupportedError, match="schema 1 has been removed"):
        parse(data)
    with pytest.raises(UnsupportedError, match="schema 1 has been removed"):
        parse(image_manifest(b"{}", []), manifests.SCHEMA1[1])


def test_artifacts_are_no_images() -> None:
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": DIGEST, "size": 1}
    with pytest.raises(UnsupportedError, match="not an image"):
        parse(image_manifest(b"{}", [], config=config))
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+encrypted", "digest": DIGEST, "size": 1}
    with pytest.raises(UnsupportedError, match="unsupported type"):
        parse(image_manifest(b"{}", [], layers=[layer]))


@pytest.mark.parametrize(
    "layer",
    [
        {"digest": "sha256:../../x", "size": 1},
        {"digest": DIGEST, "size": -1},
        {"digest": DIGEST, "size": 1 << 70},
        {"digest": DIGEST, "size": True},
        {"digest": DIGEST},
        {"size": 1},
        {"digest": 7, "size": 1},
        "layer",
        None,
    ],
)
def test_malformed_descriptors_are_refused_in_one_line(layer: object) -> None:
    with pytest.raises(IntegrityError) as e:
        parse(image_manifest(b"{}", [], layers=[layer]))
    assert "\n" not in str(e.value)


def test_the_best_platform_comes_first_and_attestations_never() -> None:
    unknown = {"os": "unknown", "architecture": "unknown"}
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    document = parse(
        index(
            entry(None, size=1),
            entry({"os": "linux", "architecture": "arm", "variant": "v6"}, size=2),
            entry({"os": "linux", "architecture": "arm", "variant": "v7"}, size=3),
            entry({"os": "linux", "architecture": "amd64"}, size=4),
            entry(unknown, size=5, annotations=annotations),
        )
    )
    assert isinstance(document, Index)
    assert [e.descriptor.size for e in document.candidates(Platform("linux", "arm", "v7"))] == [3, 2, 1]


MANIFEST = json.loads(image_manifest(b"{}", [b"a"]))
INDEX = json.loads(index(entry({"os": "linux", "architecture": "arm", "variant": "v7"}, annotations={"a": "b"})))


@given(st.binary() | spoilt(MANIFEST) | spoilt(INDEX))
def test_any_bytes_give_a_document_or_one_of_our_errors(data: bytes) -> None:
    error = ""
    try:
        parse(data)
    except PybuildError as e:
        error = str(e)
    assert "\n" not in error


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"{}", "the document has neither layers nor manifests"),
        (index(entry(size=1.5)), "manifests[0].size is no integer"),
        (index(entry(annotations={"a": 1})), 'manifests[0].annotations["a"] is no text'),
        (index(entry({"os": []})), "manifests[0].platform.os is no text"),  # type: ignore[dict-item]
        (image_manifest(b"{}", [], layers={}), "layers is no list"),
        (image_manifest(b"{}", [], layers=[{"size": 1, "digest": "md5:1"}]), "layers[0].digest: unsupported digest algorithm"),
        (image_manifest(b"{}", [], config=[]), "config is no object"),
    ],
)
def test_the_message_names_the_field(data: bytes, cause: str) -> None:
    with pytest.raises(IntegrityError, match=re.escape(f"malformed manifest: {cause}")):
        parse(data)


def test_deep_nesting_is_no_way_to_crash() -> None:
    with pytest.raises(IntegrityError):
        parse(b'{"manifests":' + b"[" * 200_000)
