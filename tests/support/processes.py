"""Servers that tests start: each on loopback, each ended by its own pid, none left when the tests are killed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class Server:
    """A running program whose standard error was read up to the line that says it is ready."""

    def __init__(self, command: Sequence[str], ready: str, *, cwd: str) -> None:
        # The kernel ends the server with the test process, however that ends.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
        self.log: list[str] = []
        self._ready = threading.Event()
        self._match: re.Match[str] | None = None
        self._reader = threading.Thread(target=self._read, args=(re.compile(ready),), daemon=True)
        self._reader.start()
        self._ready.wait(START_SECONDS)
        if self._match is None:
            self.stop()
            raise RuntimeError(f"{command[0]} did not start:\n{''.join(self.log[-30:])}")
        self.match: re.Match[str] = self._match

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End it; may be called again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(STOP_SECONDS)

    def _read(self, ready: re.Pattern[str]) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw.decode(errors="replace")
            self.log.append(line)
            if self._match is None and (found := ready.search(line)):
                self._match = found
                self._ready.set()
        self._ready.set()


class Registry(Server):
    """docker-registry on a free port of loopback; ``host`` is ``127.0.0.1:PORT``, or that of another ``address``; what it keeps
    is in ``folder``."""

    def __init__(self, folder: str, address: str = "127.0.0.1") -> None:
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        config = os.path.join(folder, "config.yml")
        with open(config, "w", encoding="utf-8") as f:
            f.write(
                "version: 0.1\nlog: {level: info}\n"
                f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
                f"http: {{addr: '{address}:0'}}\n"
            )
        super().__init__(["docker-registry", "serve", config], rf"listening on ({re.escape(address)}:\d+)", cwd=folder)
        self.host: str = self.match.group(1)


class Dockerd(Server):
    """dockerd with state, socket and containerd of its own and no network of its own; ``docker(...)`` runs the client on it."""

    def __init__(self, folder: str) -> None:
        # A socket's path has room for 108 bytes, and containerd's lies some folders deeper.
        self._folder = folder
        self.socket = os.path.join(folder, "d.sock")
        super().__init__(
            [
                "dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "-H", f"unix://{self.socket}",
                "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid",
            ],
            r"API listen on ",
            cwd=folder,
        )  # fmt: skip

    def docker(self, *args: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """The client's result; it has to succeed."""
        env = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": f"{self._folder}/client"}
        done = subprocess.run(["docker", *args], env=env, input=input, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, f"docker {' '.join(args)}: {done.stderr.decode(errors='replace')}"
        return done

    def stop(self) -> None:
        super().stop()
        _unmount_below(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)


def _unmount_below(folder: str) -> None:
    """dockerd leaves its own bind mounts when it ends badly."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        points = [line.split()[4] for line in f]
    for point in sorted((p for p in points if p.startswith(folder + "/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Stop it at the end."""
    try:
        yield server
    finally:
        server.stop()


def eventually(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait until ``condition`` holds, for things that the kernel does in its own time and tells nobody of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.02)
