"""Image references: ``[host[:port]/]repository[:tag][@digest]``, by the grammar and docker.io rules of distribution/reference."""

from __future__ import annotations

from builder.oci.digest import Digest
from builder.values import dataclass, replace

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
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
        rest, at, digest_text = text.partition("@")
        digest = None
        if at:
            try:
                digest = Digest.parse(digest_text)
            except ValueError as e:
                raise ValueError("invalid reference format") from e
        head, slash, tail = rest.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost" or head.lower() != head):
            registry, path = head, tail
        else:
            registry, path = DOCKER_HUB, rest
        path, _, tag = path.partition(":")
        if registry in ("index.docker.io", DOCKER_HUB):
            registry = DOCKER_HUB
            if "/" not in path:
                path = "library/" + path
        if path.lower() != path:
            raise ValueError(f"invalid reference format: repository name ({path}) must be lowercase")
        if not all(_component(c) for c in path.split("/")) or not _host(registry) or len(registry) + len(path) > 255:
            raise ValueError("invalid reference format")
        if (rest.endswith(":") and not tag) or (tag and not _tag(tag)):
            raise ValueError("invalid reference format")
        return cls(registry, path, tag, digest)

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
            name = self.repository.removeprefix("library/")
        return name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _component(text: str) -> bool:
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


def _host(text: str) -> bool:
    name, colon, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "")
    if colon and not port.isdigit():
        return False
    if name.startswith("[") and name.endswith("]"):
        return all(c in "0123456789abcdefABCDEF:." for c in name[1:-1])
    return all(p and p[0] != "-" and p[-1] != "-" and all(c in _WORD or c == "-" for c in p) for p in name.split("."))


def _tag(text: str) -> bool:
    return len(text) <= 128 and text[0] in _WORD and all(c in _WORD or c in ".-" for c in text)
