"""/etc/resolv.conf and /etc/hosts of a sandbox, made from the host's as BuildKit makes them (executor/oci, util/resolvconf)."""

from __future__ import annotations

from runtime.spec import DEFAULT_HOSTNAME

_HOST_FILE = "/etc/resolv.conf"
# What systemd-resolved keeps for those who can't reach its stub on 127.0.0.53.
_RESOLVED_FILE = "/run/systemd/resolve/resolv.conf"
_DEFAULT_SERVERS = ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844")


def hosts(hostname: str, extra_hosts: tuple[tuple[str, str], ...] = ()) -> str:
    """Content of /etc/hosts; ``extra_hosts`` are (name, address)."""
    lines = [f"127.0.0.1\tlocalhost {hostname or DEFAULT_HOSTNAME}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{name}" for name, address in extra_hosts]
    return "\n".join(lines) + "\n"


def resolv_conf(network: str) -> str:
    """Content of /etc/resolv.conf for a network mode, from the files of this host. A missing file counts as empty."""
    text = _read(_HOST_FILE)
    if network != "host" and _servers(text) == ["127.0.0.53"]:
        text = _read(_RESOLVED_FILE)
    return transform_resolv_conf(text, network)


def transform_resolv_conf(text: str, network: str) -> str:
    """Pure part of ``resolv_conf``: name servers, the last search line, all options, then lines with other directives.

    But for "host", loopback servers go (they are the host's); where none is left, public ones stand in.
    """
    servers: list[str] = _servers(text)
    search: list[str] = []
    options: list[str] = []
    other: list[str] = []
    for line in text.splitlines():
        if line[:1] in ("", "#", ";"):
            continue
        fields = line.split()
        if not fields or fields[0] == "nameserver":
            continue
        if fields[0] in ("domain", "search"):
            search = fields[1:] or search
        elif fields[0] == "options":
            options += fields[1:]
        else:
            other.append(line)
    if network != "host" or not servers:
        servers = [server for server in servers if not _is_loopback(server)] or list(_DEFAULT_SERVERS)
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return "".join(line + "\n" for line in lines + other)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _servers(text: str) -> list[str]:
    """Valid addresses in their canonical form; a zone (fe80::1%eth0) stays."""
    import ipaddress

    found: list[str] = []
    for line in text.splitlines():
        fields = line.split()
        if line[:1] in ("#", ";") or len(fields) < 2 or fields[0] != "nameserver":
            continue
        try:
            found.append(str(ipaddress.ip_address(fields[1])))
        except ValueError:
            continue
    return found


def _is_loopback(server: str) -> bool:
    import ipaddress

    return ipaddress.ip_address(server).is_loopback
