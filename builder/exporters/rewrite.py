"""rewrite-timestamp: layers again, with no time after SOURCE_DATE_EPOCH (BuildKit: util/converter)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from builder.content.types import Compression, Layer
from builder.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from builder.oci.digest import Running
from builder.text.times import NS

if TYPE_CHECKING:
    from builder.content.store import ContentStore

_MEDIA_TYPES = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "uncompressed": OCI_LAYER}


def rewrite_layers(
    content: ContentStore, layers: Sequence[Layer], base: frozenset[str], epoch: int, compression: Compression
) -> tuple[Layer, ...]:
    """Every layer that is not one of the base image's own (``base``: its diffIDs; those stay byte for byte)."""
    out: list[Layer] = []
    own = True
    for layer in layers:
        own = own and layer.diff_id in base
        out.append(layer if own else _rewrite(content, layer, epoch, compression))
    return tuple(out)


def _rewrite(content: ContentStore, layer: Layer, epoch: int, compression: Compression) -> Layer:
    from builder.content.compression import Compressor
    from builder.files.tar.writer import TarWriter

    running = Running()
    with content.writer() as blob:
        compressor = Compressor(blob.write, compression.type, compression.level)

        def write(data: bytes) -> None:
            running.update(data)
            compressor.write(data)

        tar = TarWriter(write)
        _copy(content.checked(layer.descriptor.digest), tar, epoch * NS)
        tar.close()
        compressor.close()
        digest, size = blob.commit()
    descriptor = Descriptor(_MEDIA_TYPES[compression.type], digest, size)
    return Layer(descriptor, running.digest())


def _copy(compressed: Iterator[bytes], tar: object, latest: int) -> None:
    from builder.content.compression import decompress
    from builder.files.tar.reader import TarReader
    from builder.files.tar.writer import TarWriter

    assert isinstance(tar, TarWriter)
    reader = TarReader(decompress(compressed))
    for entry in reader:
        entry.mtime_ns = min(entry.mtime_ns, latest)
        entry.sparse = None  # data() fills the holes: the writer knows no sparse members
        tar.add(entry, reader.data())
