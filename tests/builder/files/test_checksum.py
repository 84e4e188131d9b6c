"""What counts in a content hash, and that nothing remembered is ever stale."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.files import hashing as contenthash_files
from builder.files.checksum import checksum, glob
from builder.files.statcache import COARSE_TICK_NS, FINE_TICK_NS, RefChecksums, StatCache, is_racy
from builder.files.tree import ChangedError, Tree
from builder.files.types import ChecksumOptions
from builder.state.database import Database

FOLLOW = ChecksumOptions(follow_links=True)
WILD = ChecksumOptions(wildcard=True, follow_links=True)


def make(root: Any, **files: str | None) -> str:
    """Files by path with ``__`` for slashes; None makes a folder, ``-> x`` a link."""
    for key, what in files.items():
        path = os.path.join(root, key.replace("__", "/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if what is None:
            os.makedirs(path, exist_ok=True)
        elif what.startswith("-> "):
            os.symlink(what[3:], path)
        else:
            with open(path, "w") as f:
                f.write(what)
    return str(root)


@pytest.fixture
def tree(tmp_path: Any) -> str:
    return make(tmp_path / "t", a__f="F", a__b__g="G", a__e=None, h="H", l="-> a/f", d="-> a")


# ------------------------------------------------------------------------------------------------ what counts
def test_times_and_the_name_of_the_path_itself_do_not_count(tree: str) -> None:
    before = checksum(tree, "/a")
    os.utime(tree + "/a/f", ns=(1, 1))
    os.utime(tree + "/a", ns=(1, 1))
    assert checksum(tree, "/a") == before
    os.rename(tree + "/a", tree + "/z")
    assert checksum(tree, "/z/") == before


def _chmod(t: str) -> None:
    os.chmod(t + "/a/b/g", 0o600)


def _append(t: str) -> None:
    with open(t + "/a/b/g", "a") as f:
        f.write("x")


CHANGES: dict[str, Any] = {
    "content": _append,
    "mode": _chmod,
    "mode of a folder": lambda t: os.chmod(t + "/a/b", 0o700),
    "setuid": lambda t: os.chmod(t + "/a/f", 0o4644),
    "name": lambda t: os.rename(t + "/a/f", t + "/a/ff"),
    "moved to another folder": lambda t: os.rename(t + "/a/f", t + "/a/b/f"),
    "removed": lambda t: os.unlink(t + "/a/f"),
    "an empty folder": lambda t: os.mkdir(t + "/a/new"),
    "a link in place of the file": lambda t: (os.unlink(t + "/a/f"), os.symlink("g", t + "/a/f")),
    "a fifo in place of an empty file": lambda t: (os.unlink(t + "/a/f"), os.mkfifo(t + "/a/f", 0o644)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_everything_else_counts(tree: str, change: Any) -> None:
    before = checksum(tree, "/a")
    change(tree)
    assert checksum(tree, "/a") != before


def test_extended_attributes_count_but_not_those_of_the_system(tree: str) -> None:
    before = checksum(tree, "/a")
    try:
        os.setxattr(tree + "/a/f", "user.x", b"1")
    except OSError:
        pytest.skip("no user.* attributes here")
    one = checksum(tree, "/a")
    os.setxattr(tree + "/a/f", "user.x", b"2")
    assert len({before, one, checksum(tree, "/a")}) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_owners_count_unless_they_are_reset(tree: str) -> None:
    before, reset = checksum(tree, "/a"), checksum(tree, "/a", reset_owner=True)
    os.chown(tree + "/a/f", 5, 6)
    assert checksum(tree, "/a") != before
    assert checksum(tree, "/a", reset_owner=True) == reset == before


def test_links(tree: str) -> None:
    assert checksum(tree, "/l", FOLLOW) == checksum(tree, "/a/f")
    assert checksum(tree, "/l") != checksum(tree, "/a/f")
    assert checksum(tree, "/d/f") == checksum(tree, "/a/f")
    assert checksum(tree, "/d", FOLLOW) == checksum(tree, "/a")
    assert checksum(tree, "/d/../d/b/./g") == checksum(tree, "/a/b/g")


def test_links_do_not_lead_out(tmp_path: Any) -> None:
    outside = make(tmp_path / "out", secret="S")
    root = make(tmp_path / "in", l=f"-> {outside}", up="-> ../../../../out")
    for path in ("/l/secret", "/up/secret", "/../out/secret"):
        with pytest.raises(FileNotFoundError):
            checksum(root, path, FOLLOW)


def test_missing(tree: str) -> None:
    for path in ("/no", "/h/no", "/a/no/f"):
        with pytest.raises(FileNotFoundError) as e:
            checksum(tree, path)
        assert e.value.filename == path
    make(tree, loop="-> loop")
    with pytest.raises(OSError, match="too many links"):
        checksum(tree, "/loop/x")


# ------------------------------------------------------------------------------------------------ wildcards, patterns
def test_wildcards_hash_what_matches_with_its_name(tree: str) -> None:
    one = checksum(tree, "/a/*", WILD)
    make(tree, h2="new", a2__x="new")
    assert checksum(tree, "/a/*", WILD) == one
    make(tree, a__b__new="new")
    two = checksum(tree, "/a/*", WILD)
    assert two != one
    os.rename(tree + "/a/f", tree + "/a/g")
    assert checksum(tree, "/a/*", WILD) != two


def test_a_wildcard_that_matches_nothing_is_not_an_error(tree: str) -> None:
    assert checksum(tree, "/no*", WILD) == checksum(tree, "/no/such/*", WILD)


def test_a_link_that_a_wildcard_matches_is_followed(tree: str) -> None:
    before = checksum(tree, "/l*", WILD)
    make(tree, a__f="changed")
    assert checksum(tree, "/l*", WILD) != before


def test_patterns_leave_out(tree: str) -> None:
    options = ChecksumOptions(exclude=("b/g",))
    before = checksum(tree, "/a", options)
    make(tree, a__b__g="changed")
    assert checksum(tree, "/a", options) == before
    make(tree, a__b__k="new")
    assert checksum(tree, "/a", options) != before


def test_exceptions_count_with_the_folders_above_them(tree: str) -> None:
    options = ChecksumOptions(exclude=("*", "!b/g"))
    before = checksum(tree, "/a", options)
    make(tree, a__f="changed")
    assert checksum(tree, "/a", options) == before
    os.chmod(tree + "/a/b", 0o711)
    folder = checksum(tree, "/a", options)
    make(tree, a__b__g="changed")
    assert len({before, folder, checksum(tree, "/a", options)}) == 3


def test_includes_count_alone(tree: str) -> None:
    options = ChecksumOptions(include=("a/b",))
    before = checksum(tree, "/", options)
    make(tree, h="changed", a__f="changed")
    assert checksum(tree, "/", options) == before
    make(tree, a__b__new="new")
    assert checksum(tree, "/", options) != before


def test_required_paths(tree: str) -> None:
    checksum(tree, "/", ChecksumOptions(include=("a/b/g",), required_paths=("/a/b/g",)))
    for include, required in ((("a/no",), "/a/no"), (("",), "/")):
        with pytest.raises(FileNotFoundError) as e:
            checksum(tree, "/", ChecksumOptions(include=include, required_paths=(required,)))
        assert e.value.filename == required


def test_a_link_right_below_a_filtered_root_has_to_lead_somewhere(tree: str) -> None:
    """BuildKit follows it there (and nowhere else) for the checksum; a build with one that leads nowhere fails."""
    make(tree, bad="-> nowhere", a__worse="-> nowhere")
    options = ChecksumOptions(exclude=("*.md",), follow_links=True)
    with pytest.raises(FileNotFoundError) as e:
        checksum(tree, "/", options)
    assert e.value.filename == "/bad"
    checksum(tree, "/", ChecksumOptions(exclude=("*.md",)))
    checksum(tree, "/a", options)
    checksum(tree, "/", ChecksumOptions(exclude=("*.md", "bad"), follow_links=True))
    checksum(tree, "/", ChecksumOptions(include=("a",), follow_links=True))
    with pytest.raises(FileNotFoundError):
        checksum(tree, "/", ChecksumOptions(include=("b*",), follow_links=True))


def test_filters_apply_to_a_single_file_without_leaving_it_out(tree: str) -> None:
    options = ChecksumOptions(exclude=("*.md",), follow_links=True)
    before = checksum(tree, "/h", options), checksum(tree, "/l", options)
    make(tree, h="changed", a__f="changed")
    after = checksum(tree, "/h", options), checksum(tree, "/l", options)
    assert before[0] != after[0]
    assert before[1] != after[1]


# ------------------------------------------------------------------------------------------------ Go's wildcards
def test_glob_goes_only_where_it_can_match(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with Tree(tree) as t:
        children = t.children
        monkeypatch.setattr(t, "children", lambda node: seen.append(node.path) or children(node))  # type: ignore[func-returns-value]
        assert [p for p, _ in glob(t, "/a/?", follow_prefix=True)] == ["/a/b", "/a/e", "/a/f"]
    assert seen == ["a"]


# ------------------------------------------------------------------------------------------------ the stat cache
@pytest.fixture
def cache(tmp_path: Any) -> StatCache:
    return StatCache(Database(str(tmp_path / "db")))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files were left alone for a while (their ctime can't be set, so the clock is)."""
    monkeypatch.setattr(contenthash_files, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + COARSE_TICK_NS))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of files that are read."""
    seen: list[str] = []
    real = contenthash_files.hash_node
    monkeypatch.setattr(contenthash_files, "hash_node", lambda t, n: (seen.append(n.path), real(t, n))[1])
    return seen


@pytest.mark.usefixtures("later")
def test_a_second_look_reads_nothing_and_a_change_only_what_changed(tree: str, cache: StatCache, reads: list[str]) -> None:
    first = checksum(tree, "/", stat_cache=cache)
    assert len(reads) == 9
    reads.clear()
    assert checksum(tree, "/", stat_cache=cache) == first == checksum(tree, "/")
    assert reads[:1] == [""]  # the root has no folder whose row could know it
    reads.clear()
    make(tree, a__b__g="other")
    assert checksum(tree, "/", stat_cache=cache) != first
    assert reads == ["", "a/b/g"]


@pytest.mark.usefixtures("later")
def test_bytes_changed_with_size_and_mtime_kept_are_seen(tree: str, cache: StatCache) -> None:
    before = checksum(tree, "/a", stat_cache=cache)
    old = os.stat(tree + "/a/f")
    with open(tree + "/a/f", "r+") as f:
        f.write("X")
    os.utime(tree + "/a/f", ns=(old.st_atime_ns, old.st_mtime_ns))
    new = os.stat(tree + "/a/f")
    assert (new.st_size, new.st_mtime_ns, new.st_ino) == (old.st_size, old.st_mtime_ns, old.st_ino)
    assert checksum(tree, "/a", stat_cache=cache) != before
    assert checksum(tree, "/a", stat_cache=cache) == checksum(tree, "/a")


def swap_for_link(path: str) -> None:
    """A link whose target's name is as long as the file's bytes were many."""
    size = os.stat(path).st_size
    os.unlink(path)
    os.symlink("x" * size, path)


def swap_inode(path: str) -> None:
    """A new file, with the old one's inode number where the file system gives that out again."""
    size = os.stat(path).st_size
    os.unlink(path)
    with open(path, "wb") as f:
        f.write(b"Y" * size)


def swap_bytes(path: str) -> None:
    with open(path, "r+b") as f:
        f.write(b"Z")


def swap_with_neighbour(path: str) -> None:
    """Two files of one size and time change places by renames alone."""
    other = path + "2"
    for old, new in ((path, path + "-"), (other, path), (path + "-", other)):
        os.rename(old, new)


@pytest.mark.parametrize("change", [swap_for_link, swap_inode, swap_bytes, swap_with_neighbour])
@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/a/b/file", ChecksumOptions()),
        ("/a", ChecksumOptions()),
        ("/", ChecksumOptions(include=("a/b/file",))),
        ("/a/*", ChecksumOptions(wildcard=True)),
        ("/", ChecksumOptions(exclude=("e",))),
    ],
    ids=["file", "folder", "include", "wildcard", "exclude"],
)
@pytest.mark.usefixtures("later")
def test_no_change_is_missed_with_size_and_mtime_kept(
    tree: str, cache: StatCache, change: Callable[[str], None], path: str, options: ChecksumOptions
) -> None:
    file = tree + "/a/b/file"
    for name, data in ((file, b"1" * 20), (file + "2", b"2" * 20)):
        with open(name, "wb") as f:
            f.write(data)
        os.utime(name, (1000, 1000))
    os.utime(tree + "/a/b", (1000, 1000))
    before = checksum(tree, path, options, stat_cache=cache)
    assert checksum(tree, path, options, stat_cache=cache) == before
    change(file)
    for name in (file, file + "2"):
        os.utime(name, (1000, 1000), follow_symlinks=False)
    os.utime(tree + "/a/b", (1000, 1000))
    assert checksum(tree, path, options, stat_cache=cache) == checksum(tree, path, options) != before


def test_a_file_just_written_is_not_kept(tree: str, cache: StatCache, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed again within the clock's tick it would look the same."""
    make(tree, a__f="new")
    monkeypatch.setattr(contenthash_files, "time", SimpleNamespace(time_ns=lambda: os.stat(tree + "/a/f").st_ctime_ns + 1))
    checksum(tree, "/a/f", stat_cache=cache)
    reads.clear()
    checksum(tree, "/a/f", stat_cache=cache)
    assert reads == ["a/f"]


def test_the_racy_rule(tree: str) -> None:
    class Stat:
        def __init__(self, ctime: int) -> None:
            self.st_ctime_ns = ctime

    now = 1_700_000_000 * 10**9 + 123
    fine, whole = now - 5, now - 123
    racy = [
        is_racy(Stat(c), n)  # type: ignore[arg-type]
        for c, n in (
            (fine, fine + 1),
            (fine, fine + FINE_TICK_NS),
            (whole, whole + FINE_TICK_NS),
            (whole, whole + COARSE_TICK_NS),
            (now + 99, now),
            (0, now),
        )
    ]
    assert racy == [True, False, True, False, True, True]


@pytest.mark.usefixtures("later")
def test_files_that_are_gone_leave_the_table(tree: str, tmp_path: Any) -> None:
    database = Database(str(tmp_path / "db"))
    cache = StatCache(database)
    checksum(tree, "/a", stat_cache=cache)

    def size() -> int:
        return int(database.connection().execute("SELECT sum(length(files)) FROM file_digests").fetchone()[0])

    before = size()
    os.unlink(tree + "/a/f")
    make(tree, a__n="N")
    checksum(tree, "/a", stat_cache=cache)
    assert size() == before


@pytest.mark.usefixtures("later")
def test_rows_with_owner_and_without_are_apart(tree: str, cache: StatCache) -> None:
    for reset in (False, True, False, True):
        assert checksum(tree, "/a", stat_cache=cache, reset_owner=reset) == checksum(tree, "/a", reset_owner=reset)


@pytest.mark.usefixtures("later")
def test_a_damaged_row_is_a_miss(tree: str, tmp_path: Any) -> None:
    database = Database(str(tmp_path / "db"))
    cache = StatCache(database)
    right = checksum(tree, "/a", stat_cache=cache)
    with database.transaction() as c:
        c.execute("UPDATE file_digests SET files = substr(files, 1, 70)")
    assert checksum(tree, "/a", stat_cache=cache) == right


def test_many_bytes_are_hashed_the_same_on_threads(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "t", small="s")
    for i in range(5):
        with open(f"{root}/big{i}", "wb") as f:
            f.write(os.urandom(200_000))
    one = checksum(root, "/")
    monkeypatch.setattr(contenthash_files, "_PARALLEL_BYTES", 1)
    assert checksum(root, "/") == one


# ------------------------------------------------------------------------------------------------ a tree that changes
def test_a_file_that_changes_after_it_was_hashed_can_not_be_opened(tree: str) -> None:
    with Tree(tree) as t:
        _, node = t.lookup("/a/f", follow_last=True)
        assert node is not None
        contenthash_files.ensure_hashed(t, [node])
        os.close(t.open(node))
        make(tree, a__f="changed")
        with pytest.raises(ChangedError, match="/a/f changed"):
            t.open(node)


@pytest.mark.parametrize("swap", ["link", "folder", "gone", "fifo"])
def test_a_file_that_became_something_else_can_not_be_opened(tree: str, swap: str) -> None:
    with Tree(tree) as t:
        _, node = t.lookup("/a/f", follow_last=True)
        assert node is not None
        os.unlink(tree + "/a/f")
        if swap == "link":
            os.symlink("/etc/passwd", tree + "/a/f")
        elif swap == "folder":
            os.mkdir(tree + "/a/f")
        elif swap == "fifo":
            os.mkfifo(tree + "/a/f")
        with pytest.raises(ChangedError):
            t.open(node)


def test_files_that_come_later_are_no_part_of_it(tree: str) -> None:
    with Tree(tree) as t:
        names = list(t.children(t.root))
        make(tree, zz="new")
        assert list(t.children(t.root)) == names


def test_a_file_that_changes_while_it_is_read_is_read_again(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, times = contenthash_files.hash_open, []

    def racing(t: Tree, node: Any, fd: int, xattrs: Any) -> bytes:
        digest = real(t, node, fd, xattrs)
        if not times:
            times.append(1)
            make(tree, a__f="changed meanwhile")
        return digest

    monkeypatch.setattr(contenthash_files, "hash_open", racing)
    got = checksum(tree, "/a/f")
    monkeypatch.undo()
    assert got == checksum(tree, "/a/f")


def test_one_that_changes_all_the_time_is_an_error(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = contenthash_files.hash_open, iter(range(100))

    def racing(t: Tree, node: Any, fd: int, xattrs: Any) -> bytes:
        make(tree, a__f="x" * next(count))
        return real(t, node, fd, xattrs)

    monkeypatch.setattr(contenthash_files, "hash_open", racing)
    with pytest.raises(ChangedError):
        checksum(tree, "/a/f")


# ------------------------------------------------------------------------------------------------ checksums of refs
def test_checksums_of_refs_are_kept_by_id_path_and_options(tmp_path: Any) -> None:
    from builder.oci.digest import Digest

    refs = RefChecksums(Database(str(tmp_path / "db")))
    digest = Digest.of(b"x")
    refs.put("r1", "/a", WILD, digest)
    assert refs.get("r1", "/a", WILD) == digest
    for other in (("r2", "/a", WILD), ("r1", "/b", WILD), ("r1", "/a", FOLLOW), ("r1", "/a", ChecksumOptions(True, True, ("x",)))):
        assert refs.get(*other) is None
    refs.forget(["r1"])
    assert refs.get("r1", "/a", WILD) is None


NAMES = st.text("ab/☺", min_size=1, max_size=3).filter(lambda n: "/" not in n)
TREES = st.recursive(st.binary(max_size=2), lambda kids: st.dictionaries(NAMES, kids, max_size=3), max_leaves=5)


@given(st.dictionaries(NAMES, TREES, max_size=3), st.dictionaries(NAMES, TREES, max_size=3))
def test_only_equal_trees_have_equal_checksums(one: Any, two: Any) -> None:
    import tempfile

    def write(root: str, spec: Any) -> None:
        for name, what in spec.items():
            path = os.path.join(root, name)
            if isinstance(what, dict):
                os.mkdir(path)
                write(path, what)
            else:
                with open(path, "wb") as f:
                    f.write(what)

    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        write(a, one)
        write(b, two)
        assert (checksum(a, "/") == checksum(b, "/")) is (one == two)


@pytest.mark.parametrize("link", ["self", "a"])
def test_links_without_end_right_below_the_root_are_an_error_with_patterns(tmp_path: Any, link: str) -> None:
    """As COPY --parents and --exclude ask: BuildKit follows those links, and finds no end."""
    for name, target in (("self", "self"), ("a", "b"), ("b", "a")):
        os.symlink(target, tmp_path / name)
    os.mkdir(tmp_path / "sub")
    os.symlink("loop", tmp_path / "sub" / "loop")
    for pattern, fails in ((link, True), ("sub", False)):
        options = ChecksumOptions(follow_links=True, include=(pattern,))
        with pytest.raises(OSError, match="too many links") if fails else nullcontext():
            checksum(str(tmp_path), "/", options)
