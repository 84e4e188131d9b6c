"""A file that the user named, whatever it is: devices, pipes and links stay what they are."""

from __future__ import annotations

import errno
import os
import pty
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import PybuildError, StoreError, UsageError
from builder.state.userfile import find_place, user_file

REPOSITORY = Path(__file__).parents[3]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes or changes owners")


def write(path: Path | str, data: bytes) -> None:
    with user_file(str(path)) as out:
        out(data)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(end to read, end to write), the latter as a process is started with it."""
    read, end = os.pipe()
    os.set_inheritable(end, True)
    yield read, end
    os.close(read)
    os.close(end)


def test_a_regular_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old and longer")
    before = os.stat(file).st_ino
    with user_file(str(file)) as out:
        out(b"new")
        assert file.read_bytes() == b"old and longer"
    assert file.read_bytes() == b"new"
    assert os.stat(file).st_ino != before
    assert os.listdir(tmp_path) == ["f"]


def test_after_an_error_the_old_file_stands(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    with pytest.raises(RuntimeError), user_file(str(file)) as out:
        out(b"half")
        raise RuntimeError
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "f"
    file.touch()
    file.chmod(mode)
    write(file, b"x")
    assert stat.S_IMODE(os.stat(file).st_mode) == mode


@needs_root
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch()
    os.chown(file, 1234, 5678)
    write(file, b"x")
    assert (os.stat(file).st_uid, os.stat(file).st_gid) == (1234, 5678)


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    file = tmp_path / "f"
    old = os.umask(0o027)
    try:
        write(file, b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o640


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "f"
    target.write_bytes(b"old")
    before = os.stat(target).st_ino
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("folder/f")
    write(tmp_path / "one", b"new")
    assert target.read_bytes() == b"new"
    assert os.stat(target).st_ino != before
    assert os.readlink(tmp_path / "one") == "two"
    assert os.readlink(tmp_path / "two") == "folder/f"
    assert os.listdir(tmp_path / "folder") == ["f"]


def test_a_link_that_leads_nowhere_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/f")
    write(tmp_path / "link", b"new")
    assert os.readlink(tmp_path / "link") == "folder/f"
    assert (tmp_path / "folder" / "f").read_bytes() == b"new"


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UsageError, match="Too many levels of symbolic links"):
        find_place(str(tmp_path / "a"))


def test_a_folder_above_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    write(tmp_path / "link" / ".." / "f", b"x")
    assert (tmp_path / "a" / "f").read_bytes() == b"x"


@needs_root
@pytest.mark.parametrize("through", ["node", "link"])
def test_a_character_device_is_written_through(tmp_path: Path, through: str) -> None:
    """1:3 is what /dev/null is."""
    node = tmp_path / "node"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tmp_path / "link").symlink_to("node")
    before = os.lstat(node)
    write(tmp_path / through, b"x" * 100_000)
    assert os.lstat(node).st_ino == before.st_ino
    assert stat.S_ISCHR(os.lstat(node).st_mode)
    assert os.readlink(tmp_path / "link") == "node"
    assert sorted(os.listdir(tmp_path)) == ["link", "node"]


@needs_root
def test_a_device_without_room_says_so(tmp_path: Path) -> None:
    """1:7 is what /dev/full is."""
    os.mknod(tmp_path / "full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
    with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)):
        write(tmp_path / "full", b"x")


@needs_root
def test_a_block_device_is_written_through(tmp_path: Path) -> None:
    backing = tmp_path / "disk"
    backing.write_bytes(b"." * (1 << 20))
    found = subprocess.run(["losetup", "--find", "--show", backing], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"no loop device: {found.stderr.strip()}")
    device = found.stdout.strip()
    try:
        node = tmp_path / "node"
        os.mknod(node, stat.S_IFBLK | 0o600, os.stat(device).st_rdev)
        write(node, b"written")
        assert stat.S_ISBLK(os.lstat(node).st_mode)
        assert node.read_bytes()[:8] == b"written."
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_a_terminal_is_written_through(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    try:
        name = os.ttyname(slave)
        write(name, b"told")
        assert os.read(master, 100) == b"told"
        assert stat.S_ISCHR(os.lstat(name).st_mode)
    finally:
        os.close(master)
        os.close(slave)


def test_a_fifo_gives_its_reader_everything(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    data = os.urandom(300_000)
    write(fifo, data)
    reader.join()
    assert read == [data]
    assert stat.S_ISFIFO(os.lstat(fifo).st_mode)
    assert os.listdir(tmp_path) == ["fifo"]


def test_a_reader_that_leaves_is_an_error(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(StoreError, match="its reader is gone"), user_file(str(fifo)) as out:
        out(b"x")
        os.close(fd)
        out(b"y")


def test_a_failure_before_the_first_byte_waits_for_no_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RuntimeError), user_file(str(tmp_path / "fifo")):
        raise RuntimeError


def test_an_empty_file_is_made_too(tmp_path: Path) -> None:
    with user_file(str(tmp_path / "f")):
        pass
    assert (tmp_path / "f").read_bytes() == b""


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/thread-self/fd/{}"])
def test_a_descriptor_is_written_through(pipe: tuple[int, int], name: str) -> None:
    read, end = pipe
    write(name.format(end), b"told")
    assert os.read(read, 100) == b"told"


def test_a_link_to_a_descriptor_is_followed(tmp_path: Path, pipe: tuple[int, int]) -> None:
    read, end = pipe
    (tmp_path / "link").symlink_to(f"/dev/fd/{end}")
    write(tmp_path / "link", b"told")
    assert os.read(read, 100) == b"told"
    assert (tmp_path / "link").is_symlink()


def test_a_socket_that_the_process_was_given_is_written_through() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.set_inheritable(True)
        write(f"/dev/fd/{theirs.fileno()}", b"told")
        assert ours.recv(100) == b"told"


def test_a_descriptor_of_a_file_is_written_from_where_it_stands(tmp_path: Path) -> None:
    """``{ echo first; pybuild ...dest=/dev/stdout; echo last; } > file``: nothing is truncated, nothing is replaced."""
    with open(tmp_path / "f", "wb", buffering=0) as file:
        os.set_inheritable(file.fileno(), True)
        file.write(b"first ")
        write(f"/dev/fd/{file.fileno()}", b"told")
        file.write(b" last")
    assert (tmp_path / "f").read_bytes() == b"first told last"


@pytest.mark.parametrize("path", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_files_of_our_own_are_no_descriptors_of_the_user(tmp_path: Path, path: str) -> None:
    """What this process opened itself, such as its database, has numbers too."""
    with open(tmp_path / "database", "wb") as file:
        with pytest.raises(UsageError, match=f"descriptor {file.fileno()} is closed"):
            find_place(path.format(file.fileno()))
    with pytest.raises(UsageError, match="is closed"):
        find_place(path.format(99999))


def test_a_file_that_another_process_writes_is_appended_to(tmp_path: Path) -> None:
    """``--iidfile /proc/1/fd/1``, the log of a container."""
    with open(tmp_path / "log", "wb") as log:
        log.write(b"before ")
        log.flush()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log) as other:
            write(f"/proc/{other.pid}/fd/1", b"told")
            other.communicate()
    assert (tmp_path / "log").read_bytes() == b"before told"


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    read, end = pipe
    os.set_blocking(end, False)
    data = os.urandom(300_000)
    got = bytearray()

    def drain() -> None:
        while len(got) < len(data):
            select.select([read], [], [])
            got.extend(os.read(read, 10_000))

    reader = threading.Thread(target=drain)
    reader.start()
    write(f"/dev/fd/{end}", data)
    reader.join()
    assert bytes(got) == data


@pytest.mark.parametrize("name", ["-", "link", "/proc/self/fd/1"])
def test_standard_output_is_told_in_order(tmp_path: Path, name: str) -> None:
    """``link`` is what /dev/stdout is; the real one would be lost to a test that fails as root."""
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    path = str(tmp_path / "link") if name == "link" else name
    code = (
        "import sys\nfrom builder.state.userfile import user_file\n"
        "print('before')\nwith user_file(sys.argv[1]) as w: w(b'told ')\nprint('after')"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "before\ntold after\n"
    assert os.readlink(tmp_path / "link") == "/proc/self/fd/1"


def test_a_standard_output_that_is_closed_is_refused() -> None:
    code = "from builder.state.userfile import find_place\nfind_place('-')"
    command = f"exec {sys.executable} -c \"{code}\" >&-"
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "standard output is closed" in done.stderr


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "s"))
        with pytest.raises(UsageError, match="it is a socket"):
            find_place(str(tmp_path / "s"))


@pytest.mark.parametrize("name", ["folder", "link", "folder/", "folder/.", "new/", ""])
def test_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(UsageError, match="is a directory"):
        find_place(name)


def test_folders_above_are_made_where_that_is_asked_for(tmp_path: Path) -> None:
    with user_file(str(tmp_path / "a" / "b" / "f"), parents=True) as out:
        out(b"x")
    assert (tmp_path / "a" / "b" / "f").read_bytes() == b"x"
    with pytest.raises(StoreError, match="No such file or directory"):
        write(tmp_path / "c" / "f", b"x")


def test_a_file_among_the_folders_above_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(UsageError, match="Not a directory"):
        find_place(str(tmp_path / "f" / "g"))


@needs_root
def test_a_mounted_file_is_overwritten(tmp_path: Path) -> None:
    """A container's ``-v file:file``: nothing can be renamed to it."""
    from runtime.linux import syscalls

    (tmp_path / "source").write_bytes(b"old and longer")
    (tmp_path / "f").touch()
    try:
        syscalls.mount(str(tmp_path / "source"), str(tmp_path / "f"), None, syscalls.MS_BIND)
    except OSError as e:
        pytest.skip(f"no mounts: {e.strerror}")
    try:
        write(tmp_path / "f", b"new")
    finally:
        syscalls.umount2(str(tmp_path / "f"))
    assert (tmp_path / "source").read_bytes() == b"new"
    assert (tmp_path / "f").read_bytes() == b""
    assert sorted(os.listdir(tmp_path)) == ["f", "source"]


def as_nobody(code: str) -> None:
    """Run in a process of an ordinary user; an assertion there fails here."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            exec(code, {"user_file": user_file, "find_place": find_place, "PybuildError": PybuildError})
            status = 0
        except BaseException as e:
            os.write(2, f"{type(e).__name__}: {e}\n".encode())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like /tmp, which others can reach."""
    folder = tmp_path_factory.mktemp("shared")
    for above in (folder, *folder.parents):
        if above.parent == above or above.parent.parent == above.parent:
            break
        above.chmod(above.stat().st_mode | 0o001)
    folder.chmod(0o1777)
    return folder


@needs_root
def test_a_file_in_a_folder_without_permission_is_overwritten(shared: Path) -> None:
    closed = shared / "closed"
    closed.mkdir()
    closed.chmod(0o755)
    (closed / "f").write_bytes(b"old and longer")
    (closed / "f").chmod(0o666)
    as_nobody(f"with user_file({str(closed / 'f')!r}) as w: w(b'new')")
    assert (closed / "f").read_bytes() == b"new"


@needs_root
def test_another_users_file_in_a_shared_folder_is_overwritten_where_that_is_allowed(shared: Path) -> None:
    (shared / "f").write_bytes(b"old and longer")
    (shared / "f").chmod(0o666)
    as_nobody(f"with user_file({str(shared / 'f')!r}) as w: w(b'new')")
    assert (shared / "f").read_bytes() == b"new"
    assert os.listdir(shared) == ["f"]


@needs_root
@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_another_user_planted_in_a_shared_folder_is_refused(shared: Path, tmp_path: Path, kind: str) -> None:
    """The link would lead root to a file of its own, the FIFO would tell a stranger: the kernel's rules for /tmp."""
    (tmp_path / "own").write_bytes(b"kept")
    planted = shared / "f"
    if kind == "link":
        planted.symlink_to(tmp_path / "own")
    else:
        os.mkfifo(planted)
    os.chown(planted, 1234, 1234, follow_symlinks=False)
    with pytest.raises(UsageError, match="belongs to another user"):
        find_place(str(planted))
    assert (tmp_path / "own").read_bytes() == b"kept"


@needs_root
def test_a_file_that_another_user_planted_in_a_shared_folder_does_not_stay_his(shared: Path) -> None:
    planted = shared / "f"
    planted.touch()
    planted.chmod(0o666)
    os.chown(planted, 1234, 1234)
    write(planted, b"x")
    assert os.stat(planted).st_uid == 0


def test_waiting_for_the_reader_of_a_fifo_can_be_interrupted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    code = (
        "import sys\nfrom builder.state.userfile import user_file\ntry:\n    print('waiting', flush=True)\n"
        "    with user_file(sys.argv[1]): pass\nexcept KeyboardInterrupt: print('interrupted')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "fifo")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
