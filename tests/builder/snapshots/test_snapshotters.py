"""What every snapshotter does: one suite for overlay and native (after containerd's core/snapshots/testsuite)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from builder.errors import StoreError
from builder.files.owners import current
from builder.files.tar import DIR, LINK, REG, SYMLINK, Entry, TarReader
from builder.files.xattrs import set_xattrs
from builder.snapshots.types import Snapshotter
from builder.state.database import Database
from builder.state.layout import Layout

pytestmark = pytest.mark.integration

Layer = Callable[..., list[bytes]]
Listing = Callable[..., dict[str, tuple[object, ...]]]


def make(s: Snapshotter, key: str, parent: str | None, step: Callable[[str], None]) -> None:
    s.prepare(key, parent)
    with s.mount(key) as folder:
        step(folder)
    s.commit(key)


def put(path: str, content: str = "") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(content)


def names(s: Snapshotter, key: str) -> list[str]:
    with s.mount(key) as folder:
        return sorted(
            os.path.relpath(os.path.join(where, name), folder) for where, dirs, files in os.walk(folder) for name in dirs + files
        )


def diff(s: Snapshotter, key: str, parent: str | None, clamp: int | None = None) -> list[bytes]:
    out: list[bytes] = []
    s.diff(key, parent, out.append, clamp_mtime=clamp)
    return out


def entries(chunks: list[bytes]) -> list[str]:
    return [entry.name for entry in TarReader(chunks)]


def test_a_snapshot_on_nothing_is_empty(snapshotter: Snapshotter) -> None:
    snapshotter.prepare("a", None)
    assert names(snapshotter, "a") == []


def test_what_was_written_is_there_after_the_commit_and_below_children(snapshotter: Snapshotter) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/etc/one", "1"))
    make(snapshotter, "b", "a", lambda f: put(f"{f}/etc/two", "2"))
    assert names(snapshotter, "a") == ["etc", "etc/one"]
    assert names(snapshotter, "b") == ["etc", "etc/one", "etc/two"]


def test_a_committed_snapshot_is_read_only(snapshotter: Snapshotter) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/one"))
    make(snapshotter, "b", "a", lambda f: put(f"{f}/two"))
    for key in ("a", "b"):
        with snapshotter.mount(key) as folder, pytest.raises(OSError, match="Read-only"):
            put(f"{folder}/three")


def test_mounts_of_one_snapshot_are_one_mount(snapshotter: Snapshotter) -> None:
    snapshotter.prepare("a", None)
    with snapshotter.mount("a") as one:
        with snapshotter.mount("a") as two:
            assert one == two
        put(f"{one}/still", "mounted")
    with snapshotter.mount("a") as again:
        assert os.listdir(again) == ["still"]


def test_after_the_last_user_nothing_is_mounted(snapshotter: Snapshotter, state: tuple[Layout, Database]) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/one"))
    make(snapshotter, "b", "a", lambda f: put(f"{f}/two"))
    names(snapshotter, "b")
    with open("/proc/self/mountinfo") as file:
        assert state[0].root not in file.read()
    assert os.listdir(state[0].tmp) == []


def test_an_active_snapshot_can_be_mounted_again_and_again(snapshotter: Snapshotter) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/one"))
    snapshotter.prepare("b", "a")
    for number in range(3):
        with snapshotter.mount("b") as folder:
            put(f"{folder}/{number}")
    assert names(snapshotter, "b") == ["0", "1", "2", "one"]


def test_a_mounted_snapshot_is_not_committed(snapshotter: Snapshotter) -> None:
    snapshotter.prepare("a", None)
    with snapshotter.mount("a"), pytest.raises(StoreError, match="still mounted"):
        snapshotter.commit("a")


def test_an_active_snapshot_is_no_parent(snapshotter: Snapshotter) -> None:
    snapshotter.prepare("a", None)
    with pytest.raises(StoreError, match="not committed"):
        snapshotter.prepare("b", "a")


@pytest.mark.parametrize("key", ["", "..", ".hidden", "a/b", "a\0b", "ü"])
def test_keys_are_plain_names(snapshotter: Snapshotter, key: str) -> None:
    with pytest.raises(StoreError):
        snapshotter.prepare(key, None)


def test_a_key_is_used_once(snapshotter: Snapshotter) -> None:
    snapshotter.prepare("a", None)
    with pytest.raises(StoreError, match="there already"):
        snapshotter.prepare("a", None)


def test_removed_is_gone(snapshotter: Snapshotter, state: tuple[Layout, Database]) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/x/y"))
    assert snapshotter.exists("a")
    snapshotter.remove("a")
    snapshotter.remove("a")
    assert not snapshotter.exists("a")
    assert list(snapshotter.keys()) == []
    assert not [name for name in os.listdir(state[0].snapshots) if not name.startswith(".")]


def test_a_snapshot_that_lost_its_folder_does_not_exist(snapshotter: Snapshotter, state: tuple[Layout, Database]) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/x"))
    shutil.rmtree(state[0].path("snapshots", "a"))
    assert not snapshotter.exists("a")


def test_sweep_takes_what_has_no_row_and_leaves_the_rest(snapshotter: Snapshotter, state: tuple[Layout, Database]) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/x"))
    for name in ("orphan", ".new-crashed", ".gone-crashed"):
        put(state[0].path("snapshots", name, "fs", "file"))
    os.makedirs(state[0].path("tmp", "mounts-crashed", "1"))
    with snapshotter.mount("a"):
        snapshotter.sweep()
        left = {name for name in os.listdir(state[0].snapshots) if name not in (".empty", ".overlay")}
        assert left == {"a"}
        assert len(os.listdir(state[0].tmp)) == 1
    assert names(snapshotter, "a") == ["x"]


def test_the_diff_has_what_changed_its_folders_and_nothing_else(snapshotter: Snapshotter) -> None:
    def base(f: str) -> None:
        for name in ("etc/keep", "etc/change", "etc/delete", "opt/old/one", "opt/old/two", "usr/bin/tool"):
            put(f"{f}/{name}", name)

    def step(f: str) -> None:
        put(f"{f}/etc/change", "more")
        os.unlink(f"{f}/etc/delete")
        shutil.rmtree(f"{f}/opt/old")
        put(f"{f}/opt/old/two", "new")
        put(f"{f}/opt.txt", "")

    make(snapshotter, "a", None, base)
    make(snapshotter, "b", "a", step)
    # opt before opt.txt: by folder, not by whole path; deletions stand where the name stood.
    assert entries(diff(snapshotter, "b", "a")) == [
        "etc/", "etc/change", "etc/.wh.delete", "opt/", "opt/old/", "opt/old/.wh.one", "opt/old/two", "opt.txt",
    ]  # fmt: skip


def test_a_file_copied_up_but_left_as_it_was_is_no_change(snapshotter: Snapshotter) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/etc/one", "1"))

    def touch(f: str) -> None:
        status = os.stat(f"{f}/etc/one")
        os.chmod(f"{f}/etc/one", 0o600)
        os.chmod(f"{f}/etc/one", status.st_mode & 0o7777)

    make(snapshotter, "b", "a", touch)
    assert entries(diff(snapshotter, "b", "a")) == []


def test_a_file_over_a_folder_and_a_folder_over_a_file(snapshotter: Snapshotter, listing: Listing, layer: Layer) -> None:
    make(snapshotter, "a", None, lambda f: (put(f"{f}/dir/x"), put(f"{f}/file"))[0])

    def swap(f: str) -> None:
        shutil.rmtree(f"{f}/dir")
        put(f"{f}/dir", "now a file")
        os.unlink(f"{f}/file")
        put(f"{f}/file/y")

    make(snapshotter, "b", "a", swap)
    chunks = diff(snapshotter, "b", "a")
    assert entries(chunks) == ["dir", "file/", "file/y"]
    snapshotter.apply("c", "a", chunks)
    assert names(snapshotter, "c") == ["dir", "file", "file/y"]


def test_whiteouts_are_no_hard_links_of_one_another(snapshotter: Snapshotter) -> None:
    def put_all(f: str) -> None:
        for name in "abc":
            put(f"{f}/{name}")

    def unlink_all(f: str) -> None:
        for name in "abc":
            os.unlink(f"{f}/{name}")

    make(snapshotter, "a", None, put_all)
    make(snapshotter, "b", "a", unlink_all)
    found = list(TarReader(diff(snapshotter, "b", "a")))
    assert [(e.name, e.type, e.mode, e.mtime_ns, e.linkname) for e in found] == [(f".wh.{n}", REG, 0, 0, "") for n in "abc"]


def test_hard_links_stay_inside_the_layer(snapshotter: Snapshotter, listing: Listing) -> None:
    def step(f: str) -> None:
        put(f"{f}/one", "1")
        os.link(f"{f}/one", f"{f}/two")
        os.symlink("one", f"{f}/sym")
        os.link(f"{f}/sym", f"{f}/symtwo", follow_symlinks=False)

    make(snapshotter, "a", None, step)
    found = [(e.name, e.type, e.linkname) for e in TarReader(diff(snapshotter, "a", None))]
    assert found == [("one", REG, ""), ("sym", SYMLINK, "one"), ("symtwo", LINK, "sym"), ("two", LINK, "one")]


def test_of_a_lower_file_that_gets_a_second_name_both_are_written(snapshotter: Snapshotter) -> None:
    make(snapshotter, "a", None, lambda f: put(f"{f}/one", "1"))
    make(snapshotter, "b", "a", lambda f: os.link(f"{f}/one", f"{f}/two"))
    first = list(TarReader(diff(snapshotter, "b", "a")))
    assert [(e.name, e.type) for e in first] in ([("two", REG)], [("two", REG), ("one", LINK)])


def test_equal_snapshots_give_equal_layers(snapshotter: Snapshotter) -> None:
    def step(f: str) -> None:
        for name in ("b", "a", "é", "a.d/x", "a/y"[:1] + "2"):
            put(f"{f}/{name}", name)
            os.utime(f"{f}/{name}", ns=(0, 1_700_000_000_123_456_789))
        os.utime(f"{f}/a.d", (5, 5))

    make(snapshotter, "a", None, step)
    make(snapshotter, "b", None, step)
    assert b"".join(diff(snapshotter, "a", None)) == b"".join(diff(snapshotter, "b", None))


def test_times_are_whole_seconds_and_never_past_the_clamp(snapshotter: Snapshotter) -> None:
    def step(f: str) -> None:
        for name, seconds in (("old", 100), ("new", 300)):
            put(f"{f}/{name}")
            os.utime(f"{f}/{name}", ns=(0, seconds * 10**9 + 5))

    make(snapshotter, "a", None, step)
    assert {e.name: e.mtime_ns for e in TarReader(diff(snapshotter, "a", None))} == {"old": 100 * 10**9, "new": 300 * 10**9}
    assert {e.name: e.mtime_ns for e in TarReader(diff(snapshotter, "a", None, clamp=200))} == {
        "old": 100 * 10**9,
        "new": 200 * 10**9,
    }


def test_applied_is_what_was_written(snapshotter: Snapshotter, listing: Listing) -> None:
    def base(f: str) -> None:
        for name in ("etc/a", "etc/b", "lib/x/y", "srv/gone"):
            put(f"{f}/{name}", name)

    def step(f: str) -> None:
        put(f"{f}/bin/su", "#!")
        current().chown(f"{f}/bin/su", 1000, 2000)
        current().chmod(f"{f}/bin/su", 0o6755)
        os.link(f"{f}/bin/su", f"{f}/bin/sudo")
        os.mkfifo(f"{f}/fifo")
        current().mknod(f"{f}/null", 0o20666, os.makedev(1, 3))
        os.symlink("/bin/su", f"{f}/etc/link")
        current().chown(f"{f}/etc/link", 3000, 4000, follow_symlinks=False)
        current().chown(f"{f}/fifo", 5000, 6000)
        set_xattrs(f"{f}/bin/su", {"security.capability": bytes.fromhex("0100000200200000000000000000000000000000")})
        os.mkdir(f"{f}/tmp")
        os.chmod(f"{f}/tmp", 0o1777)
        shutil.rmtree(f"{f}/srv")
        shutil.rmtree(f"{f}/lib/x")
        put(f"{f}/lib/x/z", "z")
        os.unlink(f"{f}/etc/b")

    make(snapshotter, "a", None, base)
    make(snapshotter, "b", "a", step)
    chunks = diff(snapshotter, "b", "a")
    snapshotter.apply("c", "a", chunks)
    with snapshotter.mount("b") as want, snapshotter.mount("c") as got:
        assert listing(got) == listing(want)
    assert b"".join(diff(snapshotter, "c", "a")) == b"".join(chunks)


def test_opaque_hides_all_below_but_nothing_of_its_own_layer(snapshotter: Snapshotter, layer: Layer) -> None:
    snapshotter.apply("a", None, layer(Entry("d/", DIR), ("d/old", b""), Entry("d/sub/", DIR), ("d/sub/old", b"")))
    snapshotter.apply("b", "a", layer(Entry("d/", DIR), ("d/before", b""), ("d/.wh..wh..opq", b""), ("d/after", b"")))
    assert names(snapshotter, "b") == ["d", "d/after", "d/before"]
    assert entries(diff(snapshotter, "b", "a")) == ["d/", "d/after", "d/before", "d/.wh.old", "d/.wh.sub"]


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_a_whiteout_hides_only_what_is_below(snapshotter: Snapshotter, layer: Layer, whiteout_first: bool) -> None:
    snapshotter.apply("a", None, layer(Entry("x/", DIR), ("x/old", b""), ("f", b"old")))
    new = [Entry("x/", DIR), ("x/new", b""), ("f", b"new")]
    hidden = [(".wh.x", b""), (".wh.f", b"")]
    snapshotter.apply("b", "a", layer(*(hidden + new if whiteout_first else new + hidden)))
    assert names(snapshotter, "b") == ["f", "x", "x/new"]
    with snapshotter.mount("b") as folder, open(f"{folder}/f") as file:
        assert file.read() == "new"


def test_whiteouts_at_the_bottom_mean_nothing_and_don_t_show(snapshotter: Snapshotter, layer: Layer) -> None:
    snapshotter.apply("a", None, layer(Entry("d/", DIR), ("d/.wh..wh..opq", b""), ("d/.wh.x", b""), (".wh.y", b"")))
    assert names(snapshotter, "a") == ["d"]


def test_a_parent_without_entry_takes_the_lower_folder_s_metadata(snapshotter: Snapshotter, layer: Layer) -> None:
    snapshotter.apply("a", None, layer(Entry("d/", DIR, 0o1770, 7, 8)))
    snapshotter.apply("b", "a", layer(("d/x", b""), ("e/y", b"")))
    with snapshotter.mount("b") as folder:
        status = current().stat(f"{folder}/d")
        assert (oct(status.st_mode), status.st_uid, status.st_gid) == ("0o41770", 7, 8)
        assert oct(os.stat(f"{folder}/e").st_mode) == "0o40755"


def test_a_link_of_a_lower_layer_is_not_followed_when_unpacking(snapshotter: Snapshotter, layer: Layer) -> None:
    """As containerd with overlay: the layer's own (implied) folder hides the link."""
    snapshotter.apply("a", None, layer(Entry("usr/", DIR), Entry("usr/lib/", DIR), Entry("lib", SYMLINK, linkname="usr/lib")))
    snapshotter.apply("b", "a", layer(("lib/x", b"")))
    with snapshotter.mount("b") as folder:
        assert not os.path.islink(f"{folder}/lib")
        assert os.listdir(f"{folder}/usr/lib") == []


def test_a_hard_link_into_a_lower_layer_brings_the_file_along(snapshotter: Snapshotter, layer: Layer) -> None:
    snapshotter.apply("a", None, layer(Entry("d/", DIR), ("d/one", b"1")))
    snapshotter.apply("b", "a", layer(Entry("two", LINK, linkname="d/one", mtime_ns=9 * 10**9)))
    with snapshotter.mount("b") as folder:
        assert os.path.samefile(f"{folder}/d/one", f"{folder}/two")


def test_merge_lays_chains_over_one_another(snapshotter: Snapshotter) -> None:
    make(snapshotter, "base", None, lambda f: (put(f"{f}/etc/base"), put(f"{f}/etc/both", "base"))[0])
    make(snapshotter, "one", None, lambda f: put(f"{f}/etc/one"))
    make(snapshotter, "two", "one", lambda f: (put(f"{f}/srv/new"), put(f"{f}/etc/both", "two"))[0])
    snapshotter.merge("m", ["base", "two"])
    assert names(snapshotter, "m") == ["etc", "etc/base", "etc/both", "etc/one", "srv", "srv/new"]
    with snapshotter.mount("m") as folder, open(f"{folder}/etc/both") as file:
        assert file.read() == "two"
    make(snapshotter, "on", "m", lambda f: put(f"{f}/more"))
    assert entries(diff(snapshotter, "on", "m")) == ["more"]


def test_a_new_folder_of_a_step_hides_nothing_of_a_foreign_chain(snapshotter: Snapshotter) -> None:
    """overlayfs marks every folder made in a step as opaque; under another chain that must not count."""
    make(snapshotter, "base", None, lambda f: (put(f"{f}/etc/base"), put(f"{f}/d/base"))[0])
    make(snapshotter, "one", None, lambda f: (put(f"{f}/x"), put(f"{f}/d/old"))[0])

    def step(f: str) -> None:
        put(f"{f}/etc/new")
        shutil.rmtree(f"{f}/d")
        put(f"{f}/d/new")

    make(snapshotter, "two", "one", step)
    snapshotter.merge("m", ["base", "two"])
    assert names(snapshotter, "m") == ["d", "d/base", "d/new", "etc", "etc/base", "etc/new", "x"]
    assert names(snapshotter, "two") == ["d", "d/new", "etc", "etc/new", "x"]


def test_a_layer_twice_in_a_merge_counts_where_it_is_uppermost(snapshotter: Snapshotter) -> None:
    make(snapshotter, "base", None, lambda f: put(f"{f}/f", "base"))
    make(snapshotter, "one", "base", lambda f: (put(f"{f}/one"), put(f"{f}/f", "one"))[0])
    make(snapshotter, "two", "base", lambda f: put(f"{f}/two"))
    snapshotter.merge("m", ["one", "two"])
    assert names(snapshotter, "m") == ["f", "one", "two"]
    with snapshotter.mount("m") as folder, open(f"{folder}/f") as file:
        assert file.read() == "base"


def test_own_is_a_step_s_files_without_what_is_below(snapshotter: Snapshotter) -> None:
    make(snapshotter, "a", None, lambda f: (put(f"{f}/etc/a"), put(f"{f}/etc/b"))[0])
    make(snapshotter, "b", "a", lambda f: (put(f"{f}/etc/c"), os.unlink(f"{f}/etc/a"))[0])
    snapshotter.own("o", "b")
    assert names(snapshotter, "o") == ["etc", "etc/c"]


def test_the_diff_between_strangers_compares_their_trees(snapshotter: Snapshotter) -> None:
    make(snapshotter, "a", None, lambda f: (put(f"{f}/same"), put(f"{f}/a"), os.utime(f"{f}/same", (1, 1)))[0])
    make(snapshotter, "b", None, lambda f: (put(f"{f}/same"), put(f"{f}/b"), os.utime(f"{f}/same", (1, 1)))[0])
    assert entries(diff(snapshotter, "b", "a")) == [".wh.a", "b"]


def test_usage_counts_own_files_once(snapshotter: Snapshotter, layer: Layer, state: tuple[Layout, Database]) -> None:
    snapshotter.apply("a", None, layer(("one", b"x" * 10_000), Entry("two", LINK, linkname="one")))
    usage = snapshotter.usage("a")
    folder = os.stat(state[0].path("snapshots", "a", "fs")).st_blocks * 512
    assert (usage.size, usage.inodes) == (12288 + folder, 2)
    snapshotter.apply("b", "a", layer(("three", b"y")))
    whole = snapshotter.name.startswith("native")
    assert snapshotter.usage("b").size == 4096 + folder + (12288 if whole else 0), "a native snapshot is a tree of its own"


def test_a_failed_apply_leaves_nothing(snapshotter: Snapshotter, layer: Layer, state: tuple[Layout, Database]) -> None:
    chunks = layer(("one", b"x" * 10_000))
    from builder.errors import LayerError

    with pytest.raises(LayerError, match="truncated"):
        snapshotter.apply("a", None, [chunks[0][:2000]])
    assert not snapshotter.exists("a")
    assert not [name for name in os.listdir(state[0].snapshots) if not name.startswith(".e")]
    snapshotter.apply("a", None, chunks)


def test_130_layers(snapshotter: Snapshotter, layer: Layer) -> None:
    if not snapshotter.parallel_apply:
        return  # copies: nothing depends on the number
    parent = None
    for number in range(130):
        snapshotter.apply(f"l{number}", parent, layer((f"f{number}", b"")))
        parent = f"l{number}"
    assert len(names(snapshotter, "l129")) == 130
    make(snapshotter, "top", parent, lambda f: os.unlink(f"{f}/f7"))
    assert entries(diff(snapshotter, "top", parent)) == [".wh.f7"]


def test_more_layers_than_overlayfs_stacks_is_a_clear_error(snapshotter: Snapshotter, layer: Layer) -> None:
    if not snapshotter.parallel_apply:
        return
    for number in range(501):
        snapshotter.apply(f"l{number}", f"l{number - 1}" if number else None, layer())
    with snapshotter.mount("l499"):
        pass
    with pytest.raises(StoreError, match="501 layers are more than the 500"), snapshotter.mount("l500"):
        pass


def test_layers_side_by_side(snapshotter: Snapshotter, layer: Layer) -> None:
    """With ``parallel_apply`` the upper layer may come first; what needs the lower one says so."""
    from builder.files.types import NeedsParent

    if not snapshotter.parallel_apply:
        return
    snapshotter.apply("c", "b", layer(Entry("d/", DIR), ("d/.wh.one", b"")))
    for hostile in ((("implied/x", b""),), (Entry("x", LINK, linkname="d/one"),)):
        with pytest.raises(NeedsParent):
            snapshotter.apply("n", "b", layer(*hostile))
    snapshotter.apply("b", "a", layer(Entry("d/", DIR), ("d/one", b""), ("d/two", b"")))
    with pytest.raises(NeedsParent):
        snapshotter.apply("n", "b", layer(("implied/x", b"")))
    snapshotter.apply("a", None, layer(Entry("implied/", DIR, 0o700)))
    snapshotter.apply("n", "b", layer(("implied/x", b"")))
    assert names(snapshotter, "c") == ["d", "d/two", "implied"]
