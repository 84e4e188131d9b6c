"""Confined paths: whatever links a tree holds or swaps in, nothing outside of it is reached."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import UnsafePathError
from runtime.linux import safepath
from runtime.linux.safepath import open_in_root, read_regular, resolve_in_root


@pytest.fixture(params=["openat2", "walk"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both implementations keep the same promises."""
    if request.param == "walk":
        monkeypatch.setattr(safepath, "_have_openat2", False)


@pytest.fixture
def root(tmp_path: object) -> str:
    base = f"{tmp_path}"
    os.makedirs(f"{base}/root/usr/lib")
    with open(f"{base}/secret", "w") as file:
        file.write("outside")
    with open(f"{base}/root/usr/lib/file", "w") as file:
        file.write("inside")
    return f"{base}/root"


def read(root: str, path: str) -> bytes:
    root_fd = os.open(root, os.O_PATH)
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            return file.read()
    finally:
        os.close(root_fd)


@pytest.mark.usefixtures("either_way")
class TestOpenInRoot:
    def test_absolute_and_parent_paths_start_and_stop_at_the_root(self, root: str) -> None:
        assert read(root, "/usr/lib/file") == b"inside"
        assert read(root, "../../../usr/lib/../lib/file") == b"inside"

    def test_an_absolute_link_is_followed_inside(self, root: str) -> None:
        os.symlink("/usr/lib", f"{root}/lib")
        assert read(root, "lib/file") == b"inside"

    @pytest.mark.parametrize("target", ["../secret", "/../secret", "../../../../../../secret"])
    def test_a_link_out_ends_at_the_root(self, root: str, target: str) -> None:
        os.symlink(target, f"{root}/out")
        with pytest.raises(FileNotFoundError):
            read(root, "out")

    def test_a_loop_of_links_is_an_error(self, root: str) -> None:
        os.symlink("b", f"{root}/a")
        os.symlink("a", f"{root}/b")
        with pytest.raises(OSError, match="symbolic links"):
            read(root, "a")

    def test_no_follow_refuses_a_link_in_the_last_place(self, root: str) -> None:
        os.symlink("usr", f"{root}/link")
        root_fd = os.open(root, os.O_PATH)
        with pytest.raises(OSError, match="symbolic links"):
            open_in_root(root_fd, "link", os.O_RDONLY | os.O_NOFOLLOW)
        os.close(root_fd)

    def test_a_file_is_created_behind_a_link_inside(self, root: str) -> None:
        os.symlink("/usr/lib", f"{root}/lib")
        root_fd = os.open(root, os.O_PATH)
        os.close(open_in_root(root_fd, "lib/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.close(root_fd)
        assert os.path.exists(f"{root}/usr/lib/new")

    def test_a_component_swapped_while_we_look_never_leads_out(self, root: str) -> None:
        """A second process exchanges a folder with a link to the outside all the time."""
        outside = os.path.dirname(root)
        os.mkdir(f"{root}/flip")
        with open(f"{root}/flip/secret", "w") as file:
            file.write("inside")
        os.symlink(outside, f"{root}/link")
        child = os.fork()
        if child == 0:
            while True:
                os.rename(f"{root}/flip", f"{root}/held")
                os.rename(f"{root}/link", f"{root}/flip")
                os.rename(f"{root}/flip", f"{root}/link")
                os.rename(f"{root}/held", f"{root}/flip")
        seen: set[bytes] = set()
        try:
            for _ in range(3000):
                try:
                    seen.add(read(root, "flip/secret"))
                except OSError:
                    continue
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
        assert seen == {b"inside"}


def test_a_link_that_takes_the_last_place_between_look_and_open_is_followed_inside(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O_PATH would open the link itself, and who mounts that mounts wherever it leads."""
    monkeypatch.setattr(safepath, "_have_openat2", False)
    os.symlink("/usr/lib", f"{root}/late")
    looks = 0
    read_link = safepath._read_link

    def late(name: str, dir_fd: int) -> str | None:
        nonlocal looks
        looks += 1
        return None if looks == 1 else read_link(name, dir_fd)

    monkeypatch.setattr(safepath, "_read_link", late)
    root_fd = os.open(root, os.O_PATH)
    fd = open_in_root(root_fd, "late", os.O_PATH)
    assert os.path.samestat(os.stat(fd), os.stat(f"{root}/usr/lib"))
    os.close(fd)
    os.close(root_fd)


class TestResolveInRoot:
    def test_links_resolve_inside_and_missing_parts_stay(self, root: str) -> None:
        os.symlink("/usr/lib", f"{root}/lib")
        os.symlink("../../../..", f"{root}/usr/up")
        assert resolve_in_root(root, "/lib/none/../other/x") == "usr/lib/other/x"
        assert resolve_in_root(root, "usr/up/usr") == "usr"
        assert resolve_in_root(root, "/") == ""
        assert resolve_in_root(root, "../..") == ""

    def test_the_last_link_stays_when_asked(self, root: str) -> None:
        os.symlink("usr", f"{root}/link")
        assert resolve_in_root(root, "link") == "usr"
        assert resolve_in_root(root, "link", follow_last=False) == "link"
        assert resolve_in_root(root, "link/lib", follow_last=False) == "usr/lib"

    def test_a_loop_is_unsafe(self, root: str) -> None:
        os.symlink("b", f"{root}/a")
        os.symlink("a", f"{root}/b")
        with pytest.raises(UnsafePathError, match="too many links"):
            resolve_in_root(root, "a/x")

    def test_a_file_as_a_folder_is_an_error(self, root: str) -> None:
        with pytest.raises(NotADirectoryError):
            resolve_in_root(root, "usr/lib/file/x")

    @given(path=st.lists(st.sampled_from(["..", ".", "", "a", "usr", "lib"])).map("/".join))
    def test_a_result_never_has_dots_or_a_leading_slash(self, path: str) -> None:
        parts = resolve_in_root("/usr", path).split("/")
        assert parts == [""] or not {"", ".", ".."} & set(parts)


@pytest.mark.usefixtures("either_way")
class TestReadRegular:
    @pytest.fixture
    def root_fd(self, root: str) -> Iterator[int]:
        fd = os.open(root, os.O_PATH)
        yield fd
        os.close(fd)

    def test_a_link_inside_is_followed(self, root: str, root_fd: int) -> None:
        os.symlink("/usr/lib/file", f"{root}/link")
        assert read_regular(root_fd, "/link", 100) == b"inside"

    def test_a_fifo_is_refused_without_waiting_for_a_writer(self, root: str, root_fd: int) -> None:
        os.mkfifo(f"{root}/fifo")
        with pytest.raises(UnsafePathError, match="fifo is not a regular file"):
            read_regular(root_fd, "fifo", 100)

    def test_a_folder_is_refused(self, root_fd: int) -> None:
        with pytest.raises(UnsafePathError, match="not a regular file"):
            read_regular(root_fd, "usr", 100)

    def test_the_limit_is_inclusive(self, root_fd: int) -> None:
        assert read_regular(root_fd, "usr/lib/file", 6) == b"inside"
        with pytest.raises(UnsafePathError, match="exceeds 5 bytes"):
            read_regular(root_fd, "usr/lib/file", 5)
