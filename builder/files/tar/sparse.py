"""Maps of GNU sparse files (tar manual, "Storing Sparse Files"): lists of (offset, length) that are data."""

from __future__ import annotations

from collections.abc import Callable

from builder.errors import LayerError
from builder.files.tar import pax

Parts = list[tuple[int, int]]
_MOST = 1 << 20  # a map entry needs at least 24 stored bytes or two PAX numbers; nothing sane comes near


def old_gnu(block: bytes, number: Callable[[bytes], int], take: Callable[[int], bytes]) -> tuple[Parts, int]:
    """Header type ``S``: four pairs in the header, 21 in each block that follows. Returns the map and the real size."""
    parts = _pairs(block[386:482], number)
    real = number(block[483:495])
    more = block[482]
    while more:
        extension = take(512)
        parts += _pairs(extension[:504], number)
        more = extension[504]
        if len(parts) > _MOST:
            raise LayerError("malformed archive: sparse map too long")
    return parts, real


def _pairs(data: bytes, number: Callable[[bytes], int]) -> Parts:
    parts: Parts = []
    for at in range(0, len(data), 24):
        if not data[at]:
            break  # an unused slot
        parts.append((number(data[at : at + 12]), number(data[at + 12 : at + 24])))
    return parts


def version_0(text: bytes) -> Parts:
    """Sparse 0.0 and 0.1: ``offset,length,offset,length``."""
    numbers = [pax.parse_number(value) for value in text.split(b",")] if text else []
    if len(numbers) % 2 or len(numbers) > 2 * _MOST:
        raise LayerError("malformed archive: bad sparse map")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def version_1(take: Callable[[int], bytes], stored: int) -> tuple[Parts, int]:
    """Sparse 1.0: the map stands before the data, a number a line, filled up to a block. Returns it and the bytes it took."""
    used = 0
    text = b""
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        if used + 512 > stored or wanted > 2 * _MOST:
            raise LayerError("malformed archive: bad sparse map")
        text += take(512)
        used += 512
        *lines, text = text.split(b"\n")
        if len(text) > 20 and text.strip(b"\0"):
            raise LayerError("malformed archive: bad sparse map")
        for line in lines:
            if len(numbers) == wanted:
                break
            numbers.append(pax.parse_number(line))
            if len(numbers) == 1:
                wanted = 1 + 2 * max(0, numbers[0])
    return list(zip(numbers[1::2], numbers[2::2], strict=True)), used


def check(parts: Parts, real: int, stored: int) -> None:
    """In order, without overlap, inside the file, and as much data as the archive holds."""
    at = held = 0
    for offset, length in parts:
        if length < 0 or offset < at or offset + length > real:
            raise LayerError("malformed archive: bad sparse map")
        at = offset + length
        held += length
    if held != stored or real < 0:
        raise LayerError("malformed archive: the sparse map does not fit the data")
