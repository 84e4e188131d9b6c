"""Which proxy a URL is asked through: Go's rules (golang.org/x/net/http/httpproxy), as docker and buildkitd follow them.

HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in upper or lower case; ALL_PROXY where the scheme's own is not set, as curl has it.
NO_PROXY is a comma list of ``*``, addresses, CIDR blocks, and names that stand for themselves and all below them (``.name`` and
``*.name``: only below), each with an optional port. Loopback is never asked through a proxy. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from builder.errors import UsageError

SCHEMES = ("http", "https", "socks5", "socks5h")


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy's URL, or None to go there directly. UsageError for a proxy that can't be understood."""
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)
    names = ("HTTPS_PROXY", "ALL_PROXY") if parts.scheme == "https" else ("HTTP_PROXY", "ALL_PROXY")
    name, value = next(((n, v) for n in names if (v := _variable(n, environ))), ("", ""))
    if not value or not host or not uses_proxy(host, port, _variable("NO_PROXY", environ)):
        return None
    # A CGI program's HTTP_PROXY may be a header of its caller (CVE-2016-5386).
    if name == "HTTP_PROXY" and environ.get("REQUEST_METHOD"):
        return None
    return _proxy_url(name, value)


def uses_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Does NO_PROXY let ``host`` (a name, or an address without brackets) be asked through a proxy?"""
    host = host.lower()
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_matches(entry.strip().lower(), host, address, port) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(entry)
    if wanted is not None and wanted != port:
        return False
    own = _address(name)
    if own is not None:
        return own == address
    if address is not None or not name:
        return False
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith("." + name)


def _split_port(entry: str) -> tuple[str, int | None]:
    """``host``, ``host:443``, ``[::1]``, ``[::1]:5000``, ``fd00::1`` -> (host without brackets, port)."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, int(rest[1:]) if rest[:1] == ":" and rest[1:].isdecimal() else None
    name, colon, port = entry.rpartition(":")
    if colon and ":" not in name and port.isdecimal():
        return name, int(port)
    return entry, None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(name) or environ.get(name.lower()) or ""


def _proxy_url(name: str, value: str) -> str:
    text = value if "://" in value else "http://" + value
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is no number
    except ValueError as e:
        raise UsageError(f"{name} is no URL of a proxy: {e}") from None
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise UsageError(f"{name} names a proxy that can't be used", hint="schemes are " + ", ".join(SCHEMES))
    return text
