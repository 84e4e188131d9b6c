"""A root file system made of busybox, and one way to run a command in it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from builder.state.cancel import Token
from runtime import executor
from runtime.spec import ExitStatus, Process, Sandbox

BUSYBOX = "/usr/bin/busybox"
_TOOLS = """
    sh cat chmod chroot dd echo env grep head hostname id ip ls mkdir mknod mount mv pwd readlink rm rmdir sleep stat touch
    true unshare wc yes
"""
TOOLS = _TOOLS.split()


def make_rootfs(root: str) -> str:
    """busybox with some of its names, and accounts: app (uid 1000) is also in group extra (2000)."""
    os.makedirs(f"{root}/bin")
    os.makedirs(f"{root}/etc")
    os.makedirs(f"{root}/tmp")
    os.chmod(f"{root}/tmp", 0o1777)
    shutil.copy(BUSYBOX, f"{root}/bin/busybox")
    for name in TOOLS:
        os.symlink("busybox", f"{root}/bin/{name}")
    with open(f"{root}/etc/passwd", "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:An App:/home/app:/bin/sh\n")
    with open(f"{root}/etc/group", "w") as file:
        file.write("root:x:0:\napp:x:1001:\nextra:x:2000:app\n")
    return root


@pytest.fixture
def rootfs(tmp_path: object) -> str:
    return make_rootfs(f"{tmp_path}/root")


@dataclass(frozen=True)
class Result:
    status: ExitStatus
    out: str
    err: str

    @property
    def code(self) -> int:
        return self.status.code


class Runner:
    """Runs shell scripts in sandboxes of one executor."""

    def __init__(self, name: str, rootfs: str) -> None:
        self.name = name
        self.rootfs = rootfs
        self.executor = executor.select(name)

    def __call__(self, script: str, *, user: str = "", env: tuple[str, ...] = (), cwd: str = "/", **sandbox: object) -> Result:
        return self.run(("/bin/sh", "-c", script), user=user, env=env, cwd=cwd, **sandbox)

    def run(
        self,
        args: tuple[str, ...],
        *,
        user: str = "",
        env: tuple[str, ...] = (),
        cwd: str = "/",
        stdin: bytes = b"",
        cancelled: threading.Event | None = None,
        listen: Callable[[int, bytes], None] | None = None,
        **sandbox: object,
    ) -> Result:
        output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}

        def on_output(stream: int, data: bytes) -> None:
            output[stream].extend(data)
            if listen is not None:
                listen(stream, data)

        status = self.executor.run(
            Sandbox(self.rootfs, **sandbox),  # type: ignore[arg-type]
            Process(args, ("PATH=/bin", *env), cwd, user, stdin),
            on_output,
            cancelled or Token(),
        )
        return Result(status, output[1].decode(errors="replace"), output[2].decode(errors="replace"))


@pytest.fixture(params=executor.NAMES)
def run(request: pytest.FixtureRequest, rootfs: str) -> Runner:
    """The test runs once for each executor."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param != "native" and executor.find_program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return Runner(request.param, rootfs)


@pytest.fixture(params=[name for name in executor.NAMES if name != "bwrap"])
def limited(request: pytest.FixtureRequest, rootfs: str) -> Runner:
    """One executor after the other of those that have cgroups."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return Runner(request.param, rootfs)
