"""Compressed streams: round trips, same bytes again, damage and bombs."""

from __future__ import annotations

import gzip
import os
import random

import pytest

from builder.content.compression import GZIP, NONE, ZSTD, Compressor, decompress, of_media_type, sniff
from builder.errors import CancelledError, LayerError, UnsupportedError
from builder.state.cancel import Token, scope

DATA = random.Random(7).randbytes(50_000) * 60


def compress(kind: str, level: int | None = None, step: int = 100_003, data: bytes = DATA) -> bytes:
    out: list[bytes] = []
    compressor = Compressor(out.append, kind, level)
    for at in range(0, len(data), step):
        compressor.write(data[at : at + step])
    compressor.close()
    return b"".join(out)


def pieces(data: bytes, step: int = 7001) -> list[bytes]:
    return [data[at : at + step] for at in range(0, len(data), step)]


@pytest.mark.parametrize("kind", [GZIP, ZSTD, NONE])
@pytest.mark.parametrize("level", [None, 1, 9])
@pytest.mark.parametrize("data", [DATA, b"", b"x"])
def test_round_trip(kind: str, level: int | None, data: bytes) -> None:
    packed = compress(kind, level, data=data)
    assert b"".join(decompress(pieces(packed), kind)) == data
    assert b"".join(decompress(pieces(packed, 1) if len(packed) < 100 else [packed])) == data


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
def test_bytes_do_not_depend_on_how_they_were_written(kind: str) -> None:
    assert compress(kind, step=1000) == compress(kind, step=len(DATA))


def test_gzip_carries_no_time_and_no_name() -> None:
    packed = compress(GZIP)
    assert packed[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert gzip.decompress(packed) == DATA


def test_level_0_stores() -> None:
    assert len(compress(GZIP, 0)) > len(DATA)


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
def test_members_one_after_the_other(kind: str) -> None:
    packed = compress(kind, data=b"one") + compress(kind, data=b"two")
    assert b"".join(decompress(pieces(packed, 3), kind)) == b"onetwo"


def test_zero_padding_after_gzip_is_no_damage() -> None:
    assert b"".join(decompress([compress(GZIP, data=b"one") + bytes(1000)])) == b"one"


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
@pytest.mark.parametrize("cut", [0, 1, 8, 5000, -1])
def test_truncation_is_an_error(kind: str, cut: int) -> None:
    packed = compress(kind)
    with pytest.raises(LayerError, match="truncated"):
        b"".join(decompress(pieces(packed[:cut]), kind))


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
def test_damage_is_an_error(kind: str) -> None:
    packed = bytearray(compress(kind))
    packed[2:40] = b"?" * 38
    with pytest.raises(LayerError, match="damaged"):
        b"".join(decompress([bytes(packed)], kind))


def test_a_wrong_checksum_is_damage() -> None:
    packed = compress(GZIP)
    with pytest.raises(LayerError):
        b"".join(decompress([packed[:-8] + bytes(4) + packed[-4:]], GZIP))


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
def test_a_bomb_stops_at_the_limit(kind: str) -> None:
    packed = compress(kind, data=bytes(50 << 20))
    largest = 0
    seen = 0
    with pytest.raises(LayerError, match="more bytes than allowed"):
        for chunk in decompress([packed], kind, limit=20 << 20):
            seen += len(chunk)
            largest = max(largest, len(chunk))
    assert seen <= 20 << 20


def test_the_whole_input_is_read() -> None:
    packed = compress(GZIP, data=b"one")
    source = iter([packed, bytes(10), bytes(10)])
    assert b"".join(decompress(source)) == b"one"
    assert next(source, None) is None


def test_unknown_compressions_are_named() -> None:
    with pytest.raises(UnsupportedError, match="xz"):
        decompress([b""], "xz")
    with pytest.raises(UnsupportedError, match="level 10"):
        Compressor(lambda data: None, GZIP, 10)


def test_sniff() -> None:
    assert [sniff(compress(kind)[:4]) for kind in (GZIP, ZSTD)] == [GZIP, ZSTD]
    assert sniff(b"\x51\x2a\x4d\x18") == ZSTD
    assert sniff(b"") == sniff(b"etc/") == NONE


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        ("application/vnd.oci.image.layer.v1.tar", NONE),
        ("application/vnd.oci.image.layer.v1.tar+gzip", GZIP),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", ZSTD),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", GZIP),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", GZIP),
        ("application/vnd.oci.image.config.v1+json", None),
    ],
)
def test_media_types(media_type: str, kind: str | None) -> None:
    assert of_media_type(media_type) == kind


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_compressing_can_be_called_off_between_small_pieces(kind: str) -> None:
    """At zstd's highest level a megabyte takes seconds."""
    token = Token()
    out: list[bytes] = []

    def write(data: bytes) -> None:
        out.append(data)
        token.set()

    compressor = Compressor(write, kind, 1)
    with scope(token), pytest.raises(CancelledError):
        for _ in range(64):
            compressor.write(os.urandom(1 << 20))
    assert sum(map(len, out)) < 3 << 20
