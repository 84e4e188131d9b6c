"""Ports of EXPOSE: ``[[ip:]host:]port[-port][/proto]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.text.quoting import quote
from frontend.errors import ConvertError
from frontend.lint import rules

if TYPE_CHECKING:
    from frontend.errors import Range
    from frontend.lint import Linter

_PROTOCOLS = ("tcp", "udp", "sctp")
_MAX_PORT = 65535


def exposed_ports(words: Sequence[str], location: Sequence[Range], lint: Linter) -> list[str]:
    """``port/proto`` for each port of each word. Addresses and host ports are checked and dropped, as docker does."""
    return [port for word in words for port in _ports(word, location, lint)]


def _ports(word: str, location: Sequence[Range], lint: Linter) -> list[str]:
    ip, host_port, container = _parts(word)
    port, _, protocol = container.partition("/")
    if not port:
        raise ConvertError(f"invalid port: {quote(word)}: no port specified")
    protocol = protocol or "tcp"
    if protocol.lower() not in _PROTOCOLS:
        raise ConvertError(f"invalid port: {quote(word)}: invalid proto: {protocol}")
    if protocol != protocol.lower():
        lint.run(rules.EXPOSE_PROTO_CASING, location, word)
    if ip or host_port:
        lint.run(rules.EXPOSE_INVALID_FORMAT, location, word)
    if ip:
        _check_address(ip)
    ports = _range(port)
    if ports is None:
        raise ConvertError(f"invalid containerPort: {port}")
    if host_port:
        host_ports = _range(host_port)
        if host_ports is None:
            raise ConvertError(f"invalid hostPort: {host_port}")
        if len(host_ports) != len(ports) > 1:
            raise ConvertError(f"invalid ranges specified for container and host Ports: {port} and {host_port}")
    return [f"{number}/{protocol.lower()}" for number in ports]


def _parts(word: str) -> tuple[str, str, str]:
    parts = word.split(":")
    return ":".join(parts[:-2]), parts[-2] if len(parts) > 1 else "", parts[-1]


def _check_address(ip: str) -> None:
    import ipaddress

    bare = ip
    if ip.startswith("["):
        if not ip.endswith("]"):
            raise ConvertError(f"invalid IP address {ip}: address {ip}:: missing ']' in address")
        bare = ip[1:-1]
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        raise ConvertError(f"invalid IP address: {bare}") from None


def _range(text: str) -> range | None:
    first, dash, last = text.partition("-")
    start = _number(first)
    end = _number(last) if dash and last != first else start
    return None if start is None or end is None or end < start else range(start, end + 1)


def _number(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("+", "-") else text  # strconv.ParseInt takes a sign
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        return None
    number = int(text)
    return number if 0 <= number <= _MAX_PORT else None
