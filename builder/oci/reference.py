"""Image references: ``[host[:port]/]repository[:tag][@digest]``, by the grammar and docker.io rules of distribution/reference."""

from __future__ import annotations

from builder.oci.digest import Digest
from builder.values import dataclass, replace

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | {"_"}
_MAX_REPOSITORY = 255
_INVALID = "invalid reference format"
DOCKER_HUB = "docker.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalized reference: ``busybox`` is registry docker.io, repository library/busybox. ``tag`` or ``digest`` may be empty."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """ValueError, in the words of docker, when ``text`` is no reference. No tag is added: see ``with_default_tag``."""
        if len(text) == 64 and _LOWER.issuperset(text) and _HEX.issuperset(text):
            raise ValueError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        registry, rest = _split_registry(text)
        name = rest.partition(":")[0]
        if name.lower() != name:
            raise ValueError(f"{_INVALID}: repository name ({name}) must be lowercase")
        named, at, digest = rest.partition("@")
        repository, colon, tag = named.partition(":")
        if not all(map(_is_component, repository.split("/"))) or (colon and not _is_tag(tag)) or (at and not _is_digest(digest)):
            raise ValueError(_INVALID)
        if not _is_host(registry) and not _is_component(registry):  # a name that no host has, but a folder of a registry
            raise ValueError("repository name must be lowercase" if _is_component(registry.lower()) else _INVALID)
        if len(repository) > _MAX_REPOSITORY:
            raise ValueError(f"repository name must not be more than {_MAX_REPOSITORY} characters")
        return cls(registry, repository, tag, Digest.parse(digest) if at else None)

    def with_default_tag(self) -> Reference:
        """``:latest`` where there is neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    @property
    def name(self) -> str:
        """``registry/repository``."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The short form that docker shows: ``busybox:latest``."""
        name = self.name
        if self.registry == DOCKER_HUB:
            official = self.repository.removeprefix("library/")
            name = self.repository if "/" in official else official
        return name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _split_registry(text: str) -> tuple[str, str]:
    """(registry, rest) as docker tells them apart: ``a.b/c`` has a host, ``a/b`` has none."""
    head, slash, tail = text.partition("/")
    if not slash:
        return DOCKER_HUB, "library/" + text
    if not ("." in head or ":" in head or head == "localhost" or head.lower() != head):
        return DOCKER_HUB, text
    if head not in ("index.docker.io", DOCKER_HUB):
        return head, tail
    return DOCKER_HUB, tail if "/" in tail else "library/" + tail


def _is_component(text: str) -> bool:
    """alphanumerics, separated by one dot, one or two underscores, or any number of dashes."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for c in text:
        if c in _LOWER:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif c in "._-":
            separator += c
        else:
            return False
    return True


def _is_host(text: str) -> bool:
    """A name of DNS, an IPv4 address, or an IPv6 address in brackets (no zone, no IPv4 in it); maybe a port."""
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        return bool(address and bracket) and all(c in _HEX or c == ":" for c in address) and (not port or _is_port(port))
    name, colon, number = text.partition(":")
    if colon and not _is_port(colon + number):
        return False
    return all(p and p[0] in _ALNUM and p[-1] in _ALNUM and all(c in _ALNUM or c == "-" for c in p) for p in name.split("."))


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit()


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= 128 and text[0] in _WORD and all(c in _WORD or c in ".-" for c in text)


def _is_digest(text: str) -> bool:
    """The form alone; whether the algorithm is known, ``Digest.parse`` says."""
    algorithm, _, digits = text.partition(":")
    parts = algorithm.replace("_", "-").replace("+", "-").replace(".", "-").split("-")
    named = all(p and p[0] in _ALNUM and not p[0].isdigit() and _ALNUM.issuperset(p) for p in parts)
    return named and len(digits) >= 32 and _HEX.issuperset(digits)
