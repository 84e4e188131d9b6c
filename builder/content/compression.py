"""Layer compressions: gzip (ISA-L, or zlib where a level asks for it) and zstd. The codecs are loaded on first use.

Same input, same bytes: gzip headers carry no time and no name, input is cut into blocks of fixed size before it is compressed
(ISA-L's output depends on how it is fed). Bytes still differ between codec versions: digests of blobs are never computed twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Final, Literal, Protocol

from builder.errors import LayerError, UnsupportedError
from builder.state.cancel import checkpoint

CompressionType = Literal["gzip", "zstd", "uncompressed"]
GZIP: Final = "gzip"
ZSTD: Final = "zstd"
NONE: Final = "uncompressed"

_BLOCK = 1 << 20
_PIECE = 1 << 17
"""A block of zstd's own: what it gives does not depend on the sizes of what it is given."""
_OUT = 1 << 20
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_WINDOW = 1 << 27
"""zstd frames may ask for up to 128 MiB of memory, the most that zstd's own tools allow without --long."""


def sniff(start: bytes) -> CompressionType:
    """The compression of a stream that begins with ``start`` (4 bytes do)."""
    if start.startswith(_GZIP_MAGIC):
        return GZIP
    if start.startswith(_ZSTD_MAGIC) or (len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50):
        return ZSTD  # the second: a skippable frame
    return NONE


def of_media_type(media_type: str) -> CompressionType | None:
    """gzip, zstd or uncompressed as the media type of a layer says; None if it is no layer's."""
    if not media_type.startswith(("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")):
        return None
    if media_type.endswith((".tar.gzip", ".tar+gzip")):
        return GZIP
    if media_type.endswith((".tar.zstd", ".tar+zstd")):
        return ZSTD
    return NONE if media_type.endswith(".tar") else None


def decompress(chunks: Iterable[bytes], kind: str | None = None, *, limit: int | None = None) -> Iterator[bytes]:
    """The uncompressed bytes. ``kind`` None: look at the first bytes, as containerd does whatever the media type says.

    Every chunk of the input is read, also what follows the compressed data: digests over it are whole at the end.
    LayerError for damage, truncation, or more than ``limit`` bytes.
    """
    source = iter(chunks)
    start = b""
    if kind is None:
        while len(start) < 4:
            chunk = next(source, None)
            if chunk is None:
                break
            start += chunk
        kind = sniff(start)
    given = _prepend(start, source)
    if kind == GZIP:
        plain = _gunzip(given)
    elif kind == ZSTD:
        plain = _unzstd(given)
    elif kind == NONE:
        plain = given
    else:
        raise UnsupportedError(f"compression {kind} is not supported")
    return plain if limit is None else _capped(plain, limit)


def _prepend(start: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    if start:
        yield start
    yield from source


def _capped(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            raise LayerError("the compressed data unpacks to more bytes than allowed")
        yield chunk


def _zlib_like() -> ModuleType:
    """ISA-L, or zlib where it is missing; both have the same face."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Members one after the other (RFC 1952); zero bytes after the last are padding, anything else is damage."""
    codec = _zlib_like()
    engine = None
    seen = False
    for chunk in chunks:
        data = chunk
        while data:
            if engine is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                seen = True
                engine = codec.decompressobj(31)
            try:
                out = engine.decompress(data, _OUT)
                while True:
                    if out:
                        yield out
                    data = engine.unconsumed_tail
                    if engine.eof or (not data and len(out) < _OUT):
                        break
                    out = engine.decompress(data, _OUT)
            except (codec.error, zlib.error) as e:
                raise LayerError(f"damaged gzip data: {e}") from None
            if not engine.eof:
                break
            data = engine.unused_data
            engine = None
    if engine is not None or not seen:
        raise LayerError("the gzip data is truncated")


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    from builder.content.zstdframes import pieces

    zstandard = _zstandard()
    engine = None
    seen = False
    for piece in pieces(chunks):
        data = piece
        while data:
            if engine is None:
                engine = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj(write_size=1 << 17)
                seen = True
            try:
                out = engine.decompress(data)
            except zstandard.ZstdError as e:
                if "too much memory" in str(e):
                    raise UnsupportedError(f"unpacking the zstd data takes more than {_WINDOW >> 20} MB of memory") from None
                raise LayerError(f"damaged zstd data: {e}") from None
            if out:
                yield out
            data = engine.unused_data
            if engine.eof:
                engine = None
    if engine is not None or not seen:
        raise LayerError("the zstd data is truncated")


def _zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise UnsupportedError("zstd needs the Python package `zstandard`", hint="pip install zstandard") from None
    return zstandard


class _Engine(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Compressor:
    """Takes bytes, hands compressed ones to ``write``. ``close`` ends the stream."""

    def __init__(self, write: Callable[[bytes], object], kind: str = GZIP, level: int | None = None) -> None:
        self._write = write
        self._pending: list[bytes] = []
        self._size = 0
        self._engine = _engine(kind, level)
        self._trailer = kind == GZIP
        # A block at zstd's highest levels takes seconds, which nobody should wait for after a Ctrl-C.
        self._step = _PIECE if kind == ZSTD else _BLOCK
        self._crc = self._total = 0
        if self._trailer:
            write(_GZIP_HEADER)

    def write(self, data: bytes) -> int:
        self._pending.append(data)
        self._size += len(data)
        if self._size >= _BLOCK:
            joined = b"".join(self._pending)
            cut = len(joined) - len(joined) % _BLOCK
            for at in range(0, cut, _BLOCK):
                self._compress(joined[at : at + _BLOCK])
            self._pending = [joined[cut:]]
            self._size = len(joined) - cut
        return len(data)

    def close(self) -> None:
        self._compress(b"".join(self._pending))
        self._pending.clear()
        if self._engine is not None:
            self._write(self._engine.flush())
        if self._trailer:
            self._write(self._crc.to_bytes(4, "little") + (self._total & 0xFFFFFFFF).to_bytes(4, "little"))

    def _compress(self, data: bytes) -> None:
        if not data:
            return
        if self._trailer:
            self._crc = _crc32()(data, self._crc)
            self._total += len(data)
        if self._engine is None:
            self._write(data)
            return
        for at in range(0, len(data), self._step):
            checkpoint()
            if out := self._engine.compress(data[at : at + self._step] if self._step < len(data) else data):
                self._write(out)


def _crc32() -> Callable[[bytes, int], int]:
    function: Callable[[bytes, int], int] = _zlib_like().crc32
    return function


def _engine(kind: str, level: int | None) -> _Engine | None:
    """None for uncompressed. gzip without a level is ISA-L's default; levels are zlib's own, 0 to 9 (-1: its default)."""
    if kind == NONE:
        return None
    if kind == ZSTD:
        # Without write_checksum and content size: as klauspost's encoder behind BuildKit, which streams.
        engine: _Engine = _zstandard().ZstdCompressor(level=3 if level is None else level).compressobj()
        return engine
    if kind != GZIP:
        raise UnsupportedError(f"compression {kind} is not supported")
    if level is not None:
        if not -1 <= level <= 9:
            raise UnsupportedError(f"gzip has no compression level {level}")
        return zlib.compressobj(level, zlib.DEFLATED, -15)
    codec = _zlib_like()
    made: _Engine = codec.compressobj(2 if codec is not zlib else -1, zlib.DEFLATED, -15)
    return made
