"""USER and --chown by the files of the rootfs: BuildKit's rules and texts."""

from __future__ import annotations

import os

import pytest

from runtime.errors import RuntimeFault
from runtime.user import User, lookup, resolve
from tests.support.deadline import deadline


@pytest.fixture
def root(tmp_path: object) -> str:
    os.mkdir(f"{tmp_path}/etc")
    with open(f"{tmp_path}/etc/passwd", "w") as file:
        file.write("\nroot:x:0:0:root:/root:/bin/sh\n")
        file.write(" app:x:1000:1001::/home/app:\napp:x:9:9::/second:\nbad:x:no:::/b:\n")
    with open(f"{tmp_path}/etc/group", "w") as file:
        file.write("root:x:0:\n#app:x:5:\napp:x:1001:\nextra:x:2000:other,app\nlast:x:2001:app\n")
    return f"{tmp_path}"


@pytest.mark.parametrize(
    ("spec", "user"),
    [
        ("", User(0, 0, (), "/root")),
        ("root", User(0, 0, (), "/root")),
        ("app", User(1000, 1001, (2000, 2001), "/home/app")),
        ("1000", User(1000, 1001, (2000, 2001), "/home/app")),
        ("app:extra", User(1000, 2000, (), "/home/app")),
        ("app:77", User(1000, 77, (), "/home/app")),
        ("4242", User(4242, 0, (), "/")),
        ("4242:4243", User(4242, 4243, (), "/")),
        ("1000:5", User(1000, 5, (), "/home/app")),
        ("root:root", User(0, 0, (), "/root")),
        (":extra", User(0, 2000, (), "/root")),
        ("bad", User(0, 0, (), "/b")),
    ],
)
def test_a_user_is_resolved_by_the_first_line_that_fits(root: str, spec: str, user: User) -> None:
    assert resolve(root, spec) == user


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("app:nogroup", "unable to find group nogroup: no matching entries in group file"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_an_unknown_name_fails_in_buildkits_words(root: str, spec: str, text: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        resolve(root, spec)
    assert str(caught.value) == text


def test_without_files_the_default_user_and_numbers_work_and_names_do_not(tmp_path: object) -> None:
    assert resolve(f"{tmp_path}", "") == User(0, 0, (), "/")
    assert resolve(f"{tmp_path}", "12") == User(12, 0, (), "/")
    with pytest.raises(RuntimeFault, match="unable to find user app"):
        resolve(f"{tmp_path}", "app")


def test_a_hostile_passwd_is_refused_or_read_inside(tmp_path: object) -> None:
    """CVE-2024-9676, CVE-2019-14271: a link out of the root, a fifo, a file without end."""
    os.mkdir(f"{tmp_path}/etc")
    path = f"{tmp_path}/etc/passwd"
    os.symlink("/../../../../../../etc/passwd", path)
    with pytest.raises(RuntimeFault, match="unable to find user daemon"):
        resolve(f"{tmp_path}", "daemon")
    assert lookup(f"{tmp_path}", "daemon") == (0, 0)  # 1:1 on most hosts
    os.unlink(path)
    os.mkfifo(path)
    for look_up in (resolve, lookup):
        with deadline(), pytest.raises(RuntimeFault, match="not a regular file"):
            look_up(f"{tmp_path}", "daemon")
    os.unlink(path)
    with open(path, "w") as file:
        file.truncate(1 << 34)
    for look_up in (resolve, lookup):
        with pytest.raises(RuntimeFault, match="exceeds 10485760 bytes"):
            look_up(f"{tmp_path}", "daemon")


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("spec", ["", "0:0", "5:6", "app"])
def test_an_account_file_that_is_no_regular_one_is_refused_for_any_user(root: str, spec: str, name: str) -> None:
    """runc reads them also where no name has to be looked up."""
    path = f"{root}/etc/{name}"
    os.unlink(path)
    os.symlink("/var/real", path)
    os.mkdir(f"{root}/var")
    os.mkfifo(f"{root}/var/real")
    with pytest.raises(RuntimeFault, match=f"^/etc/{name} of the root file system is not a regular file$"):
        resolve(root, spec)
    os.unlink(f"{root}/var/real")
    if spec != "app":
        resolve(root, spec)


@pytest.mark.parametrize(
    ("spec", "ids"),
    [
        ("app", (1000, 1001)),
        ("app:extra", (1000, 2000)),
        ("55", (55, 55)),
        ("55:66", (55, 66)),
        ("root", (0, 0)),
        ("missing", (0, 0)),
        ("app:missing", (1000, 1001)),
        ("55:extra", (55, 2000)),
        (":extra", (0, 2000)),
    ],
)
def test_chown_takes_names_numbers_and_ignores_what_is_missing(root: str, spec: str, ids: tuple[int, int]) -> None:
    assert lookup(root, spec) == ids
