"""ADD of archives: what is one, and what its members may do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from contextlib import suppress
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import PybuildError, StepError, StoreError
from builder.files.owners import current
from builder.files.xattrs import list_xattrs
from builder.graph.ops import CopyAction, Owner
from tests.support.tars import raw_members

Member = tuple[str, dict[str, Any], bytes]


def tar(*members: tuple[Any, ...]) -> bytes:
    """An archive from (name, fields of TarInfo, data)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, fields, *data in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o644, 1_000_000_000
            for key, value in fields.items():
                setattr(info, key, value)
            content = data[0] if data else b""
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))
    return out.getvalue()


def add(dest: str = "/x", **more: Any) -> CopyAction:
    return CopyAction(
        0, 1, 0, "/a", dest, attempt_unpack=True, create_dest_path=True, follow_symlink=True, dir_copy_contents=True, **more
    )


DIR, LINK, SYM, FIFO = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE
ONE = tar(("f", {}, b"F"))


def run(kit: Any, data: bytes, before: Any = None, **more: Any) -> dict[str, str]:
    (out,) = kit.run(add(**more), inputs=[kit.ref(before or {}), kit.ref({"a": (data, 0o600)})])
    return dict(out)


@pytest.mark.parametrize(
    "pack",
    [
        lambda d: d,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda d: zstandard.ZstdCompressor().compress(d),
        lambda d: gzip.compress(d[:700]) + gzip.compress(d[700:]),
        lambda d: bz2.compress(d[:700]) + bz2.compress(d[700:]),
        lambda d: lzma.compress(d[:700]) + lzma.compress(d[700:]) + bytes(4),
        lambda d: b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstandard.ZstdCompressor().compress(d),
    ],
    ids=["tar", "gzip", "bzip2", "xz", "zstd", "gzip members", "bzip2 streams", "xz streams", "zstd skippable"],
)
def test_archives_are_told_by_their_bytes(kit: Any, pack: Any) -> None:
    assert run(kit, pack(ONE)) == {"x": "d* 755", "x/f": "f 644 F"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        bytes(1024),
        ONE[:300],
        b"\x1f\x8b broken",
        gzip.compress(b"text"),
        bz2.compress(b"x" * 1024),
        b"BZh9",
        b"\xfd7zXZ\x00",
        tar(),
    ],
    ids=[
        "empty",
        "text",
        "zeros",
        "cut header",
        "broken gzip",
        "gzip of text",
        "bzip2 of text",
        "only magic",
        "xz magic",
        "no members",
    ],
)
def test_everything_else_is_copied(kit: Any, data: bytes) -> None:
    (out,) = kit.run(add("/x/"), inputs=[kit.ref({}), kit.ref({"a": (data, 0o600)})])
    assert list(out) == ["x", "x/a"]


def test_without_the_rule_an_archive_is_a_file(kit: Any) -> None:
    (out,) = kit.run(CopyAction(0, 1, 0, "/a", "/x"), inputs=[kit.ref({}), kit.ref({"a": (ONE, 0o600)})])
    assert list(out) == ["x"]


def test_a_folder_is_copied_not_unpacked(kit: Any) -> None:
    (out,) = kit.run(add(), inputs=[kit.ref({}), kit.ref({"a/in.tar": (ONE, 0o600)})])
    assert list(out) == ["x", "x/in.tar"]


CASES: list[tuple[str, Any, list[Any], dict[str, str]]] = [
    (
        "types, modes and times are the archive's; folders without an entry are 0755",
        {},
        [
            ("d/", {"type": DIR, "mode": 0o2711}),
            ("d/s", {"type": SYM, "linkname": "f"}),
            ("d/p", {"type": FIFO, "mode": 0o600}),
            ("i/f", {"mode": 0o4755}, b"1"),
        ],
        {"x": "d* 755", "x/d": "d 2711", "x/d/p": "p 600", "x/d/s": "l f", "x/i": "d* 755", "x/i/f": "f 4755 1"},
    ),
    ("files replace folders", {"x/f/old": "O"}, [("f", {}, b"F")], {"x": "d* 755", "x/f": "f 644 F"}),
    ("folders replace files", {"x/f": "O"}, [("f", {"type": DIR, "mode": 0o700})], {"x": "d* 755", "x/f": "d 700"}),
    (
        "folders are merged",
        {"x/f/old": "O"},
        [("f", {"type": DIR, "mode": 0o700})],
        {"x": "d 755", "x/f": "d 700", "x/f/old": "f 644 O"},
    ),
    (
        "a link in its place is replaced",
        {"x/f": "-> /t", "t": "T"},
        [("f", {}, b"F")],
        {"t": "f 644 T", "x": "d* 755", "x/f": "f 644 F"},
    ),
    (
        "a link on the way is followed, with the destination as root",
        {"x/l": "-> /t"},
        [("t", {"type": DIR}), ("l/f", {}, b"F")],
        {"x": "d* 755", "x/l": "l /t", "x/t": "d 644", "x/t/f": "f 644 F"},
    ),
    (
        "dots stop at the destination",
        {},
        [("../../e", {}, b"E"), ("/abs", {}, b"A")],
        {"x": "d* 755", "x/abs": "f 644 A", "x/e": "f 644 E"},
    ),
    (
        "hard links",
        {},
        [("f", {}, b"F"), ("h", {"type": LINK, "linkname": "f"})],
        {"x": "d* 755", "x/f": "f 644 F", "x/h": "f 644 F"},
    ),
    (
        "hard links start at the destination",
        {"f": "outside"},
        [("f", {}, b"F"), ("h", {"type": LINK, "linkname": "../../f"})],
        {"f": "f 644 outside", "x": "d* 755", "x/f": "f 644 F", "x/h": "f 644 F"},
    ),
    ("whiteouts are files", {"x/f": "O"}, [(".wh.f", {}, b"")], {"x": "d* 755", "x/.wh.f": "f 644", "x/f": "f 644 O"}),
    ("the entry `.` is passed over", {"x/": 0o711}, [("./", {"type": DIR, "mode": 0o700})], {"x": "d 711"}),
]


@pytest.mark.parametrize(("before", "members", "after"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_table(kit: Any, before: Any, members: list[Any], after: dict[str, str]) -> None:
    assert run(kit, tar(*members), before) == after


@pytest.mark.parametrize(
    "members",
    [
        [("l", {"type": SYM, "linkname": "/"}), ("l/../../f", {}, b"F")],
        [("l", {"type": SYM, "linkname": "../../../.."}), ("l/f", {}, b"F")],
        [("l", {"type": SYM, "linkname": "OUTSIDE"}), ("l/f", {}, b"F")],
        [("l", {"type": SYM, "linkname": "OUTSIDE/victim"}), ("h", {"type": LINK, "linkname": "l"}), ("h", {}, b"F")],
        [("h", {"type": LINK, "linkname": "OUTSIDE/victim"})],
        [("h", {"type": LINK, "linkname": "../../../victim"})],
        [("l", {"type": SYM, "linkname": "OUTSIDE"}), ("h", {"type": LINK, "linkname": "l/victim"}), ("h", {}, b"F")],
        [("d", {"type": DIR}), ("d", {"type": SYM, "linkname": "OUTSIDE"})],
        [("d/e", {"type": DIR}), ("d", {"type": SYM, "linkname": "OUTSIDE/.."}), ("d/victims", {"type": DIR})],
        [("l", {"type": SYM, "linkname": "OUTSIDE/victim"}), ("l", {}, b"F")],
    ],
)
def test_nothing_outside_the_destination_is_touched(kit: Any, tmp_path: Any, members: list[Any]) -> None:
    outside = tmp_path / "victims"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("safe")
    before, folder = os.stat(victim), os.stat(outside)
    fixed = [
        (n, {k: v.replace("OUTSIDE", str(outside)) if k == "linkname" else v for k, v in f.items()}, *d) for n, f, *d in members
    ]
    try:
        run(kit, tar(*fixed))
    except StepError:
        pass
    assert victim.read_text() == "safe"
    assert os.listdir(outside) == ["victim"]
    assert os.stat(victim).st_nlink == before.st_nlink
    assert os.stat(victim).st_ctime_ns == before.st_ctime_ns
    assert os.stat(outside).st_ctime_ns == folder.st_ctime_ns


@pytest.mark.skipif(os.geteuid() != 0, reason="sets trusted attributes")
def test_overlay_s_own_attributes_can_t_be_planted(kit: Any) -> None:
    names = ("trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "trusted.x", "user.mine")
    planted = {"pax_headers": {f"SCHILY.xattr.{name}": "y" for name in names}}
    run(kit, tar(("d", {"type": DIR, **planted}), ("f", planted, b"F"), ("l", {"type": SYM, "linkname": "x", **planted})))
    root = f"{kit.worker.cache.base}/ref0/x"
    assert [list_xattrs(f"{root}/{n}") for n in "dfl"] == [["user.mine"], ["user.mine"], []]


def test_damage_behind_the_first_header_is_an_error(kit: Any) -> None:
    with pytest.raises(StepError, match="failed to unpack /a"):
        run(kit, tar(("f", {}, bytes(5000)))[:2000])


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_owners_are_the_archives_or_those_of_chown_but_implied_folders_are_roots(kit: Any) -> None:
    data = tar(("i/f", {"uid": 5, "gid": 6}, b""), ("l", {"type": SYM, "linkname": "i", "uid": 7, "gid": 8}))
    run(kit, data)
    root = kit.worker.cache.base + "/ref0/x"
    assert [(current().lstat(root + p).st_uid, current().lstat(root + p).st_gid) for p in ("", "/i", "/i/f", "/l")] == [
        (0, 0),
        (0, 0),
        (5, 6),
        (7, 8),
    ]
    used = len(kit.worker.cache.log)
    run(kit, data, owner=Owner(33, 44))
    root = f"{kit.worker.cache.base}/ref{used}/x"
    assert [(current().lstat(root + p).st_uid, current().lstat(root + p).st_gid) for p in ("", "/i", "/i/f", "/l")] == [
        (33, 44),
        (0, 0),
        (33, 44),
        (33, 44),
    ]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("l/f", "open /l/f: no such file or directory"),
        ("l/sub/f", "mkdir /l: file exists"),
        ("d/l2/f", "open /d/l2/f: no such file"),
    ],
)
def test_a_member_below_a_link_that_leads_nowhere_is_an_error(kit: Any, member: str, message: str) -> None:
    links = (("l", {"type": SYM, "linkname": "/nowhere"}, b""), ("d/l2", {"type": SYM, "linkname": "../l"}, b""))
    with pytest.raises(StepError, match=message):
        run(kit, tar(*links, (member, {}, b"text")))


# ------------------------------------------------------------------------------------------------ the end, and before the end
ZSTD = zstandard.ZstdCompressor(write_checksum=True)
PACKERS = {"bz2": bz2.compress, "xz": lzma.compress, "gz": gzip.compress, "zst": ZSTD.compress}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_nothing_behind_the_end_of_an_archive_is_asked_for(kit: Any, packer: str, cut: int) -> None:
    """A footer, a checksum, an index: moby's reader never gets that far."""
    whole = PACKERS[packer](ONE)
    cut = min(cut, 4) if packer == "zst" else cut  # there is nothing but the checksum behind the last block
    for data in (whole[:-cut], whole + b"junk", ONE + b"junk" * 999):
        assert run(kit, data) == {"x": "d* 755", "x/f": "f 644 F"}


@pytest.mark.parametrize("packer", PACKERS)
def test_an_archive_that_lost_members_is_an_error(kit: Any, packer: str) -> None:
    noise = os.urandom(1 << 20)
    data = PACKERS[packer](tar(("a", {}, noise), ("b", {}, noise), ("c", {}, b"C")))
    with pytest.raises(StepError, match=r"failed to unpack /a: .*(cut off|truncated)"):
        run(kit, data[: -(1 << 19)])


@pytest.mark.parametrize("packer", PACKERS)
def test_one_that_lost_its_first_member_is_a_file(kit: Any, packer: str) -> None:
    (out,) = kit.run(add("/x/"), inputs=[kit.ref({}), kit.ref({"a": (PACKERS[packer](ONE)[:12], 0o600)})])
    assert list(out) == ["x", "x/a"]


def test_an_archive_that_is_refused_is_not_copied_as_a_file(kit: Any) -> None:
    with pytest.raises(StepError, match="a name in the archive has more than 4096 bytes"):
        run(kit, tar(("d/" * 2060 + "f", {}, b"")))


def test_a_folder_whose_place_is_taken_gives_its_time_to_what_is_there(kit: Any) -> None:
    folder = {"type": DIR, "mtime": 5}
    run(kit, tar(("d", folder), ("d", {"mtime": 7}, b"F")))
    assert current().stat(kit.worker.cache.base + "/ref0/x/d").st_mtime == 5
    with pytest.raises(StepError, match=r"chtimes /foo\.txt/d1: not a directory"):
        run(kit, tar(("foo.txt/d1", folder), ("foo.txt", {}, b"F")))
    with pytest.raises(StepError, match="chtimes /d: no such file or directory"):
        run(kit, tar(("d", folder), ("d", {"type": SYM, "linkname": "nowhere"})))


# ------------------------------------------------------------------------------------------------ headers that can't be
@pytest.mark.parametrize("number", [1 << 32, (1 << 32) + 5, 1 << 62, -2, -(1 << 40)])
@pytest.mark.parametrize("field", ["uid", "gid"])
def test_owners_beyond_32_bits_are_told(kit: Any, field: str, number: int) -> None:
    for fields in ({}, {"type": DIR}, {"type": SYM, "linkname": "t"}):
        with pytest.raises(StepError, match=rf"failed to unpack /a: f/?: owner .*{number}.* does not exist"):
            run(kit, tar(("f", {**fields, "pax_headers": {field: str(number)}})))
    if os.geteuid() == 0:
        assert run(kit, tar(("f", {"pax_headers": {field: str(number)}})), owner=Owner(1, 2))["x/f"] == "f 644"


@pytest.mark.parametrize(("major", "minor"), [(1 << 12, 0), (0, 1 << 20), (1 << 40, 1), (-1, 1)])
def test_devices_that_do_not_exist_are_told(kit: Any, major: int, minor: int) -> None:
    block = bytearray(tar(("f", {"type": tarfile.BLKTYPE})))
    for at, value in ((329, major), (337, minor)):
        block[at : at + 8] = (value & ((1 << 63) - 1) | 1 << 63).to_bytes(8, "big")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block[:512])
    with pytest.raises(StepError, match=r"failed to unpack /a: f: device number .* does not exist"):
        run(kit, bytes(block))


def test_a_device_that_hides_files_can_t_be_made(kit: Any) -> None:
    with pytest.raises(StepError, match="mknod /f: operation not permitted"):
        run(kit, tar(("f", {"type": tarfile.CHRTYPE})))


def test_times_that_no_disk_can_hold_are_1970(kit: Any) -> None:
    run(kit, tar(*[(f"f{i}", {"pax_headers": {"mtime": t}}) for i, t in enumerate(["9" * 18, "-1", "1e9"[:1] + "0" * 17, "0.5"])]))
    times = [os.stat(f"{kit.worker.cache.base}/ref0/x/f{i}").st_mtime for i in range(4)]
    assert times == [0, 0, 0, 0.5]


def test_a_member_larger_than_the_disk_is_refused_before_it_is_written(kit: Any) -> None:
    head = tar(("f", {"pax_headers": {"size": str(200 << 30)}}))[:1536]
    with pytest.raises(StoreError, match=r"can't unpack f: no space left on device: it has 214748364800 bytes, .* are free"):
        run(kit, head + bytes(3 << 20))


@given(st.lists(raw_members(), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_headers_give_files_or_an_error_with_a_cause(kit: Any, members: list[bytes]) -> None:
    with suppress(PybuildError):
        run(kit, b"".join(members) + bytes(1024))
