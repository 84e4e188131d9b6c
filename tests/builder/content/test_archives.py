"""bzip2 and xz of archives: everything that real tools write, in bounded memory."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from builder.content.archives import unpacked
from builder.errors import LayerError, UnsupportedError
from tests.support.cli import REPOSITORY

DATA = b"some data " * 50_000
# 256 MB of zeros: bz2.compress(bytes(256 << 20)), which takes seconds.
BZIP2_BOMB = base64.b64decode(
    "QlpoOTFBWSZTWQ4J4t8BX45AAMAAAAggADCATUZCoCWpCoCXMUFZJlNZDgni3wFfjkAAwAAACCAAMIBNRkKgJakKgJcxQVkmU1kOCeLfAV+OQADAAAAIIAAwgE1G"
    "QqAlqQqAlzFBWSZTWQ4J4t8BX45AAMAAAAggADCATUZCoCWpCoCXMUFZJlNZDgni3wFfjkAAwAAACCAAMIBNRkKgJakKgJcxQVkmU1kezuTbASo/wADABAAIIAAw"
    "zAUppqqoSRsAIkjxdyRThQkGsXyvAA=="
)


def zeros(count: int) -> bytes:
    return bytes(count << 20)


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress, gzip.compress, zstandard.ZstdCompressor().compress, bytes])
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_what_was_compressed_comes_back(compress: object, step: int) -> None:
    data = DATA if step > 1 else DATA[:3000]
    packed = compress(data)  # type: ignore[operator]
    assert b"".join(unpacked([packed[at : at + step] for at in range(0, len(packed), step)])) == data


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_streams_one_after_the_other(compress: object) -> None:
    packed = compress(DATA) + compress(b"") + compress(b"more")  # type: ignore[operator]
    assert b"".join(unpacked([packed[:99], packed[99:]])) == DATA + b"more"
    assert b"".join(unpacked([lzma.compress(DATA), bytes(8), lzma.compress(b"more")])) == DATA + b"more"


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_what_is_cut_off_gives_all_there_is_and_then_an_error(compress: object) -> None:
    out = b""
    packed = compress(DATA)  # type: ignore[operator]
    with pytest.raises(LayerError, match="cut off"):
        for piece in unpacked([packed[:-3]]):
            out += piece
    assert out == DATA


@pytest.mark.parametrize("packed", [bz2.compress(DATA), lzma.compress(DATA)])
def test_damage_is_an_error(packed: bytes) -> None:
    half = len(packed) // 2
    with pytest.raises(LayerError):
        list(unpacked([packed[:half] + b"damage" + packed[half + 6 :]]))
    with pytest.raises(LayerError):
        list(unpacked([packed + b"junk"]))


def test_an_archive_that_wants_too_much_memory_is_refused_by_name() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    packed = lzma.compress(b"x", filters=filters)
    with pytest.raises(UnsupportedError, match="more than 256 MB of memory"):
        list(unpacked([packed]))
    window = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=False)
    engine = zstandard.ZstdCompressor(compression_params=window).compressobj()
    with pytest.raises(UnsupportedError, match="more than 128 MB of memory"):
        list(unpacked([engine.compress(b"x" * 1000) + engine.flush()]))


BOMBS = {
    "bzip2": lambda: (BZIP2_BOMB, 256),
    "xz": lambda: (lzma.compress(zeros(128), preset=0), 128),
    "gzip": lambda: (gzip.compress(zeros(128), 1), 128),
    "zstd": lambda: (zstandard.ZstdCompressor(level=1).compress(zeros(256)), 256),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_unpacked_in_bounded_memory(kind: str, tmp_path: Path) -> None:
    """With room for 96 MB of anything: a piece at a time, whatever the whole is."""
    packed, megabytes = BOMBS[kind]()
    (tmp_path / "bomb").write_bytes(packed)
    code = f"""
import resource, sys
sys.path.insert(0, {REPOSITORY!r})
import bz2, lzma, zlib, zstandard
from builder.content.archives import unpacked
with open({str(tmp_path / "bomb")!r}, "rb") as f:
    packed = f.read()
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (96 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(sum(len(piece) for piece in unpacked([packed])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == f"{megabytes << 20}\n", done.stderr[-2000:]
