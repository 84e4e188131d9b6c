"""Tests that mount run in a forked child with a mount namespace of its own: nothing is left, whatever fails.

Helpers come as fixtures that give functions: ``layer`` makes a tar, ``listing`` says what a tree holds.
"""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Callable, Iterator

import pytest

from builder.files.kept import Kept
from builder.files.owners import REAL, chosen, current
from builder.files.tar import REG, Entry, TarWriter
from builder.files.xattrs import CAPABILITY, read_xattr
from builder.snapshots.types import Snapshotter
from builder.state.database import Database
from builder.state.layout import Layout
from runtime.linux.namespaces import enter_private_mount_namespace


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.get_closest_marker("integration") is None:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            enter_private_mount_namespace()
            pyfuncitem.obj(**arguments)
            code = 0
        except pytest.skip.Exception as e:
            os.write(write, str(e).encode())
            code = 77
        except BaseException:
            os.write(write, traceback.format_exc()[-60_000:].encode("utf-8", "replace"))
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 77:
        pytest.skip(text)
    if status != 0:
        pytest.fail(text or f"the child ended with status {status}", pytrace=False)
    return True


@pytest.fixture
def root_only() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


Item = Entry | tuple[Entry, bytes]


@pytest.fixture
def layer() -> Callable[..., list[bytes]]:
    """A layer tar of entries; a regular file comes as (entry, content), or with a name and content as (name, content)."""

    def make(*items: Entry | tuple[Entry | str, bytes]) -> list[bytes]:
        out: list[bytes] = []
        writer = TarWriter(out.append)
        for item in items:
            if isinstance(item, Entry):
                writer.add(item)
                continue
            entry, content = item
            if isinstance(entry, str):
                entry = Entry(entry, REG)
            entry.size = len(content)
            writer.add(entry, [content])
        writer.close()
        return out

    return make


def describe(root: str, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Path -> (type and mode, owner, group, content or target or device, seconds of mtime but for folders, capability, first
    name of the same inode)."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root)
            status = current().lstat(path)
            content: object = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif not stat.S_ISDIR(status.st_mode):
                content = status.st_rdev
            mtime = None if stat.S_ISDIR(status.st_mode) or not times else status.st_mtime_ns // 10**9
            same = None if stat.S_ISDIR(status.st_mode) else first.setdefault(status.st_ino, relative)
            capability = read_xattr(path, CAPABILITY)
            found[relative] = (oct(status.st_mode), status.st_uid, status.st_gid, content, mtime, capability, same)
    return found


@pytest.fixture
def listing() -> Callable[..., dict[str, tuple[object, ...]]]:
    return describe


Open = Callable[[str], Snapshotter]


@pytest.fixture
def state(tmp_path: object) -> Iterator[tuple[Layout, Database]]:
    layout = Layout(f"{tmp_path}/state")
    layout.create()
    database = Database(layout.database)
    yield layout, database
    database.close()


KINDS = {
    "overlay": REAL,
    "native": REAL,
    "overlay-kept": Kept(rightless=False),
    "native-kept": Kept(rightless=False),
    "native-account": Kept(rightless=True),
}
"""By name of the driver, how owners are kept."""


@pytest.fixture(params=KINDS)
def snapshotter(request: pytest.FixtureRequest, state: tuple[Layout, Database], root_only: None) -> Iterator[Snapshotter]:
    from builder.snapshots.native import NativeSnapshotter
    from builder.snapshots.overlay import OverlaySnapshotter

    with chosen(KINDS[request.param]):
        if request.param.startswith("overlay"):
            yield OverlaySnapshotter(*state)
        else:
            yield NativeSnapshotter(*state, bind=True)
