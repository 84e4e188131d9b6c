"""Cutting zstd data where its blocks begin (RFC 8878, 3.1), to know how much a piece unpacks to.

The decoder gives all that a piece of input holds at once, and four bytes may hold 128 KiB. By size alone pieces would have to be so
small that honest data is slow; by blocks they are as large as can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BLOCK = 128 << 10
"""The most that one block unpacks to."""
BLOCKS = 64
"""In a piece: 8 MiB."""

_FRAME = b"\x28\xb5\x2f\xfd"
_MAGIC, _DESCRIPTOR, _SKIPPED, _HEADER = 4, 5, 8, 3  # lengths of what is looked at
_RLE = 1
_CONTENT_SIZES = (0, 2, 4, 8)
_DICTIONARY_IDS = (0, 1, 2, 4)


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut so that no piece unpacks to more than BLOCKS blocks and one that an earlier piece began. What is no zstd
    comes as it is: the decoder says so."""
    head, wanted, skip = b"", _MAGIC, 0
    checksum = 0
    for chunk in chunks:
        start = at = blocks = 0
        while at < len(chunk):
            if skip:
                step = min(skip, len(chunk) - at)
                at, skip = at + step, skip - step
                continue
            part = chunk[at : at + wanted - len(head)]
            head += part
            at += len(part)
            if len(head) < wanted:
                break
            if wanted == _MAGIC:
                if head == _FRAME:
                    wanted = _DESCRIPTOR
                elif head[1:] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
                    wanted = _SKIPPED
                else:
                    skip, head = 1 << 62, b""
                continue
            if wanted == _SKIPPED:
                skip, wanted = int.from_bytes(head[4:], "little"), _MAGIC
            elif wanted == _DESCRIPTOR:
                skip, checksum = _rest_of_header(head[4]), head[4] >> 2 & 1
                wanted = _HEADER
            else:
                value = int.from_bytes(head, "little")
                last, kind, size = value & 1, value >> 1 & 3, value >> 3
                skip = (1 if kind == _RLE else size) + (4 if last and checksum else 0)
                wanted = _MAGIC if last else _HEADER
                blocks += 1
                if blocks == BLOCKS:
                    yield chunk[start:at]
                    start, blocks = at, 0
            head = b""
        if start < len(chunk):
            yield chunk[start:]


def _rest_of_header(descriptor: int) -> int:
    """Bytes of a frame's header behind its descriptor (RFC 8878, 3.1.1.1)."""
    single = descriptor >> 5 & 1
    content = _CONTENT_SIZES[descriptor >> 6] or single
    return content + _DICTIONARY_IDS[descriptor & 3] + (0 if single else 1)
