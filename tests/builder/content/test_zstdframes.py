"""Where zstd data is cut."""

from __future__ import annotations

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from builder.content.zstdframes import BLOCK, BLOCKS, pieces

ZEROS = bytes(64 << 20)
SKIPPED = b"\x55\x2a\x4d\x18\x04\0\0\0skip"


def compress(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


PARTS = st.lists(st.binary(max_size=300) | st.sampled_from([b"x" * 300_000, SKIPPED]), max_size=4)


@given(PARTS, st.booleans(), st.integers(1, 99))
def test_the_bytes_stay_what_they_are(parts: list[bytes], checksum: bool, step: int) -> None:
    packed = b"".join(p if p is SKIPPED else compress(p, write_checksum=checksum, write_content_size=checksum) for p in parts)
    assert b"".join(pieces(packed[at : at + step] for at in range(0, len(packed), step))) == packed


@given(st.binary(max_size=200))
def test_what_is_no_zstd_comes_as_it_is(data: bytes) -> None:
    assert b"".join(pieces([data])) == data
    assert b"".join(pieces([compress(b"x") + data])) == compress(b"x") + data


def test_no_piece_unpacks_to_more_than_its_blocks() -> None:
    packed = compress(ZEROS, write_checksum=True) + SKIPPED + compress(ZEROS, write_content_size=False)
    engine = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    sizes = [len(engine.decompress(piece)) for piece in pieces([packed[:100], packed[100:]])]
    assert sum(sizes) == 2 * len(ZEROS)
    assert max(sizes) <= (BLOCKS + 1) * BLOCK


def test_honest_data_is_not_cut_small() -> None:
    data = bytes(range(256)) * 4000 + ZEROS[: 1 << 20]
    packed = compress(data)
    assert len(list(pieces([packed]))) == 1
