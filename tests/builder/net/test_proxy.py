"""Which URLs go through a proxy: Go's rules, entry by entry."""

from __future__ import annotations

import pytest

from builder.errors import UsageError
from builder.net.proxy import proxy_for, uses_proxy


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "uses"),
    [
        ("", "example.org", 443, True),
        ("*", "example.org", 443, False),
        ("example.org", "example.org", 443, False),
        ("example.org", "sub.example.org", 443, False),
        ("example.org", "badexample.org", 443, True),
        (".example.org", "sub.example.org", 443, False),
        (".example.org", "example.org", 443, True),
        ("*.example.org", "sub.example.org", 443, False),
        ("*.example.org", "example.org", 443, True),
        ("EXAMPLE.org", "example.ORG", 443, False),
        ("example.org:443", "example.org", 443, False),
        ("example.org:5000", "example.org", 443, True),
        (" a , example.org ", "example.org", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, False),
        ("10.0.0.0/8", "11.1.2.3", 80, True),
        ("10.0.0.0/8", "ten.example", 80, True),
        ("10.1.2.3", "10.1.2.3", 80, False),
        ("10.1.2.3:5000", "10.1.2.3", 5000, False),
        ("10.1.2.3:5000", "10.1.2.3", 80, True),
        ("fd00::/8", "fd00::1", 80, False),
        ("fd00::/8", "fe00::1", 80, True),
        ("[::2]", "::2", 80, False),
        ("fd00::1", "fd00::1", 80, False),
        ("[fd00::1]:5000", "fd00::1", 5000, False),
        ("[fd00::1]:5000", "fd00::1", 80, True),
        ("1/2/3,:,::::,[", "example.org", 443, True),
        ("", "localhost", 80, False),
        ("", "127.5.5.5", 80, False),
        ("", "::1", 80, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, uses: bool) -> None:
    assert uses_proxy(host, port, no_proxy) is uses


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "http://example.org/", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://example.org/", "http://p:3128"),
        ({"http_proxy": "http://p:3128"}, "http://example.org/", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "https://example.org/", None),
        ({"HTTPS_PROXY": "p:3128"}, "https://example.org/", "http://p:3128"),
        ({"HTTPS_PROXY": "socks5h://p:1080"}, "https://example.org/", "socks5h://p:1080"),
        ({"ALL_PROXY": "socks5://p:1080"}, "http://example.org/", "socks5://p:1080"),
        ({"ALL_PROXY": "socks5://p:1080", "HTTP_PROXY": "http://q:1"}, "http://example.org/", "http://q:1"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "example.org"}, "http://example.org/", None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "[fd00::1]:5000"}, "http://[fd00::1]:5000/v2/", None),
        ({"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, "http://example.org/", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://[::1]:5000/v2/", None),
    ],
)
def test_the_proxy_of_a_url(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert proxy_for(url, environ) == proxy


@pytest.mark.parametrize("value", ["ftp://p:1", "http://", "http://p:port", "http://[::1"])
def test_a_proxy_that_can_not_be_used_is_named(value: str) -> None:
    with pytest.raises(UsageError, match="HTTP_PROXY"):
        proxy_for("http://example.org/", {"HTTP_PROXY": value})
