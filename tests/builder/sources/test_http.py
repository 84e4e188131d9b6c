"""Files by http: names, keys, and what is asked again."""

from __future__ import annotations

import glob
import gzip
import hashlib
import os

import pytest

from builder.errors import AuthError, IntegrityError, NotFoundError, SourceError
from builder.graph.ops import HTTPSource
from builder.net.transport import Request
from builder.oci.digest import Digest
from builder.session import Session
from builder.sources.http import HTTPFetcher, file_name, parse_http_time, safe_name
from builder.worker import Worker
from tests.builder.net.conftest import Answer, World
from tests.builder.sources.conftest import files

URL = "https://files.example/dir/tool.tar"
DATE = "Tue, 02 Jan 2024 03:04:05 GMT"


def fetcher(worker: Worker, world: World, source: HTTPSource | None = None, session: Session | None = None) -> HTTPFetcher:
    return HTTPFetcher(worker, session or Session(), source or HTTPSource(URL), world.agent)


def serve(world: World, data: bytes, url: str = URL, **headers: str) -> None:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    for method in ("GET", "HEAD"):
        world.transport.on(method, url, Answer(200, given, data))


def methods(world: World) -> list[str]:
    return [r.method for r in world.transport.asked]


# ------------------------------------------------------------------------------------------------ the file
def test_the_file_has_the_sources_mode_and_the_servers_time(worker: Worker, world: World) -> None:
    serve(world, b"data", Last_Modified=DATE)
    ref = fetcher(worker, world, HTTPSource(URL, filename="x", mode=0o741)).snapshot()
    with ref.mount() as folder:
        status = os.stat(f"{folder}/x")
        assert (status.st_mode & 0o7777, status.st_mtime) == (0o741, 1704164645)
    ref.release()


def test_without_last_modified_the_time_is_the_epoch(worker: Worker, world: World) -> None:
    serve(world, b"data")
    ref = fetcher(worker, world).snapshot()
    with ref.mount() as folder:
        assert os.stat(f"{folder}/tool.tar").st_mtime == 0
    ref.release()


@pytest.mark.parametrize(
    ("url", "disposition", "name"),
    [
        ("https://h/a/b.txt?x=1#y", "", "b.txt"),
        ("https://h/a/b%20c", "", "b c"),
        ("https://h/", "", "download"),
        ("https://h", "", "download"),
        ("https://h/..", "", "download"),
        ("https://h/%2e%2e%2fetc%2fpasswd", "", "passwd"),
        ("https://h/a%0ab", "", "download"),
        ("https://h/a", 'attachment; filename="x.zip"', "x.zip"),
        ("https://h/a", 'attachment; filename="../../x.zip"', "x.zip"),
        ("https://h/a", "attachment; filename*=UTF-8''caf%C3%A9", "café"),
        ("https://h/a", "attachment", "a"),
    ],
)
def test_the_name_comes_from_the_response_or_the_address(url: str, disposition: str, name: str) -> None:
    assert file_name(HTTPSource(url), {"content-disposition": disposition} if disposition else {}) == name
    assert file_name(HTTPSource(url, filename="given"), {"content-disposition": disposition}) == "given"


@pytest.mark.parametrize("text", ["", ".", "..", "/", "a/..", "a\x00b", "a\x85b", "n" * 256])
def test_a_name_that_is_none_becomes_download(text: str) -> None:
    assert safe_name(text) == "download"


def test_a_body_packed_for_the_way_is_unpacked(worker: Worker, world: World) -> None:
    serve(world, gzip.compress(b"data"), Content_Encoding="gzip")
    f = fetcher(worker, world)
    assert f.resolve().digest == Digest.of(b"data")
    ref = f.snapshot()
    assert files(ref) == {"tool.tar": "data"}
    ref.release()
    f.close()


def test_a_packed_body_that_broke_off_is_an_error(worker: Worker, world: World) -> None:
    serve(world, gzip.compress(b"data" * 1000)[:-10], Content_Encoding="gzip")
    with pytest.raises(SourceError, match="broke off"):
        fetcher(worker, world).resolve()


# ------------------------------------------------------------------------------------------------ keys and asking
def test_equal_files_have_equal_keys_wherever_they_lie(worker: Worker, world: World) -> None:
    other = "https://mirror.example/tool.tar"
    serve(world, b"data")
    serve(world, b"data", other)
    key = fetcher(worker, world).key()
    assert key == fetcher(worker, world, HTTPSource(other)).key()
    assert key != fetcher(worker, world, HTTPSource(URL, mode=0o755)).key()
    assert key != fetcher(worker, world, HTTPSource(URL, filename="other")).key()


def test_a_known_etag_is_compared_by_head_and_nothing_is_downloaded(worker: Worker, world: World) -> None:
    serve(world, b"data", ETag='W/"one"', Last_Modified=DATE)
    first = fetcher(worker, world)
    key = first.key()
    first.close()
    world.transport.asked.clear()
    second = fetcher(worker, world)
    assert second.key() == key
    ref = second.snapshot()
    assert files(ref) == {"tool.tar": "data"}
    ref.release()
    assert methods(world) == ["HEAD"]
    assert world.transport.asked[0].headers["If-None-Match"] == '"one"'


def test_a_server_that_refuses_head_may_say_304(worker: Worker, world: World) -> None:
    serve(world, b"data", ETag='"one"')
    first = fetcher(worker, world)
    first.resolve()
    first.close()
    world.transport.on("HEAD", URL, Answer(405))
    world.transport.on("GET", URL, Answer(304))
    assert fetcher(worker, world).resolve().digest == Digest.of(b"data")


def test_a_new_etag_is_a_new_download(worker: Worker, world: World) -> None:
    serve(world, b"old", ETag='"one"')
    fetcher(worker, world).resolve()
    serve(world, b"new", ETag='"two"')
    assert fetcher(worker, world).resolve().digest == Digest.of(b"new")


def test_with_a_checksum_the_key_asks_nobody(worker: Worker, world: World) -> None:
    source = HTTPSource(URL, checksum=Digest.of(b"data"))
    fetcher(worker, world, source).key()
    assert world.transport.asked == []
    serve(world, b"data")
    ref = fetcher(worker, world, source).snapshot()
    assert files(ref) == {"tool.tar": "data"}
    ref.release()


def test_another_checksum_is_an_error_in_buildkits_words(worker: Worker, world: World) -> None:
    serve(world, b"data")
    wanted = Digest.of(b"other")
    with pytest.raises(IntegrityError, match=f"^digest mismatch {Digest.of(b'data')}: {wanted}$"):
        fetcher(worker, world, HTTPSource(URL, checksum=wanted)).snapshot()


def test_checksums_of_other_algorithms_are_checked(worker: Worker, world: World) -> None:
    serve(world, b"data")
    checksum = Digest("sha512:" + hashlib.sha512(b"data").hexdigest())
    fetcher(worker, world, HTTPSource(URL, checksum=checksum)).snapshot().release()


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (410, NotFoundError), (403, AuthError), (501, SourceError)])
def test_refusals_name_the_status(worker: Worker, world: World, status: int, kind: type[SourceError]) -> None:
    world.transport.on("GET", URL, Answer(status))
    with pytest.raises(kind, match=f"invalid response status {status}"):
        fetcher(worker, world).resolve()


# ------------------------------------------------------------------------------------------------ secrets
def test_secrets_for_the_host_are_sent_there_only(worker: Worker, world: World) -> None:
    world.transport.on("GET", URL, Answer(302, {"Location": "https://cdn.example/f"}))
    world.transport.on("GET", "https://cdn.example/f", Answer(200, {}, b"data"))
    secrets = {"HTTP_AUTH_TOKEN_files.example": b"s3cret", "HTTP_AUTH_TOKEN_cdn.example": b"other"}
    fetcher(worker, world, session=Session(secret=secrets.get)).resolve()
    assert world.transport.asked[0].headers["Authorization"] == "Bearer s3cret"
    assert world.transport.hosts_that_saw("s3cret") == {"files.example"}
    assert world.transport.hosts_that_saw("other") == set()


def test_a_named_secret_that_is_missing_is_an_error(worker: Worker, world: World) -> None:
    with pytest.raises(AuthError, match="failed to retrieve HTTP auth secret mine"):
        fetcher(worker, world, HTTPSource(URL, auth_header_secret="mine")).resolve()


def test_a_secret_with_a_line_break_is_no_header(worker: Worker, world: World) -> None:
    session = Session(secret={"mine": b"a\r\nX-Evil: 1"}.get)
    with pytest.raises(AuthError, match="line break"):
        fetcher(worker, world, HTTPSource(URL, auth_header_secret="mine"), session).resolve()


def test_credentials_in_the_address_become_a_header_and_are_never_shown(worker: Worker, world: World) -> None:
    source = HTTPSource("https://me:s3cret@files.example/x")

    def look(request: Request) -> Answer:
        assert request.headers["Authorization"] == "Basic bWU6czNjcmV0"
        return Answer(500)

    world.transport.on("GET", "https://files.example/x", look)
    with pytest.raises(SourceError) as e:
        fetcher(worker, world, source).resolve()
    assert "s3cret" not in str(e.value)
    for name in glob.glob(worker.layout.database + "*"):
        with open(name, "rb") as file:
            assert b"s3cret" not in file.read()


@pytest.mark.parametrize("text", ["", "yesterday", "Tue, 99 Jan 2024"])
def test_times_that_are_none(text: str) -> None:
    assert parse_http_time(text) is None
