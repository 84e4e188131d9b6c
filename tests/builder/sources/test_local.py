"""The context read in place: what of it is seen, and that nothing outside of it ever is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from builder.errors import CancelledError, NotFoundError, SourceError
from builder.files.tree import ChangedError, Tree
from builder.files.types import ChecksumOptions
from builder.graph.ops import LocalSource
from builder.graph.vertex import Vertex
from builder.session import Session
from builder.solver.types import OpContext
from builder.sources.local import IgnoreFilter, LocalRef, LocalSourceOp, read_view
from builder.state.cancel import Token, scope
from builder.state.database import Database
from builder.text.patterns import BadPatternError, MatchInfo


class Ref:
    """What the cache manager gives for a copy."""

    def __init__(self, folder: str, log: list[str]) -> None:
        self.folder, self.log = folder, log

    @contextmanager
    def mount(self) -> Iterator[str]:
        yield self.folder

    def commit(self) -> Ref:
        self.log.append("commit")
        return self

    def release(self) -> None:
        self.log.append("release")


@pytest.fixture
def worker(tmp_path: Any) -> Any:
    log: list[str] = []

    def new(parent: Any, *, description: str = "", record_type: str = "regular") -> Ref:
        log.append(f"new {record_type}: {description}")
        folder = tmp_path / f"copy{len(log)}"
        folder.mkdir(0o755)
        return Ref(str(folder), log)

    return SimpleNamespace(cache=SimpleNamespace(new=new, log=log), database=Database(str(tmp_path / "db")))


@pytest.fixture
def context(tmp_path: Any) -> str:
    root = str(tmp_path / "ctx")
    for path in ("a.txt", "b.md", "src/main.py", "src/main.pyc", "src/deep/x.txt", "src/deep/y.md", ".git/config"):
        os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
        with open(f"{root}/{path}", "w") as f:
            f.write(path)
    return root


def names(tree: Tree) -> list[str]:
    return sorted(n.path for n in tree.walk(tree.root) if n.path)


@pytest.mark.parametrize(
    ("exclude", "seen"),
    [
        (
            (),
            [
                ".git",
                ".git/config",
                "a.txt",
                "b.md",
                "src",
                "src/deep",
                "src/deep/x.txt",
                "src/deep/y.md",
                "src/main.py",
                "src/main.pyc",
            ],
        ),
        (("*.md", ".git"), ["a.txt", "src", "src/deep", "src/deep/x.txt", "src/deep/y.md", "src/main.py", "src/main.pyc"]),
        (("**/*.md", ".git", "src/deep"), ["a.txt", "src", "src/main.py", "src/main.pyc"]),
        (("*",), []),
        (("*", "!src/deep/x.txt"), ["src", "src/deep", "src/deep/x.txt"]),
        (("*", "!src/no/such"), []),
        (("**", "!**/*.md"), ["b.md", "src", "src/deep", "src/deep/y.md"]),
        (("src", "!src/deep", "src/deep/*.md"), [".git", ".git/config", "a.txt", "b.md", "src", "src/deep", "src/deep/x.txt"]),
        (("*", "!src", "src/*.pyc"), ["src", "src/deep", "src/deep/x.txt", "src/deep/y.md", "src/main.py"]),
    ],
)
def test_what_dockerignore_leaves(context: str, exclude: tuple[str, ...], seen: list[str]) -> None:
    with Tree(context, IgnoreFilter(exclude) if exclude else None) as tree:
        assert names(tree) == seen
    with Tree(context, IgnoreFilter(exclude) if exclude else None) as tree:
        # Looking a path up alone must see what a walk sees.
        for path in names(Tree(context)):
            assert (tree.lookup(path, follow_last=False)[1] is not None) is (path in seen), path


def test_left_out_folders_are_not_read(context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    with Tree(context, IgnoreFilter((".git", "src", "!src/deep/x.txt"))) as tree:
        scan = tree._scan
        monkeypatch.setattr(tree, "_scan", lambda n: (read.append(n.path), scan(n))[1])
        tree.walk(tree.root)
    assert sorted(read) == ["", "src", "src/deep"]


def test_left_out_files_do_not_count(context: str, worker: Any) -> None:
    def checksum() -> str:
        return LocalRef.open("ctx", context, ("*.md",), worker).checksum("/")

    before = checksum()
    with open(context + "/b.md", "w") as f:
        f.write("changed")
    os.chmod(context, 0o700)  # nor does the root's own mode
    assert checksum() == before
    with open(context + "/a.txt", "w") as f:
        f.write("changed")
    assert checksum() != before
    with pytest.raises(FileNotFoundError):
        LocalRef.open("ctx", context, ("*.md",), worker).checksum("/b.md", ChecksumOptions(follow_links=True))


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_owners_are_reset_modes_and_times_are_kept(context: str, worker: Any) -> None:
    os.chown(context + "/a.txt", 5, 6)
    os.chmod(context + "/a.txt", 0o4751)
    os.utime(context + "/a.txt", ns=(1, 123456789))
    os.lchown(context + "/src", 7, 8)
    os.chmod(context + "/src", 0o2711)
    os.utime(context + "/src", ns=(1, 5))
    with LocalRef.open("ctx", context, (), worker).mount() as folder:
        file, src = os.stat(folder + "/a.txt"), os.stat(folder + "/src")
    assert (file.st_uid, file.st_gid, file.st_mode & 0o7777, file.st_mtime_ns) == (0, 0, 0o4751, 123456789)
    assert (src.st_uid, src.st_gid, src.st_mode & 0o7777, src.st_mtime_ns) == (0, 0, 0o2711, 5)


def test_a_mount_is_one_private_copy_without_what_is_left_out(context: str, worker: Any) -> None:
    os.link(context + "/a.txt", context + "/src/hard")
    os.symlink("/etc/passwd", context + "/link")
    ref = LocalRef.open("ctx", context, ("*.md", ".git"), worker)
    with ref.mount() as one, ref.clone().mount() as two:
        assert one == two
        with Tree(one) as tree:
            assert names(tree) == [
                "a.txt",
                "link",
                "src",
                "src/deep",
                "src/deep/x.txt",
                "src/deep/y.md",
                "src/hard",
                "src/main.py",
                "src/main.pyc",
            ]
        assert os.stat(one + "/a.txt").st_ino == os.stat(one + "/src/hard").st_ino
        assert os.readlink(one + "/link") == "/etc/passwd"
        assert os.stat(one + "/a.txt").st_ino != os.stat(context + "/a.txt").st_ino
    assert worker.cache.log == ["new source.local: local source for ctx", "commit"]


def test_the_copy_goes_with_the_last_clone(context: str, worker: Any) -> None:
    ref = LocalRef.open("ctx", context, (), worker)
    other = ref.clone()
    ref.materialize()
    ref.release()
    ref.release()
    assert worker.cache.log[-1] == "commit"
    other.checksum("/")
    other.release()
    assert worker.cache.log[-1] == "release"


def test_a_reader_needs_no_copy(context: str, worker: Any) -> None:
    ref = LocalRef.open("ctx", context, (), worker)
    with read_view(ref) as tree:
        assert tree is ref.tree
    assert worker.cache.log == []


def test_a_copy_that_meets_a_changed_file_is_an_error_and_leaves_nothing(context: str, worker: Any) -> None:
    ref = LocalRef.open("ctx", context, (), worker)
    ref.checksum("/")
    with open(context + "/src/main.py", "a") as f:
        f.write("more")
    with pytest.raises(ChangedError, match=r"/src/main\.py changed"):
        ref.materialize()
    assert worker.cache.log[-1] == "release"


def test_a_racily_clean_file_is_compared_by_its_bytes(context: str, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed within the tick of the clock in which it was hashed: the stat is the same, the bytes are not."""
    from builder.files import copy as contenthash_copy

    ref = LocalRef.open("ctx", context, (), worker)
    ref.checksum("/a.txt")
    _, node = ref.tree.lookup("a.txt", follow_last=True)
    assert node is not None
    node.racy = True
    with open(context + "/a.txt", "r+") as f:
        f.write("X")
    node.st = os.stat(context + "/a.txt")
    with pytest.raises(ChangedError):
        ref.materialize()
    assert contenthash_copy is not None


# ------------------------------------------------------------------------------------------------ links out of the context
def test_links_out_of_the_context_lead_nowhere(context: str, tmp_path: Any, worker: Any) -> None:
    (tmp_path / "secret").write_text("S")
    os.symlink(str(tmp_path), context + "/abs")
    os.symlink("../..", context + "/src/up")
    ref = LocalRef.open("ctx", context, (), worker)
    for path in ("/abs/secret", "/src/up/secret", "/../secret", "/src/up/ctx/a.txt"):
        with pytest.raises(FileNotFoundError):
            ref.checksum(path, ChecksumOptions(follow_links=True))
    # As links they are copied, not followed.
    with ref.mount() as folder:
        assert os.readlink(folder + "/abs") == str(tmp_path)


FLIPPER = """
import os, sys
real, parked, outside = sys.argv[1:]
print("flipping", flush=True)
while True:
    os.rename(real, parked)
    os.symlink(outside, real)
    os.unlink(real)
    os.rename(parked, real)
    for _ in range(60):
        os.stat(real)  # there long enough to be read at times
"""


@contextmanager
def flipping(real: str, parked: str, outside: str) -> Iterator[None]:
    """Another process flips a folder and a link to one outside, as fast as it can."""
    with subprocess.Popen([sys.executable, "-c", FLIPPER, real, parked, outside], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"flipping\n"
            yield
        finally:
            process.kill()


def test_a_folder_that_is_swapped_for_a_link_while_it_is_read_shows_nothing_outside(context: str, tmp_path: Any) -> None:
    """GHSA-49p4-px3h-rq49."""
    outside = tmp_path / "outside"
    shutil.copytree(context + "/src", outside)
    for folder, _, files in os.walk(outside):
        for name in files:
            with open(os.path.join(folder, name), "w") as f:
                f.write("SECRET")
    read = refused = 0
    with flipping(context + "/src", str(tmp_path / "parked"), str(outside)):
        for turn in range(500_000):  # as many as it takes on a busy machine
            if turn >= 3000 and read > 10 and refused > 10:
                break
            with Tree(context) as tree:
                try:
                    _, node = tree.lookup("/src/main.py", follow_last=True)
                    if node is None:
                        refused += 1
                        continue
                    fd = tree.open(node)
                except (ChangedError, FileNotFoundError):
                    refused += 1
                    continue
                read += 1
                data = os.read(fd, 100)
                os.close(fd)
                assert data == b"src/main.py"
    assert read > 10, "the race was never won by the reader: this shows nothing"
    assert refused > 10


# ------------------------------------------------------------------------------------------------ the operation
def op(worker: Any, locals: dict[str, str], **source: Any) -> LocalSourceOp:
    return LocalSourceOp(Vertex(LocalSource("context", **source)), worker, Session(locals=locals, id=b"one session"))


CONTEXT: Any = OpContext(None)  # type: ignore[arg-type]


def test_the_operation_gives_a_ref_of_the_named_folder(context: str, worker: Any) -> None:
    (ref,) = op(worker, {"context": context}, exclude=("src",)).exec(CONTEXT, [])
    assert isinstance(ref, LocalRef)
    assert "src" not in names(ref.tree)


def test_its_key_depends_on_what_is_left_out_alone(context: str, worker: Any) -> None:
    def key(**source: Any) -> str:
        return op(worker, {}, **source).cache_map(CONTEXT, 0)[0].digest

    assert key() == key(include=("a",), follow_paths=("b",))
    assert key() != key(exclude=("a",))


def test_its_key_is_another_in_each_process(worker: Any) -> None:
    code = (
        "from builder.sources.local import LocalSourceOp as O; from builder.graph.ops import LocalSource as S; "
        "from builder.graph.vertex import Vertex as V; from builder.session import Session; "
        "print(O(V(S('context')), None, Session()).cache_map(None, 0)[0].digest)"
    )
    got = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout for _ in range(2)}
    assert len(got) == 2


def test_bad_contexts(worker: Any, tmp_path: Any) -> None:
    with pytest.raises(SourceError, match="no local context named context"):
        op(worker, {}).exec(CONTEXT, [])
    with pytest.raises(NotFoundError, match="no such file or directory"):
        op(worker, {"context": str(tmp_path / "no")}).exec(CONTEXT, [])
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFoundError, match="not a directory"):
        op(worker, {"context": str(tmp_path / "file")}).exec(CONTEXT, [])
    with pytest.raises(BadPatternError, match="illegal exclusion pattern"):
        op(worker, {"context": str(tmp_path)}, exclude=("!",)).exec(CONTEXT, [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_that_can_not_be_read_are_named(context: str, worker: Any) -> None:
    os.chmod(context + "/a.txt", 0)
    with pytest.raises(SourceError, match=r"a\.txt: permission denied"):
        LocalRef.open("ctx", context, (), worker).checksum("/")


def test_patterns_that_take_long_to_compile_can_be_called_off() -> None:
    token = Token()
    token.set()
    with scope(token), pytest.raises(CancelledError):
        IgnoreFilter(["*x*y"]).match("file", None)


def test_a_walk_ends_between_two_files_when_it_is_called_off(tmp_path: Any) -> None:
    asked: list[str] = []
    token = Token()

    class Slow(IgnoreFilter):
        def match(self, path: str, parent: MatchInfo) -> tuple[bool, MatchInfo]:
            asked.append(path)
            token.set()
            return super().match(path, parent)

    for name in "abc":
        (tmp_path / name).touch()
    with scope(token), Tree(str(tmp_path), Slow(["x"])) as tree, pytest.raises(CancelledError):
        tree.children(tree.root)
    assert asked == ["a"]


def test_a_folder_that_became_a_link_is_not_looked_into(tmp_path: Any) -> None:
    """Not even whether a file is there, and how large, is told of the host."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    folder = tmp_path / "context" / "folder"
    folder.mkdir(parents=True)
    with Tree(str(tmp_path / "context")) as tree:
        assert tree.lookup("folder", follow_last=False)[1] is not None
        folder.rmdir()
        folder.symlink_to(tmp_path / "outside")
        assert tree.lookup("folder/file", follow_last=False)[1] is None
