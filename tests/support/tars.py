"""Tar archives whose headers hold anything at all."""

from __future__ import annotations

import os

from hypothesis import strategies as st

from builder.files.tar import pax

_PLACES = {
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "major": (329, 8),
    "minor": (337, 8),
}
NUMBERS = st.sampled_from(
    ["0", "-1", "5", "4294967295", "4294967296", "9" * 19, "9" * 25, "-" + "9" * 30, "x", "", "1e9", "0x1", "٣"]
)
KEYS = st.sampled_from(
    ["uid", "gid", "mtime", "atime", "size", "path", "linkpath", "uname", "k"]
    + [f"SCHILY.xattr.{name}" for name in ("user.x", "", "\udcff")]
    + [f"GNU.sparse.{name}" for name in ("major", "minor", "map", "size", "realsize", "name", "\udcff")]
)
NAMES = st.sampled_from(["f", "", ".", "..", "/", "d/", "a/../../f", "\udcff\udcfe", "n" * 256, "n/" * 700, "l", "l/f", "é\n"])
TYPES = st.sampled_from([*(bytes([b]) for b in b"0123456789gxLKSVAD"), b"\0", b"\xff"])


@st.composite
def raw_members(draw: st.DrawFn) -> bytes:
    """A member with a header of any bytes that has the right checksum, behind an extended header of any kind."""
    out = b""
    for kind in draw(st.lists(st.sampled_from([b"x", b"L", b"K", b"g"]), max_size=2)):
        if kind in b"xg":
            pairs = draw(st.lists(st.tuples(KEYS, NUMBERS | NAMES), max_size=4))
            body = b"".join(pax.record(os.fsencode(k), os.fsencode(v)) for k, v in pairs)
        else:
            body = os.fsencode(draw(NAMES)) + draw(st.sampled_from([b"", b"\0", b"\0junk"]))
        out += raw_block(b"@", kind, size=b"%o" % len(body)) + body + bytes(-len(body) % 512)
    odd = [b"0", b"777", b"\x80" + b"\xff" * 7, b"\xff" * 8, b"\x80" + bytes(7)]
    field = st.binary(min_size=1, max_size=8) | st.sampled_from(odd)
    data = draw(st.sampled_from([b"", b"text", b"2\n0\n4\n" + bytes(600)]))
    fields = {name: draw(field) for name in draw(st.sets(st.sampled_from(["mode", "uid", "gid", "mtime", "major", "minor"])))}
    size = draw(st.sampled_from([b"%o" % len(data), b"%o" % len(data), b"0", b"\xff" * 12, b"7" * 11]))
    out += raw_block(os.fsencode(draw(NAMES)), draw(TYPES), size=size, link=os.fsencode(draw(NAMES)), **fields)
    return out + data + bytes(-len(data) % 512)


def raw_block(name: bytes, kind: bytes, *, size: bytes = b"0", link: bytes = b"", **fields: bytes) -> bytes:
    """A header block with the right checksum; ``fields`` are the bytes of numeric fields."""
    block = bytearray(512)
    block[: len(name[:100])] = name[:100]
    block[157 : 157 + len(link[:100])] = link[:100]
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    for key, value in {"size": size, **fields}.items():
        at, width = _PLACES[key]
        block[at : at + len(value[:width])] = value[:width]
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
