"""RUN with a real sandbox, through the command."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.oci import read_image
from tests.support.processes import eventually

if TYPE_CHECKING:
    from tests.support.cli import Pybuild

pytestmark = pytest.mark.integration
Context = Callable[[dict[str, str | bytes]], str]


@pytest.fixture
def build(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """Build the lines after a FROM; gives the files of the image by name."""

    def run(lines: str, *args: str) -> dict[str, bytes]:
        out = str(tmp_path / "image.tar")
        pybuild.ok(
            *args, "-o", f"type=oci,dest={out}", context({"Dockerfile": f"FROM {busybox}\n{lines}\n", "file": "from context"})
        )
        return {name: file.data or b"" for name, file in read_image(out).files().items()}

    return run


def below(root: str, needle: bytes) -> list[str]:
    """Files of the state root that hold the bytes."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    if needle in f.read():
                        found.append(path)
    return found


def test_a_writable_bind_is_thrown_away(build: Callable[..., dict[str, bytes]]) -> None:
    """The step sees its own writes; the image and the context don't."""
    files = build("RUN --mount=target=/ctx,rw echo new > /ctx/file && cat /ctx/file > /seen")
    assert files["seen"] == b"new\n"
    assert "ctx" not in files


def test_a_file_can_be_mounted_alone(build: Callable[..., dict[str, bytes]]) -> None:
    assert build("RUN --mount=source=file,target=/one cat /one > /seen; ls / > /list")["seen"] == b"from context"


def test_a_secret_is_in_no_file_of_the_state_root(build: Callable[..., dict[str, bytes]], pybuild: Pybuild, tmp_path: Path) -> None:
    """Neither as a file nor as a variable; what the step writes of it is the step's doing (here: its length)."""
    value = "the-secret-" + "x" * 20
    (tmp_path / "s").write_text(value)
    lines = "RUN --mount=type=secret,id=a --mount=type=secret,id=b,env=B cat /run/secrets/a | wc -c > /n; echo ${#B} >> /n"
    files = build(lines, "--secret", f"id=a,src={tmp_path}/s", "--secret", f"id=b,src={tmp_path}/s")
    assert files["n"].split() == [b"31", b"31"]
    assert below(pybuild.root, value.encode()) == []


def test_another_value_of_a_secret_is_no_reason_to_run(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN --mount=type=secret,id=a cat /run/secrets/a > /dev/null\n"})
    for value in ("one", "two"):
        (tmp_path / "s").write_text(value)
        done = pybuild.ok("--secret", f"id=a,src={tmp_path}/s", folder)
    assert done.ending("RUN") == "CACHED"


def test_a_missing_secret(pybuild: Pybuild, context: Context, busybox: str) -> None:
    done = pybuild(context({"Dockerfile": f"FROM {busybox}\nRUN --mount=type=secret,id=a,required=true true\n"}))
    assert done.code == 1
    assert "secret a: not found" in done.err


def test_a_cache_folder_outlives_builds_but_is_in_no_image(build: Callable[..., dict[str, bytes]]) -> None:
    line = "RUN --mount=type=cache,target=/c echo {} >> /c/log && cp /c/log /log"
    build(line.format(1))
    files = build(line.format(2))
    assert files["log"] == b"1\n2\n"
    assert "c" not in files


def test_a_link_as_source_of_a_cache_mount_stays_inside(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    """One step plants a link to a folder of the host, the next one mounts it. (CVE-2024-23651)"""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "host").write_text("host")
    lines = (
        f"RUN --mount=type=cache,id=c,target=/c ln -sfn {outside} /c/link && mkdir -p /c{outside} && touch /c{outside}/inside\n"
        "RUN --mount=type=cache,id=c,source=link,target=/m ls /m > /seen && touch /m/written\n"
    )
    pybuild.ok(
        "-t",
        "x",
        context({"Dockerfile": f"FROM {busybox}\n{lines}RUN cat /seen && grep -qx inside /seen && ! grep -q host /seen\n"}),
    )
    assert sorted(os.listdir(outside)) == ["host"]


def test_the_id_and_source_of_a_cache_mount_name_no_place_outside_of_it(
    pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path
) -> None:
    """CVE-2024-9675. An id is a word, a source is a path from the cache folder's own root."""
    victim = tmp_path / "victim"
    victim.mkdir()
    out = "/".join([".."] * 20) + str(victim)
    for id in (out, str(victim)):
        write = f"RUN --mount=type=cache,id={id},target=/c echo x > /c/planted\n"
        read = f"RUN --mount=type=cache,id={id},target=/d cat /d/planted\n"
        pybuild.ok(context({"Dockerfile": f"FROM {busybox}\n{write}{read}"}))
        source = f"RUN --mount=type=cache,id={id},source={out},target=/c echo x > /c/planted\n"
        pybuild.ok(context({"Dockerfile": f"FROM {busybox}\n{source}"}))
    assert list(victim.iterdir()) == []


def test_a_failing_step(pybuild: Pybuild, context: Context, busybox: str) -> None:
    """The cause, the line, the output; what was done before stays, nothing else."""
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo one > /one\nRUN echo to-err >&2; exit 3\n"})
    done = pybuild(folder)
    assert done.code == 1
    assert 'process "/bin/sh -c echo to-err >&2; exit 3" did not complete successfully: exit code: 3' in done.err
    assert "   3 | >>> RUN echo to-err >&2; exit 3" in done.err
    assert "Traceback" not in done.err
    pybuild.fsck()
    again = pybuild(folder)
    assert again.ending("echo one") == "CACHED"


def test_network_and_security_need_to_be_granted(pybuild: Pybuild, context: Context, busybox: str) -> None:
    for flag, name in (("--network=host", "network.host"), ("--security=insecure", "security.insecure")):
        folder = context({"Dockerfile": f"# syntax=docker/dockerfile:1-labs\nFROM {busybox}\nRUN {flag} true\n"})
        done = pybuild(folder)
        assert done.code == 1
        assert f"{name} is not allowed" in done.err
        pybuild.ok("--allow", name, folder)


def test_no_network(build: Callable[..., dict[str, bytes]]) -> None:
    files = build("RUN --network=none ls /sys/class/net > /seen")
    assert files["seen"].split() == [b"lo"]


def test_interrupted_while_a_step_runs(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    """SIGINT ends the step and the build at once, and the store is whole."""
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo start''ed && sleep 1000\n"})
    log = tmp_path / "log"
    with open(log, "wb") as f:
        process = pybuild.start("--progress", "plain", folder, stderr=f)
    eventually(lambda: b" started\n" in log.read_bytes(), "the step says that it runs", seconds=30)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(20) != 0
    assert b"Traceback" not in log.read_bytes()
    pybuild.fsck()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """A socket that answers the first message with a fixed text."""
    path = str(tmp_path / "agent")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(100):
                    connection.sendall(b"\0\0\0\x06\x0chello")

    threading.Thread(target=serve, daemon=True).start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_the_ssh_agent_is_there(build: Callable[..., dict[str, bytes]], agent: str) -> None:
    """With the variable that ssh looks at, and owner and mode as asked for."""
    lines = 'RUN --mount=type=ssh,mode=0666,uid=7 stat -c "%u %a %F" $SSH_AUTH_SOCK > /seen'
    assert build(lines, "--ssh", f"default={agent}")["seen"] == b"7 666 socket\n"
