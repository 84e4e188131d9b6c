"""COPY as a table: files of the source, files that are there, the action, files after it.

``*`` marks files with the time of the build; all others have the source's (or their own old) time.
"""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from builder.errors import StepError
from builder.files.owners import current
from builder.graph.ops import CopyAction, Owner

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")


def action(src: str, dest: str, **more: Any) -> CopyAction:
    """As the Dockerfile frontend makes it for COPY."""
    given: dict[str, Any] = {
        "follow_symlink": True,
        "dir_copy_contents": True,
        "create_dest_path": True,
        "allow_wildcard": True,
        "allow_empty_wildcard": True,
        **more,
    }
    return CopyAction(0, 1, 0, src, dest, **given)


TREE = {"a.txt": "A", "b.txt": "B", "dir/": 0o750, "dir/c": "C", "dir/sub/": 0o700, "dir/sub/d": ("D", 0o4755), "l": "-> dir"}

CASES: list[tuple[str, Any, Any, CopyAction, dict[str, str]]] = [
    ("a file takes the name of the destination", TREE, {}, action("/a.txt", "/x"), {"x": "f 644 A"}),
    ("a last slash makes a folder", TREE, {}, action("/a.txt", "/x/"), {"x": "d* 755", "x/a.txt": "f 644 A"}),
    ("a file goes into an existing folder", TREE, {"x/": 0o700}, action("/a.txt", "/x"), {"x": "d* 700", "x/a.txt": "f 644 A"}),
    ("folders on the way are made", TREE, {}, action("/a.txt", "/p/q/r"), {"p": "d* 755", "p/q": "d* 755", "p/q/r": "f 644 A"}),
    (
        "of a folder what is in it is copied, to a folder of default mode with the source's time",
        TREE,
        {},
        action("/dir", "/x"),
        {"x": "d 755", "x/c": "f 644 C", "x/sub": "d 700", "x/sub/d": "f 4755 D"},
    ),
    (
        "an existing top folder keeps its mode and takes the time, one below takes the mode too",
        TREE,
        {"x/": 0o711, "x/sub/": 0o777, "x/other": "O"},
        action("/dir/", "/x/"),
        {"x": "d 711", "x/c": "f 644 C", "x/other": "f 644 O", "x/sub": "d 700", "x/sub/d": "f 4755 D"},
    ),
    (
        "without the contents rule the folder itself goes into an existing one",
        TREE,
        {"x/": 0o755},
        action("/dir", "/x", dir_copy_contents=False, exclude=("sub",)),
        {"x": "d* 755", "x/dir": "d 750", "x/dir/c": "f 644 C"},
    ),
    (
        "and becomes the destination where there is none",
        TREE,
        {},
        action("/dir", "/x", dir_copy_contents=False, exclude=("sub",)),
        {"x": "d 750", "x/c": "f 644 C"},
    ),
    ("wildcards match names", TREE, {}, action("/?.txt", "/x/"), {"x": "d* 755", "x/a.txt": "f 644 A", "x/b.txt": "f 644 B"}),
    (
        "a matched folder is copied by its contents",
        TREE,
        {},
        action("/di*", "/x/", exclude=("sub",)),
        {"x": "d 755", "x/c": "f 644 C"},
    ),
    ("a wildcard may match nothing", TREE, {}, action("/*.none", "/x/"), {}),
    ("backslash takes a wildcard as it is", {"*1": "star", "q1": "Q"}, {}, action("/\\*?", "/x"), {"x": "f 644 star"}),
    (
        "but only among other wildcards: else nothing is a pattern",
        {"\\*": "S", "*": "T"},
        {},
        action("/\\*", "/x"),
        {"x": "f 644 S"},
    ),
    (
        "a link at the end of the source is followed",
        TREE,
        {},
        action("/l", "/x", exclude=("sub",)),
        {"x": "d 755", "x/c": "f 644 C"},
    ),
    ("a link that a wildcard matches too", TREE, {}, action("/l*", "/x/", exclude=("sub",)), {"x": "d 755", "x/c": "f 644 C"}),
    ("not without the rule", TREE, {}, action("/l", "/x", follow_symlink=False), {"x": "l dir"}),
    ("links in folders stay links", {"d/": 0, "d/l": "-> /etc"}, {}, action("/d", "/x"), {"x": "d 755", "x/l": "l /etc"}),
    (
        "links before the end are followed in the root",
        {"l": "-> /../../d", "d/": 0, "d/f": "F"},
        {},
        action("/l/f", "/x"),
        {"x": "f 644 F"},
    ),
    (
        "a link at the destination is followed in the root",
        TREE,
        {"x": "-> /../t", "t/": 0},
        action("/a.txt", "/x/"),
        {"t": "d* 755", "t/a.txt": "f 644 A", "x": "l /../t"},
    ),
    ("a dangling one too", TREE, {"x": "-> t/u"}, action("/a.txt", "/x"), {"t": "d* 755", "t/u": "f 644 A", "x": "l t/u"}),
    (
        "a link in a folder that is copied over is replaced",
        {"d/": 0, "d/f": "F"},
        {"f": "-> g", "g": "G"},
        action("/d", "/"),
        {"f": "f 644 F", "g": "f 644 G"},
    ),
    ("files replace files and links", TREE, {"x": "-> y", "y": "Y"}, action("/a.txt", "/y"), {"x": "l y", "y": "f 644 A"}),
    (
        "--chmod is for everything, folders on the way too",
        TREE,
        {},
        action("/dir", "/w/x", mode=0o4711),
        {"w": "d* 711", "w/x": "d 711", "w/x/c": "f 4711 C", "w/x/sub": "d 4711", "w/x/sub/d": "f 4711 D"},
    ),
    (
        "symbolic --chmod changes the source's mode, folders on the way are 0755",
        TREE,
        {},
        action("/dir", "/w/x", mode_text="go=u,o-x"),
        {"w": "d* 755", "w/x": "d 755", "w/x/c": "f 666 C", "w/x/sub": "d 776", "w/x/sub/d": "f 4776 D"},
    ),
    (
        "--exclude is relative to the source",
        TREE,
        {},
        action("/dir", "/x", exclude=("sub/d", "c")),
        {"x": "d 755", "x/sub": "d 700"},
    ),
    (
        "an exception brings a file back, in a folder made for it",
        TREE,
        {},
        action("/dir", "/x", exclude=("*", "!sub/d")),
        {"x": "d 755", "x/sub": "d* 700", "x/sub/d": "f 4755 D"},
    ),
    ("--exclude does not apply to the source itself", TREE, {}, action("/a.txt", "/x", exclude=("*.txt", "x")), {"x": "f 644 A"}),
    (
        "--parents: folders on the way are like the source's, with the time of the copy",
        TREE,
        {},
        action("/", "/x/", include=("dir/sub/d",)),
        {"x": "d 755", "x/dir": "d* 750", "x/dir/sub": "d* 700", "x/dir/sub/d": "f 4755 D"},
    ),
    (
        "an included folder is whole",
        TREE,
        {},
        action("/", "/x/", include=("dir/sub",)),
        {"x": "d 755", "x/dir": "d* 750", "x/dir/sub": "d 700", "x/dir/sub/d": "f 4755 D"},
    ),
    (
        "always_replace: a file still goes into a folder that is the destination",
        TREE,
        {"x/": 0, "x/y/": 0, "x/y/z": "Z"},
        action("/a.txt", "/x/y", always_replace=True),
        {"x": "d 755", "x/y": "d* 755", "x/y/a.txt": "f 644 A", "x/y/z": "f 644 Z"},
    ),
    (
        "always_replace: in folders that are laid over others",
        {"d/": 0, "d/n": "N", "d/m/": 0, "d/m/k": "K"},
        {"n/": 0, "n/old": "O", "m": "M"},
        action("/d", "/", always_replace=True),
        {"m": "d 755", "m/k": "f 644 K", "n": "f 644 N"},
    ),
    (
        "a timestamp is for everything",
        TREE,
        {},
        action("/dir/sub", "/p/x", timestamp=5),
        {"p": "d* 755", "p/x": "d* 755", "p/x/d": "f* 4755 D"},
    ),
    ("the root can be copied", {"f": "F"}, {"g": "G"}, action("/", "/"), {"f": "f 644 F", "g": "f 644 G"}),
]


@pytest.mark.parametrize(("source", "before", "do", "after"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_table(kit: Any, source: Any, before: Any, do: CopyAction, after: dict[str, str]) -> None:
    assert kit.run(do, inputs=[kit.ref(before), kit.ref(source)]) == [after]


ERRORS = [
    ("a missing source", {}, action("/nope", "/x"), "lstat /nope: no such file or directory"),
    ("a folder on a file", {"x": "X"}, action("/dir", "/x"), "cannot copy to non-directory: /x"),
    ("a folder on a file, deeper", {"sub": "X"}, action("/dir", "/"), "cannot copy to non-directory: /sub"),
    (
        "a folder on a link",
        {"sub": "-> usr/sub", "usr/sub/": 0},
        action("/dir", "/"),
        "cannot copy to non-directory: /sub (a symbolic link to usr/sub)",
    ),
    ("a file that is to be a folder", {"x": "X"}, action("/a.txt", "/x/"), "mkdir /x: not a directory"),
    ("a name that no disk can hold", {}, action("/a.txt", f"/{'n' * 256}"), f"lstat /{'n' * 256}: file name too long"),
    ("a file on a folder, deeper", {"c/": 0}, action("/dir", "/"), "cannot replace to directory /c with file"),
    ("a way through a file", {"x": "X"}, action("/a.txt", "/x/y/"), "lstat /x/y: not a directory"),
    ("no way to the destination", {}, action("/a.txt", "/x/y", create_dest_path=False), "failed to stat /x/y"),
    ("a wildcard that must match", {}, action("/no*", "/x", allow_empty_wildcard=False), "/no* not found"),
    ("a folder for a wildcard that is missing", {}, action("/no/*", "/x"), "lstat /no: no such file or directory"),
    ("links without end at the destination", {"x": "-> x"}, action("/a.txt", "/x/"), "too many links"),
    ("links without end at the source", {}, action("/loop", "/x"), "too many links"),
    ("a malformed pattern", {}, action("/[a", "/x"), "syntax error in pattern"),
    ("a bad mode", {}, action("/a.txt", "/x", mode_text="u+q"), "invalid chmod parameter"),
]


@pytest.mark.parametrize(("before", "do", "text"), [pytest.param(*c[1:], id=c[0]) for c in ERRORS])
def test_errors_name_paths_inside_the_root(kit: Any, before: Any, do: CopyAction, text: str) -> None:
    with pytest.raises(StepError) as error:
        kit.run(do, inputs=[kit.ref(before), kit.ref({**TREE, "loop": "-> loop"})])
    assert any(t in str(error.value) for t in text.split("|")), error.value
    assert kit.base not in str(error.value)
    assert kit.worker.cache.log[-1].startswith("release ref")


def test_the_root_keeps_its_mode_when_contents_are_copied_into_it(kit: Any) -> None:
    base, source = kit.ref({}), kit.ref({"d/": 0o700, "d/f": "F"})
    kit.run(action("/d", "/"), inputs=[base, source])
    assert stat.S_IMODE(current().stat(kit.worker.cache.base + "/ref0").st_mode) == 0o755


def test_hard_links_within_one_copy_stay_links(kit: Any) -> None:
    source = kit.ref({"d/": 0, "d/a": "same", "d/b": "== d/a", "c": "== d/a"})
    kit.run(action("/d", "/x"), inputs=[kit.ref({}), source])
    root = kit.worker.cache.base + "/ref0/x"
    assert os.stat(root + "/a").st_ino == os.stat(root + "/b").st_ino
    assert os.stat(root + "/a").st_nlink == 2


def test_extended_attributes_and_fifos_are_copied_and_sockets_leave_a_stub(kit: Any) -> None:
    import socket

    source = kit.ref({"d/": 0, "d/f": "F"})
    try:
        os.setxattr(source.folder + "/d/f", "user.note", b"hello")
        os.setxattr(source.folder + "/d", "user.dir", b"there")
    except OSError:
        pytest.skip("no user.* attributes here")
    os.mkfifo(source.folder + "/d/fifo", 0o640)
    here = os.getcwd()
    os.chdir(source.folder + "/d")  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("sock")
    finally:
        os.chdir(here)
    os.chmod(source.folder + "/d/sock", 0o755)
    kit.run(action("/d", "/x"), inputs=[kit.ref({}), source])
    root = kit.worker.cache.base + "/ref0/x"
    assert os.getxattr(root + "/f", "user.note") == b"hello"
    fifo, stub = current().lstat(root + "/fifo"), current().lstat(root + "/sock")
    assert (stat.S_ISFIFO(fifo.st_mode), stat.S_IMODE(fifo.st_mode)) == (True, 0o640)
    assert (stat.S_ISREG(stub.st_mode), stub.st_size, stat.S_IMODE(stub.st_mode)) == (True, 0, 0o755)
    # The top folder was made on the way: its attributes are not the source's.
    assert os.listxattr(root) == []


def test_holes_stay_holes_and_large_files_arrive_whole(kit: Any) -> None:
    source = kit.ref({})
    with open(source.folder + "/sparse", "wb") as f:
        f.write(b"head")
        f.seek(8 << 20)
        f.write(b"tail")
        f.truncate(16 << 20)
    big = os.urandom(1 << 20) * 3
    with open(source.folder + "/big", "wb") as f:
        f.write(big)
    kit.run(action("/", "/"), inputs=[kit.ref({}), source])
    root = kit.worker.cache.base + "/ref0"
    with open(root + "/sparse", "rb") as f, open(source.folder + "/sparse", "rb") as g:
        assert f.read() == g.read()
    if os.stat(source.folder + "/sparse").st_blocks * 512 < 1 << 20:
        assert os.stat(root + "/sparse").st_blocks * 512 < 1 << 20
    with open(root + "/big", "rb") as f:
        assert f.read() == big


@needs_root
def test_owners_are_kept_and_chown_is_for_everything_with_the_folders_on_the_way(kit: Any) -> None:
    def owners(number: int) -> dict[str, tuple[int, int]]:
        root = f"{kit.worker.cache.base}/ref{number}"
        found = {os.path.join(d, n): current().lstat(os.path.join(d, n)) for d, ds, fs in os.walk(root) for n in ds + fs}
        return {os.path.relpath(path, root): (status.st_uid, status.st_gid) for path, status in found.items()}

    source = kit.ref({"d/": 0, "d/f": "F", "d/l": "-> f"})
    current().chown(source.folder + "/d/f", 7, 8)
    current().chown(source.folder + "/d/l", 9, 10, follow_symlinks=False)
    current().chown(source.folder + "/d", 11, 12)
    kit.run(action("/d", "/w/x"), inputs=[kit.ref({}), source])
    assert owners(0) == {"w": (0, 0), "w/x": (0, 0), "w/x/f": (7, 8), "w/x/l": (9, 10)}
    used = len(kit.worker.cache.log)
    kit.run(action("/d", "/w/x", owner=Owner(33)), inputs=[kit.ref({}), source])
    assert set(owners(used).values()) == {(33, 33)}


@needs_root
def test_names_are_looked_up_in_the_root_that_is_written_to(kit: Any) -> None:
    base = kit.ref({"etc/passwd": "app:x:501:502::/:/bin/sh\n", "etc/group": "web:x:77:\n"})
    evil = kit.ref({"passwd": "app:x:1:1::/:/bin/sh\n"})
    actions = [
        CopyAction(0, 1, -1, "/passwd", "/etc/passwd", create_dest_path=True),
        CopyAction(2, 1, 0, "/passwd", "/f", owner=Owner("app", "web")),
    ]
    kit.run(*actions, inputs=[base, evil])
    st = current().stat(kit.worker.cache.base + "/ref0/f")
    assert (st.st_uid, st.st_gid) == (501, 77)


@needs_root
@pytest.mark.parametrize(
    ("owner", "ids", "warnings"),
    [
        (Owner("app", "web"), (501, 77), []),
        (Owner("nobody"), (0, 0), ["there is no user nobody in /etc/passwd, 0 is taken for it"]),
        (Owner("app", "none"), (501, 502), ["there is no group none in /etc/group, 502 is taken for it"]),
        (Owner(7, "none"), (7, 7), ["there is no group none in /etc/group, 7 is taken for it"]),
    ],
)
def test_a_name_that_is_not_there_is_0_and_a_warning(
    kit: Any, owner: Owner, ids: tuple[int, int], warnings: list[str]
) -> None:
    base = kit.ref({"etc/passwd": "app:x:501:502::/:/bin/sh\n", "etc/group": "web:x:77:\n"})
    told: list[str] = []
    kit.run(CopyAction(0, 1, 0, "/f", "/f", owner=owner), inputs=[base, kit.ref({"f": "F"})], warn=told.append)
    st = current().stat(kit.worker.cache.base + "/ref0/f")
    assert (st.st_uid, st.st_gid) == ids
    assert [text.partition(": ")[2] for text in told] == warnings


def test_a_name_needs_a_root_to_be_looked_up_in(kit: Any) -> None:
    with pytest.raises(StepError, match='can\'t look up the owner "app": on scratch there is no /etc/passwd'):
        kit.run(CopyAction(-1, 0, 0, "/f", "/f", owner=Owner("app")), inputs=[kit.ref({"f": "F"})])
