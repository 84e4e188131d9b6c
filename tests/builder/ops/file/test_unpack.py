"""ADD of archives: what is one, and what its members may do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from typing import Any

import pytest
import zstandard

from builder.errors import StepError
from builder.graph.ops import CopyAction, Owner

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
        [("l", {"type": SYM, "linkname": "OUTSIDE/victim"}), ("l", {}, b"F")],
    ],
)
def test_nothing_outside_the_destination_is_touched(kit: Any, tmp_path: Any, members: list[Any]) -> None:
    outside = tmp_path / "victims"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("safe")
    before = os.stat(victim)
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


def test_damage_behind_the_first_header_is_an_error(kit: Any) -> None:
    with pytest.raises(StepError, match="failed to unpack /a"):
        run(kit, tar(("f", {}, bytes(5000)))[:2000])


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_owners_are_the_archives_or_those_of_chown_but_implied_folders_are_roots(kit: Any) -> None:
    data = tar(("i/f", {"uid": 5, "gid": 6}, b""), ("l", {"type": SYM, "linkname": "i", "uid": 7, "gid": 8}))
    run(kit, data)
    root = kit.worker.cache.base + "/ref0/x"
    assert [(os.lstat(root + p).st_uid, os.lstat(root + p).st_gid) for p in ("", "/i", "/i/f", "/l")] == [
        (0, 0),
        (0, 0),
        (5, 6),
        (7, 8),
    ]
    used = len(kit.worker.cache.log)
    run(kit, data, owner=Owner(33, 44))
    root = f"{kit.worker.cache.base}/ref{used}/x"
    assert [(os.lstat(root + p).st_uid, os.lstat(root + p).st_gid) for p in ("", "/i", "/i/f", "/l")] == [
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
