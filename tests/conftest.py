"""What integration tests share: pybuild on a fresh root, a registry, base images, a dockerd. All made when first asked for."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.cli import Pybuild
    from tests.support.processes import Dockerd, Registry


def pytest_configure() -> None:
    """All mounts that tests and the programs they start make are this process's own: a run that is killed leaves none.

    Signals that a shell or nohup had us ignore would be ignored by every program that a test interrupts.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    from runtime.linux import syscalls

    if os.geteuid() == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        except OSError:
            pass  # in a container that forbids it tests that mount fail or skip for themselves


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    """The command on an empty state root."""
    from tests.support.cli import Pybuild

    if os.geteuid() != 0:
        pytest.skip("builds with an overlay in the host's name: needs root")
    return Pybuild(str(tmp_path / "root"))


@pytest.fixture
def deep_path() -> Iterator[Path]:
    """A ``tmp_path`` for trees so deep that pytest's own cleaning would end in a RecursionError, in this run or in a later one.
    In memory where that can be: thousands of rmdir(2) take a disk long."""
    from builder.files.trees import remove_tree

    folder = tempfile.mkdtemp(prefix="pybuild-deep-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield Path(folder)
    remove_tree(folder)


@pytest.fixture
def new_root(tmp_path: Path) -> Callable[[], Pybuild]:
    """Another empty state root at every call."""
    from tests.support.cli import Pybuild

    return lambda: Pybuild(tempfile.mkdtemp(prefix="root-", dir=tmp_path))


@pytest.fixture
def context(tmp_path: Path) -> Callable[[dict[str, str | bytes]], str]:
    """A folder with the given files, ``Dockerfile`` among them; files whose text starts with ``#!`` are executable."""

    def make(files: dict[str, str | bytes]) -> str:
        folder = tempfile.mkdtemp(prefix="context-", dir=tmp_path)
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(0o755 if path.read_bytes().startswith(b"#!") else 0o644)
        return folder

    return make


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A docker-registry process; one a worker of xdist."""
    from tests.support.processes import Registry

    server = Registry(str(tmp_path_factory.mktemp("registry")))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def busybox_layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The busybox base as an OCI layout; see tests/support/bases.py for what is in it."""
    from tests.support import bases

    return bases.busybox_layout(str(tmp_path_factory.mktemp("busybox") / "layout"))


@pytest.fixture(scope="session")
def busybox(registry: Registry, busybox_layout: str) -> str:
    """The same in the registry: what to write behind FROM."""
    from tests.support import bases

    return bases.push(busybox_layout, f"{registry.host}/library/busybox:1")


@pytest.fixture(scope="session")
def debian_layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Debian (or Ubuntu) base as an OCI layout."""
    from tests.support import bases

    layout = bases.debian_layout(str(tmp_path_factory.mktemp("debian") / "layout"))
    yield layout
    shutil.rmtree(layout)


@pytest.fixture(scope="session")
def debian(registry: Registry, debian_layout: str) -> str:
    """The same in the registry: what to write behind FROM."""
    from tests.support import bases

    return bases.push(debian_layout, f"{registry.host}/library/debian:base")


@pytest.fixture(scope="module")
def machine() -> Iterator[str]:
    """A root file system for containers. Not in pytest's own folder, where only root gets to."""
    from tests.support import containers

    work = tempfile.mkdtemp(prefix="machine-")
    with containers.machine(work) as root:
        yield root
    shutil.rmtree(work)


@pytest.fixture
def home() -> Iterator[Path]:
    """For an ordinary account, where it can get to (pytest's own folders are root's only)."""
    folder = Path(tempfile.mkdtemp(prefix="account-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """A docker daemon. Its folder has a short name: the paths of its sockets may not be long."""
    from tests.support.processes import Dockerd

    server = Dockerd(tempfile.mkdtemp(prefix="pbd-", dir="/tmp"))
    yield server
    server.stop()
