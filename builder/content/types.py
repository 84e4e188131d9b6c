"""Layers as blobs: where their bytes come from and how they are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.values import dataclass


class BlobProvider(Protocol):
    """Where the bytes of a lazy layer come from."""

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """The blob's bytes from ``offset``, as chunks. SourceError when it can't be had. The reader verifies the digest."""
        ...


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as an image has it: compressed blob and uncompressed diffID.

    ``provider`` is None where the blob is in the content store. ``source`` is remembered with the record: a later process can
    make a provider of it again (``Providers.set_resolver``), for example ``docker.io/library/debian``.
    """

    descriptor: Descriptor
    diff_id: Digest
    provider: BlobProvider | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Compression:
    """How layer blobs are made: ``type`` is gzip, zstd or uncompressed, ``level`` None its default.

    ``force``: layers that already have a blob (of a base image) are made anew too.
    """

    type: str = "gzip"
    level: int | None = None
    force: bool = False
    oci_media_types: bool = True
