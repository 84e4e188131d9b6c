"""Content digests: ``algorithm:hex`` as the OCI image-spec has them (descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib

from builder.text.quoting import quote

_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Digest(str):
    """A validated digest. It is a ``str``, so it sorts, hashes and prints as one."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Check the form of ``text``; ValueError says what is wrong."""
        algorithm, colon, hexpart = text.partition(":")
        if not colon:
            raise ValueError(f"invalid checksum digest format: {quote(text)}")
        if algorithm not in _LENGTHS:
            raise ValueError(f"unsupported digest algorithm: {quote(algorithm)}")
        if len(hexpart) != _LENGTHS[algorithm] or not _HEX.issuperset(hexpart):
            raise ValueError(f"invalid checksum digest length or form: {quote(text)}")
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """sha256 of ``data``."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    def like(self, data: bytes) -> Digest:
        """The digest of ``data`` by this one's algorithm: equal to it if ``data`` is what it names."""
        return Digest(f"{self.algorithm}:{hashlib.new(self.algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]


class Running:
    """A digest of bytes that come in pieces."""

    __slots__ = ("_algorithm", "_hash", "update")

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self.update = self._hash.update
        """Take a piece. The hash's own method: it is called for every chunk of every layer."""

    def digest(self) -> Digest:
        """Of the pieces so far."""
        return Digest(f"{self._algorithm}:{self._hash.hexdigest()}")


def framed(*parts: bytes | str) -> bytes:
    """Join parts so that no two different sequences give the same bytes: each is led by its length.

    Cache keys that join without framing collide (``ab`` + ``c`` and ``a`` + ``bc``); every key of the builder goes through here.
    """
    out = bytearray()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        out += b"%d:" % len(data)
        out += data
    return bytes(out)


def digest_parts(*parts: bytes | str) -> Digest:
    """sha256 of the framed parts."""
    return Digest.of(framed(*parts))


def chain_id(diff_ids: tuple[Digest, ...] | list[Digest]) -> Digest:
    """ChainID of the OCI image-spec (config.md, "Layer ChainID"); ValueError for no layers."""
    if not diff_ids:
        raise ValueError("an image without layers has no ChainID")
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = Digest.of(f"{chain} {diff_id}".encode())
    return chain
