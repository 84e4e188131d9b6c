"""Owners kept beside files are what real ones are: the same calls, seen by the same eyes. As root, who can have both."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import StoreError
from builder.files.apply import unpack
from builder.files.checksum import checksum, tree_checksum
from builder.files.copying import copy_tree
from builder.files.differ import write_difference
from builder.files.kept import Kept
from builder.files.owners import REAL, Owners, chosen, current
from builder.files.tar import BLOCK, CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry, TarWriter
from builder.files.tree import Tree
from builder.files.types import ChecksumOptions
from builder.files.xattrs import list_xattrs, read_xattr, read_xattrs, set_xattrs
from runtime.linux.overrides import NAME, Override, read_table

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="compares with files of other owners")

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
HIDDEN = (NAME, "user.pybuild.override_stat", "user.pybuild.capability")


def kinds() -> dict[str, Owners]:
    return {"real": REAL, "kept": Kept(rightless=False), "account": Kept(rightless=True)}


def told(owners: Owners, path: str) -> tuple[object, ...]:
    status = owners.lstat(path)
    return stat.filemode(status.st_mode), status.st_uid, status.st_gid, status.st_rdev, status.st_size


def on_each(tmp_path: Path, act: Callable[[Owners, str], object]) -> list[object]:
    """What ``act`` gives in an empty folder with each kind."""
    found = []
    for name, owners in kinds().items():
        folder = tmp_path / name
        folder.mkdir()
        with chosen(owners):
            found.append(act(owners, str(folder)))
    return found


def make(path: str, mode: int = 0o644) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.fchmod(fd, mode)
    os.close(fd)


CHANGES: dict[str, Callable[[Owners, str], object]] = {
    "chown": lambda o, p: o.chown(p, 5, 6),
    "chown back": lambda o, p: (o.chown(p, 5, 6), o.chown(p, 0, 0)),
    "chown of one": lambda o, p: (o.chown(p, 5, 6), o.chown(p, -1, 7), o.chown(p, 8, -1)),
    "chown takes set-id bits": lambda o, p: (o.chmod(p, 0o6755), o.chown(p, 5, 6)),
    "chown to itself too": lambda o, p: (o.chmod(p, 0o6755), o.chown(p, 0, 0)),
    "chown leaves mandatory locking": lambda o, p: (o.chmod(p, 0o6745), o.chown(p, 5, 6)),
    "chmod": lambda o, p: o.chmod(p, 0o1),
    "chmod and chown": lambda o, p: (o.chmod(p, 0o7411), o.chown(p, 5, 6), o.chmod(p, 0o7000)),
    "chmod after chown": lambda o, p: (o.chown(p, 5, 6), o.chmod(p, 0o4711)),
    "chown by a large number": lambda o, p: o.chown(p, (1 << 32) - 2, 1 << 31),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_calls_do_what_root_s_do(tmp_path: Path, name: str, kind: str) -> None:
    def act(owners: Owners, folder: str) -> object:
        path = f"{folder}/x"
        if kind == "folder":
            os.mkdir(path, 0o755)
        else:
            make(path)
        CHANGES[name](owners, path)
        by_name = told(owners, path)[:4]
        fd = os.open(path, os.O_PATH)
        status = owners.stat(fd)
        os.close(fd)
        assert (stat.filemode(status.st_mode), status.st_uid, status.st_gid, status.st_rdev) == by_name
        return by_name

    real, *kept = on_each(tmp_path, act)
    assert kept == [real, real]


@pytest.mark.parametrize("how", ["path", "folder", "handle"])
def test_what_bears_no_attribute_has_an_owner_too(tmp_path: Path, how: str) -> None:
    def act(owners: Owners, folder: str) -> object:
        os.symlink("nowhere", f"{folder}/link")
        for name, kind in (("fifo", stat.S_IFIFO), ("socket", stat.S_IFSOCK)):
            os.mknod(f"{folder}/{name}", kind | 0o640)
        for number, name in enumerate(("link", "fifo", "socket")):
            if how == "path":
                owners.chown(f"{folder}/{name}", number + 3, 4, follow_symlinks=False)
                continue
            fd = os.open(folder if how == "folder" else f"{folder}/{name}", os.O_PATH | os.O_NOFOLLOW)
            if how == "folder":
                owners.chown(name, number + 3, 4, dir_fd=fd, follow_symlinks=False)
            else:
                owners.chown(f"/proc/self/fd/{fd}", number + 3, 4)
                assert (owners.stat(fd).st_uid, owners.stat(fd).st_gid) == (number + 3, 4)
            os.close(fd)
        return [told(owners, f"{folder}/{name}") for name in ("link", "fifo", "socket")]

    real, *kept = on_each(tmp_path, act)
    assert kept == [real, real]


def test_a_number_that_is_no_id_is_refused(tmp_path: Path) -> None:
    make(f"{tmp_path}/f")
    for owners in kinds().values():
        with pytest.raises(OverflowError):
            owners.chown(f"{tmp_path}/f", 1 << 32, 0)


def test_the_account_can_always_read_and_write_what_it_shows_as_closed(tmp_path: Path) -> None:
    owners = Kept(rightless=True)
    make(f"{tmp_path}/f")
    os.mkdir(f"{tmp_path}/d")
    for name, mode, needed in (("f", 0o000, 0o600), ("d", 0o111, 0o711)):
        owners.chmod(f"{tmp_path}/{name}", mode)
        assert stat.S_IMODE(owners.lstat(f"{tmp_path}/{name}").st_mode) == mode
        assert stat.S_IMODE(os.lstat(f"{tmp_path}/{name}").st_mode) == needed


def test_what_a_step_has_closed_is_opened_and_shows_what_it_was(tmp_path: Path) -> None:
    os.makedirs(f"{tmp_path}/t/d/e")
    make(f"{tmp_path}/t/d/e/f", 0)
    for name in ("d/e", "d"):
        os.chmod(f"{tmp_path}/t/{name}", 0)
    owners = Kept(rightless=True)
    owners.settle(f"{tmp_path}/t")
    assert [told(owners, f"{tmp_path}/t/{name}")[0] for name in ("d", "d/e", "d/e/f")] == ["d---------", "d---------", "----------"]
    assert [oct(os.lstat(f"{tmp_path}/t/{name}").st_mode & 0o777) for name in ("d", "d/e", "d/e/f")] == ["0o700", "0o700", "0o600"]


@pytest.mark.parametrize("way", ["folder", "file", "link"])
def test_the_group_is_that_of_a_set_group_id_folder(tmp_path: Path, way: str) -> None:
    def act(owners: Owners, folder: str) -> object:
        os.mkdir(f"{folder}/d")
        owners.chown(f"{folder}/d", 3, 4)
        owners.chmod(f"{folder}/d", 0o2755)
        fd = os.open(f"{folder}/d", os.O_RDONLY)
        if way == "folder":
            os.mkdir("x", dir_fd=fd)
        elif way == "file":
            make(f"{folder}/d/x")
        else:
            os.symlink("y", "x", dir_fd=fd)
        owners.settle_group("x", fd)
        os.close(fd)
        return told(owners, f"{folder}/d/x")[1:3]

    assert on_each(tmp_path, act) == [(0, 4)] * 3


# ------------------------------------------------------------------------------------------------ layers and trees
def entry(name: str, kind: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0, **more: object) -> Entry:
    return Entry(name, kind, mode, uid, gid, mtime_ns=7 * 10**9, **more)  # type: ignore[arg-type]


def layer() -> list[bytes]:
    """What a hostile or odd layer may hold; attributes by which owners are kept among it."""
    claims = {NAME: b"77:77:4777", "user.mine": b"1"}
    out: list[bytes] = []
    writer = TarWriter(out.append)
    for one in (
        entry("d/", DIR, 0o1770, 7, 8, xattrs=claims),
        entry("d/su", REG, 0o6755, 0, 9, xattrs={"security.capability": CAPABILITY}),
        entry("d/hard", LINK, 0o6755, 0, 9, linkname="d/su"),
        entry("d/closed", REG, 0o000, 1, 0, xattrs=claims),
        entry("d/roots", REG, 0o644, xattrs=claims),
        entry("d/link", SYMLINK, 0o777, 11, 12, linkname="su"),
        entry("d/hardlink", LINK, 0o777, 11, 12, linkname="d/link"),
        entry("d/fifo", FIFO, 0o600, 13, 14),
        entry("d/null", CHAR, 0o666, 15, 16, devmajor=1, devminor=3),
        entry("d/sda", BLOCK, 0o660, 0, 6, devmajor=259, devminor=300),
    ):
        writer.add(one)
    writer.close()
    return out


def listing(root: str) -> dict[str, tuple[object, ...]]:
    owners, found = current(), {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = (*told(owners, path), owners.lstat(path).st_nlink, read_xattrs(path))
    return found


def difference(root: str) -> bytes:
    out: list[bytes] = []
    write_difference(root, None, out.append)
    return b"".join(out)


def test_a_layer_is_unpacked_copied_hashed_and_packed_as_by_root(tmp_path: Path) -> None:
    def act(owners: Owners, folder: str) -> object:
        for name in ("one", "two"):
            os.mkdir(f"{folder}/{name}")
        unpack(layer(), f"{folder}/one", bottom=True)
        copy_tree(f"{folder}/one", f"{folder}/two")
        first, second = listing(f"{folder}/one"), listing(f"{folder}/two")
        assert first == second
        packed = difference(f"{folder}/one")
        assert packed == difference(f"{folder}/two")
        assert not any(name.encode() in packed for name in HIDDEN)
        return first, packed, [checksum(f"{folder}/one", path) for path in ("d", "d/link", "d/null", "d/closed")]

    real, *kept = on_each(tmp_path, act)
    assert kept == [real, real]


def test_a_claim_of_a_layer_is_an_attribute_like_others(tmp_path: Path) -> None:
    """To root it is one; whoever keeps owners under that name keeps it under another."""
    for owners in (Kept(rightless=False), Kept(rightless=True)):
        folder = f"{tmp_path}/{owners.suffix}"
        os.mkdir(folder)
        with chosen(owners):
            unpack(layer(), folder, bottom=True)
            assert told(owners, f"{folder}/d/roots")[:3] == ("-rw-r--r--", 0, 0)
            assert read_xattr(f"{folder}/d/roots", NAME) == b"77:77:4777"
            assert sorted(list_xattrs(f"{folder}/d/roots")) == [NAME, "user.mine"]
            set_xattrs(f"{folder}/d/roots", {HIDDEN[1]: b"1:1:644"})
            assert read_xattr(f"{folder}/d/roots", NAME) == b"77:77:4777"
        assert Override.decode(os.getxattr(f"{folder}/d", NAME)) == Override(7, 8, 0o1770)


def test_a_file_system_without_attributes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tmpfs before Linux 6.6, some network file systems."""

    def refused(path: object, attribute: object, *_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "setxattr", refused)
    with chosen(Kept(rightless=False)), pytest.raises(StoreError, match="no extended attributes to keep its owner in"):
        unpack(layer(), str(tmp_path), bottom=True)


def test_a_context_s_file_is_its_owner_s_whatever_it_claims(tmp_path: Path) -> None:
    make(f"{tmp_path}/f")
    os.setxattr(f"{tmp_path}/f", NAME, b"77:77:4777")
    digests = []
    for owners in kinds().values():
        with chosen(owners), Tree(str(tmp_path), reset_owner=True, owners=REAL) as tree:
            node = tree.children(tree.root)["f"]
            assert stat.S_IMODE(tree.mode(node)) == 0o644
            digests.append(tree_checksum(tree, "f", ChecksumOptions()))
    assert digests[0] == digests[1] == digests[2]


def test_chown_takes_a_file_capability(tmp_path: Path) -> None:
    def act(owners: Owners, folder: str) -> object:
        make(f"{folder}/f")
        set_xattrs(f"{folder}/f", {"security.capability": CAPABILITY})
        before = read_xattr(f"{folder}/f", "security.capability")
        owners.chown(f"{folder}/f", 0, 5)
        return before, list_xattrs(f"{folder}/f")

    assert on_each(tmp_path, act) == [(CAPABILITY, [])] * 3


# ------------------------------------------------------------------------------------------------ tables
def test_another_process_knows_owners_by_the_table(tmp_path: Path) -> None:
    folder, table = f"{tmp_path}/fs", f"{tmp_path}/owners"
    os.mkdir(folder)
    writer, reader = Kept(rightless=False), Kept(rightless=False)
    with writer.saving(folder, table):
        os.mkdir(f"{folder}/d")
        os.symlink("x", f"{folder}/d/link")
        writer.chown(f"{folder}/d/link", 5, 6, follow_symlinks=False)
    assert told(reader, f"{folder}/d/link")[1:3] == (0, 0)
    reader.load(table)
    assert told(reader, f"{folder}/d/link")[1:3] == (5, 6)


def test_a_table_is_written_anew_when_a_step_has_added_to_it(tmp_path: Path) -> None:
    folder, table = f"{tmp_path}/fs", f"{tmp_path}/owners"
    os.mkdir(folder)
    owners, step = Kept(rightless=False), Kept(rightless=False)
    with owners.saving(folder, table):
        os.symlink("x", f"{folder}/old")
        owners.chown(f"{folder}/old", 1, 2, follow_symlinks=False)
    with owners.saving(folder, table):
        os.unlink(f"{folder}/old")
        os.mkfifo(f"{folder}/new")
        step.chown(f"{folder}/new", 3, 4)
        (tmp_path / "step").write_bytes(step.known())
        owners.learn(read_table(f"{tmp_path}/step"))
    assert list(read_table(table).values()) == [(3, 4)]


def test_a_table_without_owners_is_not_made_and_nothing_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = Kept(rightless=False)
    os.mkdir(f"{tmp_path}/fs")
    monkeypatch.setattr("builder.files.kept.walk", lambda _: pytest.fail("looked for links"))
    with owners.saving(f"{tmp_path}/fs", f"{tmp_path}/owners"):
        make(f"{tmp_path}/fs/f")
        owners.chown(f"{tmp_path}/fs/f", 5, 6)
        os.symlink("x", f"{tmp_path}/fs/link")
        owners.chown(f"{tmp_path}/fs/link", 0, 0, follow_symlinks=False)
    assert not os.path.exists(f"{tmp_path}/owners")


def test_copied_files_are_others(tmp_path: Path) -> None:
    """cp -a of a state folder: the numbers of a table name nothing there, or something else."""
    folder, table = f"{tmp_path}/fs", f"{tmp_path}/owners"
    os.mkdir(folder)
    owners = Kept(rightless=False)
    with owners.saving(folder, table):
        os.symlink("x", f"{folder}/link")
        owners.chown(f"{folder}/link", 5, 6, follow_symlinks=False)
    shutil.copytree(folder, f"{tmp_path}/copy", symlinks=True)
    fresh = Kept(rightless=False)
    fresh.load(table)
    assert told(fresh, f"{tmp_path}/copy/link")[1:3] == (0, 0)


# ------------------------------------------------------------------------------------------------ the price
def test_real_owners_are_the_calls_themselves() -> None:
    """Not one call more for a file where the kernel keeps owners."""
    assert (REAL.stat, REAL.lstat, REAL.chown, REAL.chmod, REAL.mknod) == (os.stat, os.lstat, os.chown, os.chmod, os.mknod)
