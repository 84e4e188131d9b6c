"""Hostile layers: nothing outside the layer's folder is touched, and each is a LayerError (SECURITY: "tar path traversal ...").

The folder lies beside files that the attacks aim at; ``outside`` is compared before and after.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import LayerError, PybuildError, StoreError
from builder.files.apply import clean, unpack
from builder.files.marks import write_marks
from builder.files.tar import BLOCK, CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry, Limits
from builder.files.tar import pax as records
from builder.files.tar.writer import header
from tests.support.tars import raw_block, raw_members

Layer = Callable[..., list[bytes]]
Listing = Callable[..., dict[str, tuple[object, ...]]]

END = bytes(1024)


@pytest.fixture
def outside(tmp_path: object) -> str:
    """A folder with a secret and, in it, the empty folder ``layer`` to unpack to."""
    base = f"{tmp_path}/outside"
    os.makedirs(f"{base}/layer")
    os.makedirs(f"{base}/etc")
    for name in ("secret", "etc/passwd"):
        with open(f"{base}/{name}", "w") as file:
            file.write("original")
    return base


def untouched(base: str, listing: Listing) -> dict[str, tuple[object, ...]]:
    return {name: value for name, value in listing(base).items() if name != "layer" and not name.startswith("layer/")}


def pax(entry: Entry, *pairs: tuple[bytes, bytes], content: bytes = b"") -> bytes:
    """A member behind a PAX header with these very records."""
    data = b"".join(records.record(key, value) for key, value in pairs)
    block = bytearray(header(Entry("PaxHeaders.0/x", REG, size=len(data))))
    block[156:157] = b"x"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data + bytes(-len(data) % 512) + header(entry) + content + bytes(-len(content) % 512)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU's way to give the next member a name, or with ``K`` a link."""
    return raw_block(b"././@LongLink", kind, size=b"%o" % len(name)) + name + bytes(-len(name) % 512)


def number(text: str, offset: int, value: bytes) -> bytes:
    """The header of a file with one field replaced."""
    block = bytearray(header(Entry(text, REG)))
    block[offset : offset + len(value)] = value
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


REFUSED: dict[str, tuple[object, ...] | list[bytes]] = {
    "traversal": (("../secret", b"x"),),
    "traversal behind a folder": (("a/../../secret", b"x"),),
    "traversal of an absolute name": (("/../secret", b"x"),),
    "traversal of a folder": (Entry("../etc/", DIR, 0o777),),
    "hard link out": (Entry("x", LINK, linkname="../secret"),),
    "hard link to an absolute name that is not in the layer": (Entry("x", LINK, linkname="/etc/passwd"),),
    "hard link through a link": (Entry("out", SYMLINK, linkname=".."), Entry("x", LINK, linkname="out/secret")),
    "hard link to the root": (Entry("x", LINK, linkname="/"),),
    "hard link to a folder": (Entry("d/", DIR), Entry("x", LINK, linkname="d")),
    "hard link to itself": (("x", b""), Entry("x", LINK, linkname="x")),
    "hard link to nothing": (Entry("x", LINK, linkname="y"),),
    "a loop of links as a parent": (Entry("a", SYMLINK, linkname="b"), Entry("b", SYMLINK, linkname="a"), ("a/x", b"")),
    "a file as a parent": (("a", b""), ("a/x", b"")),
    "whiteout of nothing": ((".wh.", b""),),
    "whiteout of the folder it is in": (("d/.wh..", b""),),
    "whiteout of the folder above": (("d/.wh...", b""),),
    "whiteout of the root": ((".wh..wh..opq", b""),),
    "a device that would be a whiteout": (Entry("x", CHAR, devmajor=0, devminor=0),),
    "a device that does not exist": (Entry("x", BLOCK, devmajor=5000, devminor=1),),
    "a device with a negative number": [raw_block(b"x", b"4", major=b"\xff" * 8), END],
    "an owner beyond 32 bits": [pax(Entry("x"), (b"uid", b"4294967296"))],
    "a group beyond 32 bits": [pax(Entry("x/", DIR), (b"gid", b"9" * 18))],
    "a negative owner": [pax(Entry("x", SYMLINK, linkname="y"), (b"uid", b"-2"))],
    "a global header that names a sparse file in no words": [pax(Entry("x"), (b"GNU.sparse.\xff", b"1")).replace(b"x", b"g", 1)],
    "a GNU long name that the PAX header contradicts": [long_name(b"secret"), pax(Entry("x"), (b"path", b"other"))],
    "a GNU long link that the PAX header contradicts": [
        long_name(b"secret", b"K"), pax(Entry("x", SYMLINK, linkname="y"), (b"linkpath", b"other")),
    ],
    "a zero block between members": [header(Entry("x")), bytes(512), header(Entry("y")), END],
    "a name longer than a file name": (("n" * 256, b""),),
    "a path longer than a path": (("n/" * 2500 + "x", b""),),
    "a symbolic link to nothing": (Entry("x", SYMLINK, linkname=""),),
    "PAX size over ustar size": [pax(Entry("x", size=3), (b"size", b"1024"), content=b"abc")],
    "PAX size over a ustar size of zero": [pax(Entry("x", size=0), (b"size", b"512"), content=b"a" * 512)],
    "PAX size below ustar size": [pax(Entry("x", size=1024), (b"size", b"0"), content=b"a" * 1024)],
    "negative PAX size": [pax(Entry("x"), (b"size", b"-1"))],
    "PAX size that is no number": [pax(Entry("x"), (b"size", b"0x10"))],
    "NUL in a PAX path": [pax(Entry("x"), (b"path", b"good\0/../../evil"))],
    "PAX path that leads out": [pax(Entry("x"), (b"path", b"../secret"))],
    "PAX link that leads out": [pax(Entry("x", LINK, linkname="y"), (b"linkpath", b"../secret"))],
    "negative base-256 size": [number("x", 124, b"\xff" * 12)],
    "a size that is no number": [number("x", 124, b"1_000\0")],
    "a size with a sign": [number("x", 124, b"-1\0")],
    "an unknown type": [number("x", 156, b"V")],
    "a wrong checksum": [header(Entry("x")).replace(b"x", b"y", 1)],
    "no end of the data": [header(Entry("x", size=5000)), b"short"],
    "half a header": [header(Entry("x"))[:300]],
    "half a PAX header": [header(Entry("x"))[:156] + b"x"],
    "extended header without member": [pax(Entry("x"), (b"comment", b"y"))[:1024]],
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("bottom", [True, False])
def test_refused(case: str, bottom: bool, outside: str, layer: Layer, listing: Listing, root_only: None) -> None:
    items = REFUSED[case]
    chunks = items if isinstance(items, list) else layer(*items)
    before = untouched(outside, listing)
    with pytest.raises(LayerError):
        unpacked = unpack(chunks, f"{outside}/layer", bottom=bottom, lower=lambda: f"{outside}/etc")
        write_marks(f"{outside}/layer", unpacked, "trusted.overlay.opaque")
    assert untouched(outside, listing) == before


CONFINED: dict[str, tuple[tuple[object, ...], str]] = {
    # What containerd confines, and legal layers do: it must come out inside, at this place.
    "absolute name": ((("/etc/passwd", b"new"),), "etc/passwd"),
    "absolute name with many slashes": ((("//etc//passwd", b"new"),), "etc/passwd"),
    "write through a link to /": ((Entry("out", SYMLINK, linkname="/"), ("out/etc/passwd", b"new")), "etc/passwd"),
    "write through a link to ..": ((Entry("out", SYMLINK, linkname="../.."), ("out/secret", b"new")), "secret"),
    "write through a chain of links": (
        (Entry("a", SYMLINK, linkname="b/.."), Entry("b", SYMLINK, linkname="/.."), ("a/etc/passwd", b"new")),
        "etc/passwd",
    ),
    "write over a link": ((Entry("x", SYMLINK, linkname="../secret"), ("x", b"new")), "x"),
    "lib -> usr/lib": (
        (Entry("usr/", DIR), Entry("usr/lib/", DIR), Entry("lib", SYMLINK, linkname="usr/lib"), ("lib/x", b"new")),
        "usr/lib/x",
    ),
    "a folder swapped for a link": (
        (Entry("d/", DIR), ("d/one", b""), Entry("d", SYMLINK, linkname="../etc"), ("d/passwd", b"new")),
        "etc/passwd",
    ),
    "a link swapped for a folder": ((Entry("d", SYMLINK, linkname="../etc"), Entry("d/", DIR), ("d/passwd", b"new")), "d/passwd"),
    "hard link to a link": (
        (Entry("s", SYMLINK, linkname="../secret"), Entry("h", LINK, linkname="s"), ("h", b"new")),
        "h",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFINED)
def test_confined(case: str, outside: str, layer: Layer, listing: Listing, root_only: None) -> None:
    items, place = CONFINED[case]
    before = untouched(outside, listing)
    unpack(layer(*items), f"{outside}/layer", bottom=True)
    path = f"{outside}/layer/{place}"
    assert not os.path.islink(path)
    with open(path) as file:
        assert file.read() == "new"
    assert os.path.realpath(path).startswith(os.path.realpath(outside) + "/layer/")
    assert untouched(outside, listing) == before


def test_metadata_never_reaches_a_link_s_target(outside: str, layer: Layer, listing: Listing, root_only: None) -> None:
    before = untouched(outside, listing)
    link = Entry("x", SYMLINK, 0o777, 1234, 1234, mtime_ns=7 * 10**9, linkname="../secret")
    hard = Entry("y", LINK, 0o666, 1234, 1234, mtime_ns=7 * 10**9, linkname="x")
    unpack(layer(link, hard), f"{outside}/layer", bottom=True)
    assert untouched(outside, listing) == before


def test_overlay_s_own_attributes_can_t_be_planted(outside: str, layer: Layer, root_only: None) -> None:
    planted = {"trusted.overlay.opaque": b"y", "trusted.overlay.redirect": b"/etc", "user.overlay.opaque": b"y", "trusted.x": b"y"}
    unpack(layer(Entry("d/", DIR, xattrs={**planted, "user.mine": b"1"})), f"{outside}/layer", bottom=True)
    assert os.listxattr(f"{outside}/layer/d") == ["user.mine"]


def test_devices_and_fifos_are_made_and_not_opened(outside: str, layer: Layer, root_only: None) -> None:
    unpack(layer(Entry("null", CHAR, 0o666, devmajor=1, devminor=3), Entry("fifo", FIFO, 0o600)), f"{outside}/layer", bottom=True)
    assert os.lstat(f"{outside}/layer/null").st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO(os.lstat(f"{outside}/layer/fifo").st_mode)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(entries=19), "more than 19 entries"),
        (Limits(total=999), "more than 999 bytes"),
        (Limits(depth=1), "more than 1 folders deep"),
        (Limits(name=4), "more than 4 bytes"),
        (Limits(xattr=3), "over the limit of 3 bytes"),
        (Limits(special=20), "over the limit of 20"),
    ],
)
def test_bombs(limits: Limits, text: str, outside: str, layer: Layer, root_only: None) -> None:
    chunks = layer(*[(Entry(f"a/b/{n}", REG, xattrs={"user.x": b"1234"}), b"x" * 100) for n in range(10)])
    with pytest.raises(LayerError, match=text):
        unpack(chunks, f"{outside}/layer", bottom=True, limits=limits)


def test_members_count_and_so_do_headers_without_one(outside: str, layer: Layer, root_only: None) -> None:
    headers = [long_name(b"x") for _ in range(10)]
    for chunks in (layer(*[(f"f{n}", b"") for n in range(10)]), [*headers, header(Entry("y")), END]):
        with pytest.raises(LayerError, match="more than 9 entries"):
            unpack(chunks, f"{outside}/layer", bottom=True, limits=Limits(entries=9))


def test_what_follows_the_end_has_an_end(outside: str, root_only: None) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield header(Entry("x")) + END
        while taken < 1000:
            taken += 1
            yield bytes(1000)

    with pytest.raises(LayerError, match="more than 5000 bytes behind its end"):
        unpack(endless(), f"{outside}/layer", bottom=True, limits=Limits(total=5000))
    assert taken == 6


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(outside: str, root_only: None) -> None:
    free = os.statvfs(outside)
    size = min(free.f_bavail * free.f_frsize + (1 << 30), (1 << 33) - 1)
    if size <= free.f_bavail * free.f_frsize:
        size = 200 << 30
    chunks = [pax(Entry("x", size=0 if size >= 1 << 33 else size), (b"size", str(size).encode())), bytes(1 << 20)]
    with pytest.raises(StoreError, match=f"can't unpack x: no space left on device: it has {size} bytes, .* are free"):
        unpack(chunks, f"{outside}/layer", bottom=True)
    assert os.stat(f"{outside}/layer/x").st_size == 0


def test_a_sparse_bomb_counts_with_its_holes(outside: str) -> None:
    sparse = (b"GNU.sparse.map", b"0,0"), (b"GNU.sparse.size", b"1000000000000000"), (b"GNU.sparse.numblocks", b"1")
    with pytest.raises(LayerError, match="unpacks to more"):
        unpack([pax(Entry("x"), *sparse), END], f"{outside}/layer", bottom=True)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "/..", "a/b/../../.."])
def test_clean_refuses_what_leads_out(name: str) -> None:
    with pytest.raises(LayerError):
        clean(name)


@pytest.mark.parametrize(
    ("name", "path"),
    [(".", ""), ("/", ""), ("a/", "a"), ("./a", "a"), ("/a//b/.", "a/b"), ("a/../b", "b"), ("..a", "..a"), ("a/.", "a")],
)
def test_clean(name: str, path: str) -> None:
    assert clean(name) == path


@given(st.lists(raw_members(), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_headers_give_a_layer_or_an_error_with_a_cause(tmp_path: object, root_only: None, members: list[bytes]) -> None:
    folder = tempfile.mkdtemp(dir=str(tmp_path))
    with suppress(PybuildError):
        unpack([b"".join(members), END], folder, bottom=True)
    shutil.rmtree(folder)
