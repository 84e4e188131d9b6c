"""Redirects and tries."""

from __future__ import annotations

import pytest

from builder.errors import SourceError
from builder.net.agent import same_origin
from builder.net.transport import TLS, Request, TransportError, is_loopback
from tests.builder.net.conftest import Answer, World

URL = "https://a.example/x"
SECRET = {"Authorization": "Basic c2VjcmV0", "Cookie": "c2VjcmV0", "Accept": "*/*"}


def to(url: str, status: int = 307) -> Answer:
    return Answer(status, {"Location": url})


def test_a_redirect_on_the_same_host_keeps_the_credentials(world: World) -> None:
    world.transport.on("GET", URL, to("/y"))
    world.transport.on("GET", "https://a.example/y", Answer(200, {}, b"body"))
    with world.agent.send(Request("GET", URL, SECRET)) as response:
        assert response.read(10) == b"body"
    assert world.transport.asked[1].headers["Authorization"] == SECRET["Authorization"]


@pytest.mark.parametrize(
    "target",
    [
        "https://b.example/y",
        "//b.example/y",
        "https://a.example:8443/y",
        "http://a.example/y",
        "https://a.example.evil.example/y",
        "https://a.example@b.example/y",
    ],
)
def test_a_redirect_to_another_origin_gets_no_credentials(world: World, target: str) -> None:
    world.transport.on("GET", URL, to(target))
    with world.agent.send(Request("GET", URL, SECRET, tls=TLS(keypairs=(("key", "cert"),)))):
        pass
    first, second = world.transport.asked
    assert first.headers["Authorization"]
    assert second.headers == {"Accept": "*/*"}
    assert second.tls.keypairs == ()


def test_http_to_https_of_one_host_is_one_origin_but_not_back() -> None:
    assert same_origin("http://a.example/", "https://A.example:443/x")
    assert not same_origin("https://a.example/", "http://a.example/")
    assert not same_origin("http://a.example:8080/", "https://a.example/")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://b.example/", "https://b.example:port/", "gopher:x"])
def test_a_redirect_that_is_no_http_address_is_refused(world: World, target: str) -> None:
    world.transport.on("GET", URL, to(target))
    with pytest.raises(SourceError, match="no http address"):
        world.agent.send(Request("GET", URL))


def test_redirects_end(world: World) -> None:
    world.transport.on("GET", URL, to(URL))
    with pytest.raises(SourceError, match="stopped after 10 redirects"):
        world.agent.send(Request("GET", URL))


def test_credentials_in_a_redirects_address_are_dropped(world: World) -> None:
    world.transport.on("GET", URL, to("https://user:secret@b.example/y"))
    world.transport.on("GET", "https://b.example/y", Answer(200))
    assert world.agent.send(Request("GET", URL)).status == 200


@pytest.mark.parametrize("trouble", [Answer(503), Answer(429), TransportError("reset", transient=True)])
def test_what_may_pass_is_tried_again(world: World, trouble: Answer | TransportError) -> None:
    world.transport.on("GET", URL, trouble, trouble, Answer(200))
    assert world.agent.send(Request("GET", URL)).status == 200
    assert world.slept == [0.25, 0.5]


def test_the_server_says_how_long_to_wait_but_not_for_ever(world: World) -> None:
    world.transport.on("GET", URL, Answer(429, {"Retry-After": "7"}), Answer(503, {"Retry-After": "86400"}), Answer(200))
    assert world.agent.send(Request("GET", URL)).status == 200
    assert world.slept == [7.0, 30.0]


def test_tries_end(world: World) -> None:
    world.transport.on("GET", URL, Answer(500))
    assert world.agent.send(Request("GET", URL)).status == 500
    assert len(world.transport.asked) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
def test_an_answer_is_an_answer(world: World, status: int) -> None:
    world.transport.on("GET", URL, Answer(status))
    assert world.agent.send(Request("GET", URL)).status == status
    assert world.slept == []


def test_a_refused_connection_is_not_tried_again(world: World) -> None:
    world.transport.on("GET", URL, TransportError("refused", transient=False))
    with pytest.raises(TransportError, match="refused"):
        world.agent.send(Request("GET", URL))
    assert len(world.transport.asked) == 1


def test_what_may_have_had_effect_is_not_sent_twice(world: World) -> None:
    world.transport.on("POST", URL, Answer(503))
    assert world.agent.send(Request("POST", URL)).status == 503
    assert len(world.transport.asked) == 1


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:1", "::1", "[::1]:5000"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "127.0.0.1.example", "127.0.0.300", "[::2]:1", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
