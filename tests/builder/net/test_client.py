"""The protocol: what is asked, whom, and what an unfaithful registry can not do."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from builder.errors import CancelledError, IntegrityError, NotFoundError, SourceError
from builder.net.auth import Credentials
from builder.net.transport import Request, TransportError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.state.cancel import Token, scope
from tests.builder.net.conftest import HOST, REF, Answer, World, blob_url, image_manifest

MANIFEST = image_manifest(b"{}", [])
OCI = "application/vnd.oci.image.manifest.v1+json"
URL = f"https://{HOST}/v2/team/app/manifests/1"


def read(world: World, data: bytes, offset: int = 0, size: int | None = None) -> bytes:
    descriptor = Descriptor("", Digest.of(data), len(data) if size is None else size)
    with world.client().open_blob(REF, descriptor, offset) as chunks:
        return b"".join(chunks)


# ------------------------------------------------------------------------------------------------ resolving
def test_a_tag_is_resolved_by_head_alone(world: World) -> None:
    digest = world.manifest(MANIFEST)
    assert world.client().resolve(REF) == Descriptor(OCI, digest, len(MANIFEST))
    assert [r.method for r in world.transport.asked] == ["HEAD"]
    assert OCI in world.transport.asked[0].headers["Accept"]


def test_a_registry_that_names_no_digest_is_asked_for_the_document(world: World) -> None:
    world.transport.on("HEAD", URL, Answer(200, {"Content-Type": OCI}, MANIFEST))
    world.transport.on("GET", URL, Answer(200, {"Content-Type": OCI}, MANIFEST))
    assert world.client().resolve(REF).digest == Digest.of(MANIFEST)


def test_a_missing_tag_is_not_found_in_dockers_words(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"^registry\.example/team/app:1: not found$"):
        world.client().resolve(REF)


def test_other_refusals_name_status_address_and_the_registrys_words(world: World) -> None:
    body = b'{"errors": [{"code": "X", "message": "quota\\nexceeded"}]}'
    world.transport.on("HEAD", URL, Answer(402, {}, b""))
    with pytest.raises(SourceError, match=r"unexpected status from HEAD request to \S+/manifests/1: 402"):
        world.client().resolve(REF)
    descriptor = Descriptor("", Digest.of(b"x"), 1)
    world.transport.on("GET", blob_url(descriptor.digest), Answer(418, {}, body))
    with pytest.raises(SourceError, match="quota exceeded"):
        world.client().fetch_document(REF, descriptor, 10)


def test_docker_hub_has_another_address(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"^docker\.io/library/busybox:latest: not found$"):
        world.client().resolve(Reference.parse("busybox"))
    assert world.transport.asked[0].url == "https://registry-1.docker.io/v2/library/busybox/manifests/latest"


def test_loopback_is_plain_http_unless_the_config_says_otherwise(world: World) -> None:
    ref = Reference.parse("127.0.0.1:5000/x")
    for config, scheme in (("", "http"), ('[registry."127.0.0.1:5000"]\nhttp = false', "https")):
        world.transport.asked.clear()
        with pytest.raises(NotFoundError):
            world.client(config).resolve(ref)
        assert world.transport.asked[0].url.startswith(scheme + ":")


def test_mirrors_come_first_each_by_its_own_entry(world: World) -> None:
    config = """
    [registry."registry.example"]
    mirrors = ["down.example:5000", "proxy.example/cache"]
    [registry."proxy.example"]
    http = true
    """
    world.transport.on("HEAD", "https://down.example:5000/v2/team/app/manifests/1", TransportError("refused", transient=False))
    headers = {"Content-Type": OCI, "Docker-Content-Digest": Digest.of(MANIFEST)}
    world.transport.on("HEAD", "http://proxy.example/v2/cache/team/app/manifests/1", Answer(200, headers, MANIFEST))
    assert world.client(config).resolve(REF).digest == Digest.of(MANIFEST)
    assert [r.url for r in world.transport.asked] == [
        "https://down.example:5000/v2/team/app/manifests/1?ns=registry.example",
        "http://proxy.example/v2/cache/team/app/manifests/1?ns=registry.example",
    ]


def test_of_several_failures_the_one_that_got_furthest_is_told(world: World) -> None:
    world.transport.on("HEAD", "https://mirror.example/v2/team/app/manifests/1", Answer(400))
    with pytest.raises(SourceError, match=r"mirror\.example.*400"):
        world.client(f'[registry."{HOST}"]\nmirrors = ["mirror.example"]').resolve(REF)


def test_insecure_and_http_fall_back_to_plain_where_there_is_no_tls(world: World) -> None:
    world.transport.on("HEAD", URL, TransportError("no TLS there", transient=False, tls=True))
    headers = {"Content-Type": OCI, "Docker-Content-Digest": Digest.of(MANIFEST)}
    world.transport.on("HEAD", URL.replace("https", "http"), Answer(200, headers, MANIFEST))
    client = world.client(f'[registry."{HOST}"]\nhttp = true\ninsecure = true')
    client.resolve(REF)
    client.resolve(REF)
    assert [r.url.partition(":")[0] for r in world.transport.asked] == ["https", "http", "http"]


# ------------------------------------------------------------------------------------------------ an unfaithful registry
def test_a_manifest_of_another_digest_is_refused(world: World) -> None:
    digest = world.manifest(MANIFEST)
    world.transport.on("GET", f"https://{HOST}/v2/team/app/manifests/{digest}", Answer(200, {}, MANIFEST[:-1] + b" "))
    with pytest.raises(IntegrityError, match="unexpected digest"):
        world.client().fetch_manifest(REF, Descriptor(OCI, digest, len(MANIFEST)))


@pytest.mark.parametrize("body", [MANIFEST + b" ", MANIFEST[:-1]])
def test_a_manifest_of_another_size_is_refused(world: World, body: bytes) -> None:
    digest = world.manifest(MANIFEST)
    world.transport.on("GET", f"https://{HOST}/v2/team/app/manifests/{digest}", Answer(200, {}, body))
    with pytest.raises(IntegrityError, match="bytes that its descriptor names"):
        world.client().fetch_manifest(REF, Descriptor(OCI, digest, len(MANIFEST)))


def test_a_digest_that_was_asked_for_can_not_be_swapped(world: World) -> None:
    asked = Digest.of(b"what was asked for")
    headers = {"Content-Type": OCI}
    url = f"https://{HOST}/v2/team/app/manifests/{asked}"
    world.transport.on("HEAD", url, Answer(200, {"Docker-Content-Digest": Digest.of(MANIFEST)}, b""))
    world.transport.on("GET", url, Answer(200, headers, MANIFEST))
    with pytest.raises(IntegrityError, match="expected"):
        world.client().resolve(Reference.parse(f"{HOST}/team/app@{asked}"))


def test_a_huge_manifest_is_refused_before_it_is_read(world: World) -> None:
    headers = {"Content-Type": OCI, "Docker-Content-Digest": Digest.of(b""), "Content-Length": str(1 << 30)}
    world.transport.on("HEAD", URL, Answer(200, headers))
    with pytest.raises(IntegrityError, match="rejecting 1073741824 byte manifest"):
        world.client().resolve(REF)


def endless(taken: list[int]) -> Iterator[bytes]:
    while True:
        taken.append(1)
        yield b"x" * (1 << 20)


def test_an_endless_manifest_ends(world: World) -> None:
    taken: list[int] = []
    world.transport.on("HEAD", URL, Answer(200, {"Content-Type": OCI}, lambda: iter(())))
    world.transport.on("GET", URL, Answer(200, {"Content-Type": OCI}, lambda: endless(taken)))
    with pytest.raises(IntegrityError, match="rejecting manifest of more than"):
        world.client().resolve(REF)
    assert len(taken) < 6


def test_an_endless_blob_ends_one_byte_after_its_size(world: World) -> None:
    taken: list[int] = []
    data = b"y" * 10
    world.blob(data, Answer(200, {}, lambda: endless(taken)))
    assert read(world, data) == b"x" * 11
    assert len(taken) == 1


@pytest.mark.parametrize("said", ["sha256:abc", "md5:" + "0" * 32, "../../etc/passwd"])
def test_a_digest_header_that_is_none_is_refused(world: World, said: str) -> None:
    world.transport.on("HEAD", URL, Answer(200, {"Content-Type": OCI, "Docker-Content-Digest": said}, MANIFEST))
    with pytest.raises(IntegrityError, match="not a valid digest"):
        world.client().resolve(REF)


def test_a_config_over_the_limit_is_never_asked_for(world: World) -> None:
    with pytest.raises(IntegrityError, match="more than the 100 allowed"):
        world.client().fetch_document(REF, Descriptor("", Digest.of(b""), 101), 100)
    assert world.transport.asked == []


# ------------------------------------------------------------------------------------------------ blobs
def test_a_blob_is_taken_up_where_the_connection_broke(world: World) -> None:
    data = bytes(range(100))

    def rest(request: Request) -> Answer:
        assert request.headers["Range"] == "bytes=40-"
        return Answer(206, {"Content-Range": "bytes 40-99/100"}, data[40:])

    url = blob_url(world.blob(data))
    world.transport.on("GET", url, Answer(200, {}, data[:40], fails=True), rest)
    assert read(world, data) == data


def test_a_registry_without_ranges_sends_all_and_the_known_part_is_skipped(world: World) -> None:
    data = bytes(range(100))
    world.blob(data)
    assert read(world, data, offset=30) == data[30:]


def test_another_range_than_asked_for_is_refused(world: World) -> None:
    data = bytes(range(100))
    world.blob(data, Answer(206, {"Content-Range": "bytes 0-99/100"}, data))
    with pytest.raises(SourceError, match="another range"):
        read(world, data, offset=30)


def test_a_connection_that_never_gets_on_is_given_up(world: World) -> None:
    data = b"z" * 10
    world.blob(data, Answer(200, {}, b"", fails=True))
    with pytest.raises(TransportError, match="connection broke"):
        read(world, data)
    assert len(world.slept) == 4


def test_an_empty_blob_needs_no_request(world: World) -> None:
    assert read(world, b"") == b""
    assert world.transport.asked == []


def test_blobs_of_another_host_come_without_our_credentials(world: World) -> None:
    data = b"layer"
    world.blob(data, Answer(307, {"Location": "https://cdn.example/layer?signed"}))
    world.transport.on("GET", "https://cdn.example/layer?signed", Answer(200, {}, data))
    assert read(world, data) == data


# ------------------------------------------------------------------------------------------------ pushing
def test_a_blob_that_is_there_is_not_sent(world: World) -> None:
    descriptor = Descriptor("", Digest.of(b"x"), 1)
    world.transport.on("HEAD", blob_url(descriptor.digest), Answer(200))
    assert world.client().push_blob(REF, descriptor, lambda: [b"x"]) is False
    assert [r.method for r in world.transport.asked] == ["HEAD"]


def test_a_blob_of_a_neighbour_repository_is_mounted(world: World) -> None:
    descriptor = Descriptor("", Digest.of(b"x"), 1)
    url = f"https://{HOST}/v2/team/app/blobs/uploads/?mount={descriptor.digest}&from=team/base"
    world.transport.on("POST", url, Answer(201))
    assert world.client().push_blob(REF, descriptor, lambda: [b"x"], mount_from="team/base") is False


def test_a_blob_is_uploaded_where_the_registry_says(world: World) -> None:
    descriptor = Descriptor("", Digest.of(b"x"), 1)
    world.transport.on("POST", f"https://{HOST}/v2/team/app/blobs/uploads/", Answer(202, {"Location": "/upload/7?state=s"}))
    url = f"https://{HOST}/upload/7?state=s&digest={descriptor.digest}"
    world.transport.on("PUT", url, Answer(201))
    assert world.client().push_blob(REF, descriptor, lambda: [b"x"]) is True
    assert world.transport.asked[-1].headers["Content-Length"] == "1"


def test_a_manifest_that_the_registry_calls_otherwise_is_an_error(world: World) -> None:
    world.transport.on("PUT", URL, Answer(201, {"Docker-Content-Digest": Digest.of(b"other")}))
    with pytest.raises(IntegrityError, match="expected " + Digest.of(MANIFEST)):
        world.client().push_manifest(REF, MANIFEST, manifests.OCI_MANIFEST)


# ------------------------------------------------------------------------------------------------ faults of real registries
UPLOADS = f"https://{HOST}/v2/team/app/blobs/uploads/"
PLACE = f"https://{HOST}/v2/team/app/blobs/uploads/place"


def asked(world: World, method: str) -> list[str]:
    return [r.url for r in world.transport.asked if r.method == method]


@pytest.mark.parametrize("trouble", [Answer(429), Answer(500), Answer(503), TransportError("reset", transient=True)])
def test_beginning_an_upload_is_tried_again(world: World, trouble: Answer | TransportError) -> None:
    world.transport.on("POST", UPLOADS, trouble, Answer(202, {"Location": PLACE}))
    world.transport.on("PUT", PLACE, Answer(201))
    assert world.client().push_blob(REF, Descriptor("t", Digest.of(b"x"), 1), lambda: [b"x"])
    assert len(asked(world, "POST")) == 2


@pytest.mark.parametrize("trouble", [TransportError("cut", transient=True), Answer(404), Answer(503)])
def test_an_upload_that_was_cut_is_begun_anew_at_another_place(world: World, trouble: Answer | TransportError) -> None:
    world.transport.on("POST", UPLOADS, Answer(202, {"Location": PLACE + "1"}), Answer(202, {"Location": PLACE + "2"}))
    world.transport.on("PUT", PLACE + "1", trouble)
    world.transport.on("PUT", PLACE + "2", Answer(201))
    assert world.client().push_blob(REF, Descriptor("t", Digest.of(b"x"), 1), lambda: [b"x"])
    assert [url.partition("?")[0] for url in asked(world, "PUT")] == [PLACE + "1", PLACE + "2"]


def test_uploads_that_never_get_through_end_with_the_last_cause(world: World) -> None:
    world.transport.on("POST", UPLOADS, Answer(202, {"Location": PLACE}))
    world.transport.on("PUT", PLACE, TransportError("cut", transient=True))
    with pytest.raises(TransportError, match="cut"):
        world.client().push_blob(REF, Descriptor("t", Digest.of(b"x"), 1), lambda: [b"x"])
    assert len(asked(world, "PUT")) == 4


@pytest.mark.parametrize("status", [401, 403])
def test_a_mount_that_is_refused_is_done_without(world: World, status: int) -> None:
    world.transport.on("POST", UPLOADS, lambda r: Answer(status) if "mount=" in r.url else Answer(202, {"Location": PLACE}))
    world.transport.on("PUT", PLACE, Answer(201))
    assert world.client().push_blob(REF, Descriptor("t", Digest.of(b"x"), 1), lambda: [b"x"], mount_from="base")


@pytest.mark.parametrize("status", [405, 501])
def test_a_registry_without_head_is_asked_by_get(world: World, status: int) -> None:
    manifest = image_manifest(b"{}", [b"layer"])
    digest = world.manifest(manifest)
    world.transport.on("HEAD", f"https://{HOST}/v2/team/app/manifests/1", Answer(status))
    assert world.client().resolve(REF).digest == digest


def test_a_refusal_is_told_in_the_registrys_words_which_head_can_not_say(world: World) -> None:
    url = f"https://{HOST}/v2/team/app/manifests/1"
    world.transport.on("HEAD", url, Answer(403))
    world.transport.on("GET", url, Answer(403, {}, b'{"errors":[{"code":"DENIED","message":"ask the owner"}]}'))
    with pytest.raises(SourceError, match="ask the owner"):
        world.client().resolve(REF)


def test_a_manifest_that_is_there_is_not_put_again(world: World) -> None:
    manifest = image_manifest(b"{}", [b"layer"])
    digest = world.manifest(manifest)
    assert world.client().push_manifest(REF, manifest, "application/vnd.oci.image.manifest.v1+json").digest == digest
    assert asked(world, "PUT") == []


def test_a_document_by_digest_is_read_one_byte_beyond_its_size(world: World) -> None:
    taken: list[int] = []
    descriptor = Descriptor(OCI, Digest.of(MANIFEST), len(MANIFEST))
    url = f"https://{HOST}/v2/team/app/manifests/{descriptor.digest}"
    world.transport.on("GET", url, Answer(200, {}, lambda: endless(taken)))
    with pytest.raises(IntegrityError, match="more than the"):
        world.client().fetch_manifest(REF, descriptor)
    assert len(taken) == 1


def test_a_manifest_that_an_index_calls_huge_is_never_asked_for(world: World) -> None:
    with pytest.raises(IntegrityError, match="rejecting 1073741824 bytes"):
        world.client().fetch_manifest(REF, Descriptor(OCI, Digest.of(b""), 1 << 30))
    assert world.transport.asked == []


CERTIFICATE = f'[registry."{HOST}"]\nkeypair = [{{ key = "/k", cert = "/c" }}]\n'


@pytest.mark.parametrize("place", ["https://storage.example/upload", f"http://{HOST}/upload", f"https://{HOST}:444/upload"])
def test_an_upload_that_lies_elsewhere_gets_no_credentials(world: World, place: str) -> None:
    data = b"layer"
    descriptor = Descriptor("", Digest.of(data), len(data))
    url = f"https://{HOST}/v2/team/app/blobs/uploads/"
    challenge = Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
    world.transport.on("HEAD", f"https://{HOST}/v2/team/app/blobs/{descriptor.digest}", challenge, Answer(404))
    world.transport.on("POST", url, Answer(202, {"Location": place}))
    world.transport.on("PUT", place, Answer(201))
    client = world.client(CERTIFICATE, Credentials("me", "secret"))
    assert client.push_blob(REF, descriptor, lambda: [data])
    put = world.transport.asked[-1]
    assert (put.method, put.headers.get("Authorization"), put.tls.keypairs) == ("PUT", None, ())
    assert world.transport.asked[-2].tls.keypairs == (("/k", "/c"),)
    assert "Authorization" in world.transport.asked[-2].headers


# ------------------------------------------------------------------------------------------------ limits
def test_a_download_that_waits_for_its_turn_can_be_called_off(world: World) -> None:
    """Those before it may be stalled for good. The second waits in the same thread: it would wait for ever."""
    client = world.client("[system]\n  maxRegistryConcurrency = 1\n")
    first, second = (Descriptor("", world.blob(data), len(data)) for data in (b"one", b"two"))
    token = Token()
    with client.open_blob(REF, first) as chunks:
        threading.Timer(0.01, token.set).start()
        with scope(token), pytest.raises(CancelledError), client.open_blob(REF, second):
            pass
        assert b"".join(chunks) == b"one"
    with client.open_blob(REF, second) as chunks:
        assert b"".join(chunks) == b"two"
