"""Records of PAX extended headers (POSIX pax, "pax Extended Header"): ``LENGTH KEY=VALUE\\n``."""

from __future__ import annotations

from builder.errors import LayerError

XATTR = b"SCHILY.xattr."
PATH, LINKPATH, SIZE, UID, GID, UNAME, GNAME, MTIME = b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime"
_NAMES = (PATH, LINKPATH, UNAME, GNAME)


def parse(data: bytes) -> dict[bytes, bytes]:
    """Key -> value; the last record of a key counts. The pairs of a GNU sparse 0.0 map come as one value, as in 0.1.

    LayerError for anything Go's archive/tar refuses too: a length that doesn't fit, no ``=``, a NUL in a name.
    """
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        space = data.find(b" ", at, at + 20)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            raise LayerError("malformed PAX header: no record length")
        stop = at + int(digits)
        equals = data.find(b"=", space + 1, stop)
        if stop > end or equals < 0 or data[stop - 1] != 0x0A or stop <= equals:
            raise LayerError("malformed PAX header: a record's length does not fit")
        key, value = data[space + 1 : equals], data[equals + 1 : stop - 1]
        if not key or b"\0" in key or (key in _NAMES and b"\0" in value):
            raise LayerError("malformed PAX header: NUL in a name, or an empty key")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            # Sparse 0.0: the same two keys again and again, in turn.
            if (key == b"GNU.sparse.offset") != (len(sparse) % 2 == 0) or b"," in value:
                raise LayerError("malformed PAX header: bad sparse map")
            sparse.append(value)
        else:
            records[key] = value
        at = stop
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def record(key: bytes, value: bytes) -> bytes:
    """One record; its length counts its own digits."""
    body = len(key) + len(value) + 3
    size = body + len(str(body))
    if body + len(str(size)) != size:
        size = body + len(str(size))
    return b"%d %s=%s\n" % (size, key, value)


def parse_time(value: bytes) -> int:
    """``[-]seconds[.fraction]`` as nanoseconds; digits past the ninth are cut off."""
    whole, _, fraction = value.partition(b".")
    negative = whole.startswith(b"-")
    seconds = whole[1:] if negative else whole
    if len(whole) > 20 or not seconds.isdigit() or (fraction and not fraction.isdigit()):
        raise LayerError("malformed PAX header: bad time")
    nanoseconds = int(seconds) * 1_000_000_000 + int((fraction[:9] or b"0").ljust(9, b"0"))
    return -nanoseconds if negative else nanoseconds


def format_time(nanoseconds: int) -> bytes:
    """The shortest form, as Go writes it."""
    sign = b"-" if nanoseconds < 0 else b""
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    if not rest:
        return b"%s%d" % (sign, seconds)
    return b"%s%d.%s" % (sign, seconds, (b"%09d" % rest).rstrip(b"0"))


def parse_number(value: bytes) -> int:
    """A decimal number of at most 63 bits."""
    negative = value.startswith(b"-")
    digits = value[1:] if negative else value
    if not digits.isdigit() or len(digits) > 19 or int(digits) >= 1 << 63:
        raise LayerError("malformed PAX header: bad number")
    return -int(digits) if negative else int(digits)
