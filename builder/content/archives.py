"""Archives as ADD takes them: what layers may be compressed with, and bzip2 and xz besides (moby's compression.DecompressStream).

Output comes in pieces of some megabytes, whatever the whole unpacks to, and memory for it is bounded: some hundred bytes can
stand for gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from builder.errors import LayerError, UnsupportedError

if TYPE_CHECKING:
    import bz2
    import lzma

_PIECE = 1 << 20
_BZIP2, _XZ = b"BZh", b"\xfd7zXZ\x00"
_MAGIC = 10
_XZ_MEMORY = 256 << 20
"""``xz -9`` wants 65 MB to unpack; the format allows 4 GB."""


def unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The uncompressed bytes; compression is told by the first bytes alone.

    Of what is cut off comes all that can be had, and then the error: who has seen the end of an archive need not ask for more.
    LayerError for damage or truncation, UnsupportedError for what wants too much memory.
    """
    source = iter(chunks)
    start = b""
    while len(start) < _MAGIC and (chunk := next(source, b"")):
        start += chunk
    given = _prepend(start, source)
    if start.startswith(_BZIP2):
        return _bunzip(given)
    if start.startswith(_XZ):
        return _unxz(given)
    from builder.content.compression import decompress, sniff

    return decompress(given, sniff(start))


def _prepend(start: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    if start:
        yield start
    yield from source


def _bunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import bz2

    engine: bz2.BZ2Decompressor | None = None
    for chunk in chunks:
        data = chunk
        while data:
            engine = engine or bz2.BZ2Decompressor()
            try:
                yield from _pieces(engine, data)
            except (OSError, ValueError) as e:
                raise LayerError(f"damaged bzip2 data: {e}") from None
            data = engine.unused_data if engine.eof else b""
            engine = None if engine.eof else engine
    if engine is not None:
        raise LayerError("the bzip2 data is cut off")


def _unxz(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import lzma

    engine: lzma.LZMADecompressor | None = None
    for chunk in chunks:
        data = chunk
        while data:
            if engine is None:
                data = data.lstrip(b"\0")  # padding between streams
                if not data:
                    break
                engine = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            try:
                yield from _pieces(engine, data)
            except lzma.LZMAError as e:
                if "Memory usage limit" in str(e):
                    raise UnsupportedError(f"unpacking the xz data takes more than {_XZ_MEMORY >> 20} MB of memory") from None
                raise LayerError(f"damaged xz data: {e}") from None
            data = engine.unused_data if engine.eof else b""
            engine = None if engine.eof else engine
    if engine is not None:
        raise LayerError("the xz data is cut off")


def _pieces(engine: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes) -> Iterator[bytes]:
    """All that ``data`` gives, up to the end of the stream."""
    while True:
        out = engine.decompress(data, _PIECE)
        if out:
            yield out
        if engine.eof or engine.needs_input:
            return
        data = b""
