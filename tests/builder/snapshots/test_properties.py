"""apply(diff(x)) == x for random changes, and both snapshotters agree; disks that fill up; processes that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.content.store import ContentStore
from builder.errors import StoreError
from builder.files.kept import Kept
from builder.files.owners import REAL, chosen, current
from builder.files.tar import DIR, Entry
from builder.files.xattrs import set_xattrs
from builder.snapshots.native import NativeSnapshotter
from builder.snapshots.overlay import OverlaySnapshotter
from builder.snapshots.types import Snapshotter
from builder.state.database import Database
from builder.state.layout import Layout
from runtime.errors import RuntimeFault
from runtime.linux import mounts
from runtime.linux.namespaces import enter_private_mount_namespace, enter_user_namespace

pytestmark = pytest.mark.integration

Layer = Callable[..., list[bytes]]
Listing = Callable[..., dict[str, tuple[object, ...]]]
Change = tuple[str, str, str, int]

_NAMES = ["a", "b", "a/b", "a/c", "b/d", "a/b/c", "é", "b/d/e"]
_KINDS = ["file", "folder", "link", "hard", "delete", "mode", "owner", "capability", "fifo", "device", "move", "setuid"]
changes = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.sampled_from(_NAMES), st.sampled_from(_NAMES), st.integers(1, 5)), max_size=12
)
_CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def change(root: str, kind: str, name: str, other: str, number: int) -> None:
    """One step that may well fail (a name inside a file, a link to nothing): then it changes nothing."""
    path, second = f"{root}/{name}", f"{root}/{other}"
    if kind == "delete":
        remove(path)
    elif kind == "mode":
        if not os.path.islink(path):
            current().chmod(path, 0o700 + number)
    elif kind == "owner":
        current().chown(path, number, number + 1, follow_symlinks=False)
    elif kind == "capability":
        if os.path.isfile(path) and not os.path.islink(path):
            set_xattrs(path, {"security.capability": _CAPABILITY})
    elif kind == "hard":
        os.link(second, path, follow_symlinks=False)
    elif kind == "move":
        shutil.move(second, path)
    else:
        remove(path)
        if kind == "folder":
            os.makedirs(path, 0o755 - number)
        elif kind == "link":
            os.symlink(other, path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            current().mknod(path, 0o20666, os.makedev(1, number))
        else:
            with open(path, "w") as file:
                file.write("x" * number)
            current().chmod(path, 0o4755 if kind == "setuid" else 0o644)


def play(s: Snapshotter, key: str, parent: str | None, steps: list[Change]) -> None:
    """Times are whole seconds that differ by kind of content, so that a change is seen and archives hold all of it."""
    s.prepare(key, parent)
    with s.mount(key) as folder:
        for number, (kind, name, other, value) in enumerate(steps):
            try:
                change(folder, kind, name, other, value)
            except (OSError, shutil.Error):
                continue
            path = f"{folder}/{name}"
            if os.path.lexists(path) and not os.path.isdir(path) and kind not in ("mode", "owner", "move", "hard"):
                os.utime(path, (1, 1000 * (number + 1)), follow_symlinks=False)
    s.commit(key)


def diff(s: Snapshotter, key: str, parent: str | None) -> bytes:
    out: list[bytes] = []
    s.diff(key, parent, out.append)
    return b"".join(out)


@given(changes, changes)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_applying_the_diff_gives_the_snapshot(
    tmp_path: object, listing: Listing, first: list[Change], second: list[Change]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    base = tempfile.mkdtemp(dir=str(tmp_path))
    layout = Layout(base)
    layout.create()
    database = Database(layout.database)
    trees = []
    for owners in (None, REAL, Kept(rightless=False), Kept(rightless=True)):
        with chosen(owners or REAL):
            # By an overlay owners are kept beside files with the help of whoever answers a step's calls: not here.
            s = NativeSnapshotter(layout, database, bind=True) if owners else OverlaySnapshotter(layout, database)
            mark = s.name
            play(s, f"a-{mark}", None, first)
            play(s, f"b-{mark}", f"a-{mark}", second)
            layers = [diff(s, f"a-{mark}", None), diff(s, f"b-{mark}", f"a-{mark}")]
            s.apply(f"x-{mark}", None, [layers[0]])
            s.apply(f"y-{mark}", f"x-{mark}", [layers[1]])
            with s.mount(f"b-{mark}") as want, s.mount(f"y-{mark}") as got:
                expected, found = listing(want), listing(got)
                assert _content(found) == _content(expected)
                trees.append(_content(found))
            assert diff(s, f"y-{mark}", f"x-{mark}") == layers[1]
    assert trees[0] == trees[1] == trees[2] == trees[3]
    database.close()
    shutil.rmtree(base)


def _content(tree: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Without which names share an inode: overlayfs breaks links into lower layers when one of the names changes."""
    return {name: value[:4] + value[5:6] for name, value in tree.items()}


def test_a_full_disk_is_a_store_error_with_a_hint(tmp_path: object, layer: Layer, root_only: None) -> None:
    mounts.tmpfs(str(tmp_path), size=1 << 20, mode=0o700)
    layout = Layout(str(tmp_path))
    layout.create()
    database = Database(layout.database)
    snapshotter = OverlaySnapshotter(layout, database)
    with pytest.raises(StoreError, match=r"(?i)no space left") as caught:
        snapshotter.apply("a", None, layer(("big", bytes(4 << 20))))
    assert "prune" in caught.value.hint
    assert not snapshotter.exists("a")
    with pytest.raises(StoreError, match=r"(?i)no space left"), ContentStore(layout).writer() as w:
        w.write(os.urandom(4 << 20))
    snapshotter.apply("a", None, layer(("small", b"")))


def test_a_read_only_root_is_a_store_error_with_a_hint(tmp_path: object, layer: Layer, root_only: None) -> None:
    layout = Layout(str(tmp_path))
    layout.create()
    database = Database(layout.database)
    snapshotter = OverlaySnapshotter(layout, database)
    mounts.bind(layout.snapshots, layout.snapshots, readonly=True)
    with pytest.raises(StoreError, match="Read-only") as caught:
        snapshotter.prepare("a", None)
    assert "--root" in caught.value.hint


@pytest.mark.parametrize("moment", ["unpacking", "mounted"])
def test_a_killed_process_leaves_nothing_that_counts(
    state: tuple[Layout, Database], layer: Layer, moment: str, root_only: None
) -> None:
    layout = state[0]
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        enter_private_mount_namespace()
        s = OverlaySnapshotter(layout, Database(layout.database))

        def chunks() -> Iterator[bytes]:
            yield b"".join(layer(Entry("d/", DIR), ("d/x", b"x" * 100_000)))[:50_000]
            os.write(go, b"x")
            signal.pause()

        if moment == "unpacking":
            s.apply("a", None, chunks())
        s.prepare("m", None)
        with s.mount("m"):
            os.write(go, b"x")
            signal.pause()
        os._exit(1)
    os.read(ready, 1)
    s = OverlaySnapshotter(*state)
    s.sweep()
    assert any(name.startswith(".new-") for name in os.listdir(layout.snapshots)) == (moment == "unpacking")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    s.sweep()
    assert not s.exists("a")
    assert set(os.listdir(layout.snapshots)) <= {"m", ".empty"}
    assert os.listdir(layout.tmp) == []


def test_rootless_overlay_keeps_its_marks_in_user_attributes(state: tuple[Layout, Database], layer: Layer) -> None:
    try:
        enter_user_namespace()
    except RuntimeFault as fault:
        pytest.skip(str(fault))
    reason = mounts.overlay_supported(state[0].snapshots, userxattr=True)
    if reason is not None:
        pytest.skip(reason)
    s = OverlaySnapshotter(*state, userxattr=True)
    s.apply("a", None, layer(Entry("d/", DIR), ("d/old", b""), ("f", b"")))
    s.apply("b", "a", layer(Entry("d/", DIR), ("d/.wh..wh..opq", b""), ("d/new", b""), (".wh.f", b"")))
    with s.mount("b") as folder:
        assert os.listdir(folder) == ["d"]
        assert os.listdir(f"{folder}/d") == ["new"]
    s.prepare("c", "b")
    with s.mount("c") as folder:
        shutil.rmtree(f"{folder}/d")
        os.mkdir(f"{folder}/d")
    s.commit("c")
    out: list[bytes] = []
    s.diff("c", "b", out.append)
    s.apply("d", "b", out)
    with s.mount("d") as folder:
        assert os.listdir(f"{folder}/d") == []
    s.remove("d")
