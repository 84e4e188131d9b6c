"""resolv.conf and hosts of a sandbox, byte for byte BuildKit's."""

from __future__ import annotations

import pytest

from runtime.netfiles import hosts, transform_resolv_conf

PUBLIC = "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n"


def test_hosts_names_the_sandbox_and_the_extra_hosts_in_order() -> None:
    assert hosts("", (("db", "10.0.0.2"), ("v6", "::2"))) == (
        "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.2\tdb\n::2\tv6\n"
    )
    assert hosts("other").startswith("127.0.0.1\tlocalhost other\n")


@pytest.mark.parametrize(
    ("text", "network", "result"),
    [
        ("# c\nnameserver 10.0.0.1\nsearch a b\n", "sandbox", "nameserver 10.0.0.1\nsearch a b\n"),
        ("nameserver 127.0.0.1\nnameserver ::1\nnameserver 10.0.0.1\n", "sandbox", "nameserver 10.0.0.1\n"),
        ("nameserver 127.0.0.1\n", "sandbox", PUBLIC),
        ("nameserver 127.0.0.1\n", "none", PUBLIC),
        ("nameserver 127.0.0.1\n", "host", "nameserver 127.0.0.1\n"),
        ("", "host", PUBLIC),
        ("nameserver nonsense\nnameserver 10.0.0.1 # x\n", "sandbox", "nameserver 10.0.0.1\n"),
        ("domain d\nsearch x\nsearch y z\nnameserver 1.1.1.1\n", "sandbox", "nameserver 1.1.1.1\nsearch y z\n"),
        (
            "options ndots:1\nnameserver 1.1.1.1\noptions edns0\nsortlist 1.0.0.0\n",
            "sandbox",
            "nameserver 1.1.1.1\noptions ndots:1 edns0\nsortlist 1.0.0.0\n",
        ),
    ],
)
def test_resolv_conf_is_rewritten(text: str, network: str, result: str) -> None:
    assert transform_resolv_conf(text, network) == result
