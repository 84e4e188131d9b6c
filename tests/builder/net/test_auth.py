"""Credentials: where they are found, and who ever gets to see them."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterator

import pytest

from builder.errors import AuthError, SourceError, UsageError
from builder.net.auth import NONE, Credentials, DockerConfig, parse_challenges
from builder.net.transport import Request
from builder.oci.digest import Digest
from tests.builder.net.conftest import HOST, REF, Answer, World, image_manifest

AUTH = base64.b64encode(b"me:secret").decode()
ME = Credentials("me", "secret")
MANIFEST_URL = f"https://{HOST}/v2/team/app/manifests/1"
REALM = "https://tokens.example/token"
BEARER = f'Bearer realm="{REALM}",service="registry",scope="repository:team/app:pull"'


def config_of(tmp_path: object, document: object) -> DockerConfig:
    with open(f"{tmp_path}/config.json", "w") as file:
        json.dump(document, file)
    return DockerConfig(str(tmp_path))


# ------------------------------------------------------------------------------------------------ config.json
@pytest.mark.parametrize("key", ["quay.example", "https://quay.example", "https://quay.example/v1/", "http://quay.example/v2/"])
def test_an_entry_is_found_by_its_host(tmp_path: object, key: str) -> None:
    config = config_of(tmp_path, {"auths": {key: {"auth": AUTH}}})
    assert config.credentials("quay.example", "team/app") == ME
    assert config.credentials("quay.example:443", "team/app") == NONE
    assert config.credentials("example", "team/app") == NONE


def test_docker_hub_is_known_by_its_old_address(tmp_path: object) -> None:
    config = config_of(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}}})
    assert config.credentials("docker.io", "library/busybox") == ME


def test_an_entry_with_a_path_counts_below_that_path_only(tmp_path: object) -> None:
    document = {"auths": {"quay.example/team": {"auth": AUTH}, "quay.example/team/sub": {"username": "sub", "password": "p"}}}
    config = config_of(tmp_path, document)
    assert config.credentials("quay.example", "team/app") == ME
    assert config.credentials("quay.example", "team/sub/app").username == "sub"
    assert config.credentials("quay.example", "teammate/app") == NONE
    assert config.credentials("quay.example", "other") == NONE


def test_no_file_is_no_credentials(tmp_path: object) -> None:
    assert DockerConfig(f"{tmp_path}/nowhere").credentials("a", "b") == NONE


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_broken_file_is_told_in_one_line(tmp_path: object, text: str) -> None:
    with open(f"{tmp_path}/config.json", "w") as file:
        file.write(text)
    with pytest.raises(UsageError) as e:
        DockerConfig(str(tmp_path)).credentials("a", "b")
    assert "\n" not in str(e.value)


def helper(tmp_path: object, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = f"{tmp_path}/docker-credential-test"
    with open(path, "w") as file:
        file.write("#!/bin/sh\n" + script)
    os.chmod(path, stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_a_helper_is_asked_for_its_registry(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'read server; echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"$1 $server\\"}"')
    config = config_of(tmp_path, {"credHelpers": {"quay.example": "test"}})
    assert config.credentials("quay.example", "x") == Credentials("me", "get quay.example")
    assert config.credentials("docker.io", "x") == NONE


def test_the_store_serves_all_registries_and_may_give_an_identity_token(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'cat >/dev/null; echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"refresh\\"}"')
    config = config_of(tmp_path, {"credsStore": "test"})
    assert config.credentials("anything", "x") == Credentials(identity_token="refresh")


def test_what_the_helper_lacks_the_file_may_have(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    config = config_of(tmp_path, {"credsStore": "test", "auths": {"quay.example": {"auth": AUTH}}})
    assert config.credentials("quay.example", "x") == ME


@pytest.mark.parametrize(("name", "what"), [("nowhere", "not installed"), ("../evil", "no name of a program")])
def test_a_helper_that_cant_be_run_is_named(tmp_path: object, name: str, what: str) -> None:
    with pytest.raises((AuthError, UsageError), match=what):
        config_of(tmp_path, {"credsStore": name}).credentials("a", "b")


def test_what_a_failing_helper_says_is_not_repeated(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo my-password >&2; exit 3")
    with pytest.raises(AuthError) as e:
        config_of(tmp_path, {"credsStore": "test"}).credentials("a", "b")
    assert "exit code 3" in str(e.value)
    assert "my-password" not in str(e.value)


# ------------------------------------------------------------------------------------------------ challenges
def test_challenges_are_parsed() -> None:
    bearer, basic = parse_challenges('Bearer realm="https://a/t",service="s, x",scope="r:a:pull,push", Basic realm="say \\"hi\\""')
    assert bearer.scheme == "bearer"
    assert bearer.parameters == {"realm": "https://a/t", "service": "s, x", "scope": "r:a:pull,push"}
    assert basic.parameters == {"realm": 'say "hi"'}


def protected(header: str) -> tuple[Answer, object]:
    """An answer that wants ``header``, and one that looks at it."""

    def look(request: Request) -> Answer:
        if request.headers.get("Authorization") == header:
            data = image_manifest(b"{}", [])
            return Answer(200, {"Content-Type": "application/vnd.oci.image.manifest.v1+json",
                                "Docker-Content-Digest": Digest.of(data)}, data)  # fmt: skip
        return Answer(401, {"WWW-Authenticate": BEARER})

    return Answer(401, {"WWW-Authenticate": BEARER}), look


def test_an_anonymous_token_is_fetched_and_kept(world: World) -> None:
    _, look = protected("Bearer t0ken")
    world.transport.on("HEAD", MANIFEST_URL, look)  # type: ignore[arg-type]
    world.transport.on("GET", REALM, Answer(200, {}, b'{"token": "t0ken", "expires_in": 300}'))
    client = world.client()
    client.resolve(REF)
    client.resolve(REF)
    assert [r.url for r in world.transport.asked if r.url.startswith(REALM)] == [
        f"{REALM}?service=registry&scope=repository%3Ateam%2Fapp%3Apull"
    ]
    assert "Authorization" not in world.transport.asked[1].headers


def test_the_token_service_that_the_registry_names_gets_the_credentials(world: World) -> None:
    _, look = protected("Bearer t0ken")
    world.transport.on("HEAD", MANIFEST_URL, look)  # type: ignore[arg-type]
    world.transport.on("GET", REALM, Answer(200, {}, b'{"access_token": "t0ken"}'))
    world.client(credentials=ME).resolve(REF)
    assert world.transport.hosts_that_saw(AUTH) == {"tokens.example"}


def test_an_identity_token_goes_by_post(world: World) -> None:
    _, look = protected("Bearer t0ken")
    world.transport.on("HEAD", MANIFEST_URL, look)  # type: ignore[arg-type]
    world.transport.on("POST", REALM, Answer(200, {}, b'{"access_token": "t0ken"}'))
    world.client(credentials=Credentials(identity_token="refresh-me")).resolve(REF)
    assert b"grant_type=refresh_token" in world.transport.asked[1].body  # type: ignore[operator]


def test_a_post_with_a_secret_follows_no_redirect(world: World) -> None:
    world.transport.on("HEAD", MANIFEST_URL, Answer(401, {"WWW-Authenticate": BEARER}))
    world.transport.on("POST", REALM, Answer(307, {"Location": "https://evil.example/"}))
    with pytest.raises(AuthError):
        world.client(credentials=Credentials(identity_token="refresh-me")).resolve(REF)
    assert world.transport.hosts_that_saw("refresh-me") == {"tokens.example"}


def test_credentials_are_not_sent_to_a_token_service_without_tls(world: World) -> None:
    world.transport.on("HEAD", MANIFEST_URL, Answer(401, {"WWW-Authenticate": 'Bearer realm="http://tokens.example/"'}))
    with pytest.raises(AuthError, match="without TLS"):
        world.client(credentials=ME).resolve(REF)
    assert world.transport.hosts_that_saw(AUTH) == set()


def test_basic_is_answered_where_there_are_credentials(world: World) -> None:
    _, look = protected("Basic " + AUTH)
    world.transport.on("HEAD", MANIFEST_URL, Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}), look)  # type: ignore[arg-type]
    world.client(credentials=ME).resolve(REF)
    assert world.transport.hosts_that_saw(AUTH) == {HOST}


def test_the_challenge_of_another_host_is_not_answered(world: World) -> None:
    digest = world.blob(b"x", Answer(307, {"Location": "https://cdn.example/x"}))
    world.transport.on("GET", "https://cdn.example/x", Answer(401, {"WWW-Authenticate": f'Basic realm="x", {BEARER}'}))
    from builder.oci.descriptor import Descriptor

    with pytest.raises(AuthError):
        world.client(credentials=ME).fetch_document(REF, Descriptor("", digest, 1), 10)
    assert world.transport.hosts_that_saw(AUTH) == set()
    assert {r.url.split("/")[2] for r in world.transport.asked} == {HOST, "cdn.example"}


def test_refused_credentials_are_not_offered_for_ever(world: World) -> None:
    world.transport.on("HEAD", MANIFEST_URL, Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}))
    with pytest.raises(AuthError, match=r"team/app:1: pull access denied, repository does not exist or may require"):
        world.client(credentials=ME).resolve(REF)
    assert len(world.transport.asked) == 2


def test_credentials_of_one_registry_are_not_for_its_mirror(world: World) -> None:
    mirror = "https://mirror.example/v2/team/app/manifests/1"
    world.transport.on("HEAD", mirror, Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}))
    world.manifest(image_manifest(b"{}", []))
    world.client(f'[registry."{HOST}"]\nmirrors = ["mirror.example"]', ME).resolve(REF)
    assert world.transport.hosts_that_saw(AUTH) == set()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": "a\\nb"}', b'{"token": 7}', b"\xff"])
def test_a_malformed_token_answer_is_an_error(world: World, body: bytes) -> None:
    from builder.errors import SourceError

    world.transport.on("HEAD", MANIFEST_URL, Answer(401, {"WWW-Authenticate": BEARER}))
    world.transport.on("GET", REALM, Answer(200, {}, body))
    with pytest.raises(SourceError):
        world.client().resolve(REF)


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "ftp://tokens.example/", "https://me@tokens.example/", "tokens.example"])
def test_a_token_service_that_is_no_http_address_is_refused(world: World, realm: str) -> None:
    world.transport.on("HEAD", MANIFEST_URL, Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}))
    with pytest.raises(AuthError, match="is no http address"):
        world.client(credentials=ME).resolve(REF)
    assert {r.url for r in world.transport.asked} == {MANIFEST_URL}


def test_a_token_without_end_is_an_error(world: World) -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while len(taken) < 1000:
            taken.append(1)
            yield b" " * (1 << 16)

    world.transport.on("HEAD", MANIFEST_URL, Answer(401, {"WWW-Authenticate": BEARER}))
    world.transport.on("GET", REALM, Answer(200, {}, endless))
    with pytest.raises(SourceError, match="malformed"):
        world.client().resolve(REF)
    assert len(taken) < 100
