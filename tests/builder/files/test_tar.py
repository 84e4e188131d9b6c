"""The tar reader and writer against each other, Python's tarfile, GNU tar, and Go's rules for which header is written."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import LayerError
from builder.files.tar import BLOCK, CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry, TarReader, TarWriter
from builder.files.tar import pax as records
from builder.files.tar.writer import header


def write(*members: tuple[Entry, bytes]) -> bytes:
    out: list[bytes] = []
    writer = TarWriter(out.append)
    for entry, content in members:
        writer.add(entry, [content])
    writer.close()
    return b"".join(out)


def read(data: bytes, step: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    reader = TarReader(data[at : at + step] for at in range(0, len(data), step))
    return [(entry, b"".join(reader.data())) for entry in reader]


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300).map(
    lambda s: s.rstrip("/") or "x"
)
numbers = st.one_of(st.integers(0, 1 << 21), st.integers(0, 1 << 40))
xattrs = st.dictionaries(st.sampled_from(["security.capability", "user.ü", "user.x"]), st.binary(max_size=50), max_size=2)


@st.composite
def members(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from([REG, LINK, SYMLINK, CHAR, BLOCK, DIR, FIFO]))
    content = draw(st.binary(max_size=1500)) if kind == REG else b""
    device = kind in (CHAR, BLOCK)
    entry = Entry(
        draw(names) + ("/" if kind == DIR else ""),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(numbers),
        draw(numbers),
        len(content),
        draw(st.one_of(st.integers(0, 1 << 33).map(lambda s: s * 10**9), st.integers(-(10**18), 10**18))),
        draw(names) if kind in (LINK, SYMLINK) else "",
        draw(st.integers(0, 4095)) if device else 0,
        draw(st.integers(0, 1 << 20)) if device else 0,
        xattrs=draw(xattrs),
    )
    return entry, content


@given(st.lists(members(), max_size=5), st.integers(1, 2000))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read(entries: list[tuple[Entry, bytes]], step: int) -> None:
    assert read(write(*entries), step) == entries


@given(st.lists(members(), max_size=3))
@settings(max_examples=100, deadline=None)
def test_tarfile_reads_what_is_written(entries: list[tuple[Entry, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(write(*entries))) as archive:
        found = archive.getmembers()
        for info, (entry, content) in zip(found, entries, strict=True):
            assert (info.name, info.uid, info.gid, info.mode) == (entry.name.rstrip("/"), entry.uid, entry.gid, entry.mode)
            assert info.linkname == entry.linkname.rstrip("/") or info.linkname == entry.linkname
            if entry.type == REG:
                file = archive.extractfile(info)
                assert file is not None
                assert file.read() == content


@given(st.binary(max_size=3000))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_entries_or_a_layer_error(data: bytes) -> None:
    try:
        read(data)
    except LayerError:
        pass


@given(members(), st.integers(0, 1535), st.binary(min_size=1, max_size=8))
@settings(max_examples=500, deadline=None)
def test_a_damaged_archive_gives_entries_or_a_layer_error(member: tuple[Entry, bytes], at: int, junk: bytes) -> None:
    data = bytearray(write(member))
    data[at : at + len(junk)] = junk
    try:
        read(bytes(data))
    except LayerError:
        pass


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tarfile_s_archives_are_read(form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name in ("d", "d/" + "n" * 90, "p" * 90 + "/" + "q" * 90):
            info = tarfile.TarInfo(name)
            info.mtime, info.uid = 1_600_000_000, 1000
            info.type, info.size = (tarfile.DIRTYPE, 0) if name == "d" else (tarfile.REGTYPE, 4)
            archive.addfile(info, io.BytesIO(b"data"))
        link = tarfile.TarInfo("s")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * 99
        archive.addfile(link)
        if form != tarfile.USTAR_FORMAT:
            long = tarfile.TarInfo("é" * 120)
            long.uid, long.mtime = 1 << 30, 1_600_000_000
            archive.addfile(long)
    found = [(entry.name.rstrip("/"), entry.type, entry.uid, entry.linkname, content) for entry, content in read(buffer.getvalue())]
    want = [
        ("d", DIR, 1000, "", b""),
        ("d/" + "n" * 90, REG, 1000, "", b"data"),
        ("p" * 90 + "/" + "q" * 90, REG, 1000, "", b"data"),
        ("s", SYMLINK, 0, "t" * 99, b""),
        ("é" * 120, REG, 1 << 30, "", b""),
    ]
    assert found == want[: len(found)]
    assert len(found) == (4 if form == tarfile.USTAR_FORMAT else 5)


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_gnu_tar_s_archives_are_read(form: str, tmp_path: object) -> None:
    if shutil.which("tar") is None:
        pytest.skip("needs GNU tar")
    with open(f"{tmp_path}/file", "w") as file:
        file.write("content")
    data = subprocess.run(["tar", f"--format={form}", "-cf", "-", "-C", str(tmp_path), "file"], capture_output=True, check=True)
    assert [(entry.name, content) for entry, content in read(data.stdout)] == [("file", b"content")]


@pytest.mark.parametrize(
    "options", [["--format=gnu"], *[["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")]]
)
def test_sparse_files_are_read(options: list[str], tmp_path: object) -> None:
    if shutil.which("tar") is None:
        pytest.skip("needs GNU tar")
    with open(f"{tmp_path}/file", "wb") as file:
        for number in range(40):  # more parts than a GNU header and its first extension hold
            file.seek(number * 65536 + 8192)
            file.write(b"part %d" % number)
        file.truncate(4 << 20)
    with open(f"{tmp_path}/file", "rb") as file:
        want = file.read()
    made = subprocess.run(["tar", "-S", *options, "-cf", "-", "-C", str(tmp_path), "file"], capture_output=True, check=True)
    assert len(made.stdout) < 1 << 20
    for step in (1 << 20, 999):
        [(entry, content)] = read(made.stdout, step)
        assert (entry.name, entry.type, entry.size) == ("file", REG, 4 << 20)
        assert entry.sparse is not None
        assert content == want


def test_invalid_utf_8_survives() -> None:
    entry = Entry(b"caf\xe9/\xff".decode("utf-8", "surrogateescape"))
    data = write((entry, b""))
    assert b"caf\xe9/\xff" in data
    assert read(data)[0][0].name == entry.name


def test_plain_entries_are_ustar_and_half_a_block() -> None:
    block = header(Entry("bin/sh", REG, 0o755, 0, 0, 1234, 1_700_000_000 * 10**9))
    assert len(block) == 512
    assert block[:6] == b"bin/sh"
    assert block[100:136] == b"0000755\x000000000\x000000000\x0000000002322\x00"
    assert block[136:148] == b"14524770400\0"
    assert block[156:157] == b"0"
    assert block[257:265] == b"ustar\x0000"
    assert block[265:329] == bytes(64)  # no names of users: they are the host's
    assert block[329:345] == b"0000000\x000000000\x00"
    assert int(block[148:154], 8) == sum(block[:148]) + 8 * 32 + sum(block[156:])
    assert block[154:156] == b"\0 "


@pytest.mark.parametrize(
    ("entry", "want"),
    [
        (Entry("a/" * 60 + "b"), []),  # the prefix field takes it
        (Entry("n" * 101), [b"path"]),
        (Entry("é"), [b"path"]),
        (Entry("s", SYMLINK, linkname="t" * 101), [b"linkpath"]),
        (Entry("x", uid=1 << 21), [b"uid"]),
        (Entry("x", size=1 << 33), [b"size"]),
        (Entry("x", mtime_ns=1), [b"mtime"]),
        (Entry("x", mtime_ns=-(10**9)), [b"mtime"]),
        (Entry("x", xattrs={"user.a": b"\1", "user.b": b""}), [b"SCHILY.xattr.user.a", b"SCHILY.xattr.user.b"]),
        (Entry("a/" * 60 + "b", mtime_ns=1), [b"mtime", b"path"]),
    ],
)
def test_pax_only_where_ustar_can_t_say_it(entry: Entry, want: list[bytes]) -> None:
    data = header(entry)
    if not want:
        assert len(data) == 512
        return
    assert data[156:157] == b"x"
    length = int(data[124:135], 8)
    assert list(records.parse(data[512 : 512 + length])) == want  # sorted
    assert len(data) == 1536


def test_the_pax_header_is_named_after_the_file() -> None:
    data = header(Entry("some/dir/é", mtime_ns=1))
    assert data[:100].rstrip(b"\0") == b"some/dir/PaxHeaders.0"
    assert header(Entry("d/e/", DIR, mtime_ns=1))[:100].rstrip(b"\0") == b"d/e/PaxHeaders.0"
    assert header(Entry("d/e", mtime_ns=1))[:100].rstrip(b"\0") == b"d/PaxHeaders.0/e"
    assert data[1024 : 1024 + 9] == b"some/dir/"  # without what is not ASCII


@given(st.binary(max_size=12).filter(lambda k: b"=" not in k and b"\0" not in k), st.binary(max_size=1200))
def test_records_round_trip(key: bytes, value: bytes) -> None:
    key = b"SCHILY.xattr.user." + key
    assert records.parse(records.record(key, value) * 2) == {key: value}


@given(st.integers(-(10**19), 10**19))
def test_times_round_trip(nanoseconds: int) -> None:
    assert records.parse_time(records.format_time(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    "entry", [Entry("x/", REG), Entry("x", DIR), Entry("a\0b"), Entry("x", mode=1 << 21), Entry("x", xattrs={"a=b": b""})]
)
def test_what_no_header_can_say_is_refused(entry: Entry) -> None:
    with pytest.raises(LayerError):
        header(entry)


def test_content_of_another_size_is_refused() -> None:
    with pytest.raises(LayerError, match="changed while it was read"):
        write((Entry("x", size=4), b"abc"))


def test_the_stream_is_read_to_its_end() -> None:
    source = iter([write((Entry("x"), b"")), b"behind the end", b"more"])
    assert [entry.name for entry in TarReader(source)] == ["x"]
    assert next(source, None) is None


def test_global_headers_do_not_apply_but_may_not_confuse() -> None:
    def with_global(pair: tuple[bytes, bytes]) -> bytes:
        body = records.record(*pair)
        block = bytearray(header(Entry("pax_global_header", size=len(body))))
        block[156:157] = b"g"
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block) + body + bytes(-len(body) % 512) + write((Entry("x", uid=5), b""))

    [(entry, _)] = read(with_global((b"uid", b"7")))
    assert entry.uid == 5
    with pytest.raises(LayerError, match="global PAX header with size"):
        read(with_global((b"size", b"1024")))


def test_base_256_numbers() -> None:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("x")
        info.uid, info.mtime = 1 << 40, -5
        archive.addfile(info)
    [(entry, _)] = read(buffer.getvalue())
    assert (entry.uid, entry.mtime_ns) == (1 << 40, -5 * 10**9)


def test_one_zero_block_ends_an_archive_too() -> None:
    assert [entry.name for entry, _ in read(write((Entry("x"), b""))[:1024])] == ["x"]
    assert [entry.name for entry, _ in read(write((Entry("x"), b""))[:512])] == ["x"]
