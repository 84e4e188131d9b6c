"""The programs that build: pybuild itself, docker, buildah and BuildKit's buildctl, each as child processes.

How a build is asked for is in ``arguments``; here are the programs' stores, daemons and versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from builder.compare import arguments
from builder.compare.types import BuildSpec, CompareError
from builder.files.trees import remove_tree

_LAST_LINES = 15
_TAG = "pybuild-compare"
_ANSWER_SECONDS = 30.0
# From 23.0 on the client leaves BuildKit to the buildx plugin; before, it speaks to the BuildKit inside dockerd itself.
_EMBEDDED_BELOW = 23
# By its path: the folder that is compared in may have a package of any name.
_OWN_COMMAND = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "pybuild_main.py")


class Pybuild:
    """This pybuild, in a state folder of its own that is empty before each cold build. ``options`` are --config and --runtime.

    With ``root`` given that folder is used as it is and stays; a cold build is then one with --no-cache.
    """

    name = "pybuild"

    def __init__(self, options: Sequence[str] = (), *, root: str = "", environ: Mapping[str, str] | None = None) -> None:
        self._options = tuple(options)
        self._environ = environ
        self._given = root
        self._made = ""
        self._version = ""

    def describe(self) -> str:
        self._version = self._version or _run([*self._program(), "--version"], self._environ).strip()
        return self._version

    def build(self, spec: BuildSpec, *, cold: bool) -> None:
        if not self._given and (cold or not self._made):
            self.close()
            self._made = tempfile.mkdtemp(prefix="pybuild-compare-")
        flags = arguments.pybuild(spec, _TAG, no_cache=cold and bool(self._given))
        _run([*self._program(), "build", *self._state(), "--progress=plain", *flags], self._environ)

    def export(self, folder: str) -> str:
        dest = os.path.join(folder, "pybuild.tar")
        _run([*self._program(), "save", "--root", self._root(), "--format=oci", "-o", dest, _TAG], self._environ)
        return dest

    def close(self) -> None:
        if self._made:
            remove_tree(self._made)
            self._made = ""

    def _program(self) -> list[str]:
        # The running code, not whatever pybuild comes first on PATH.
        return [sys.executable, _OWN_COMMAND]

    def _root(self) -> str:
        return self._given or self._made

    def _state(self) -> list[str]:
        return ["--root", self._root(), *self._options]


class Docker:
    """``docker build`` with BuildKit, embedded in dockerd (client before 23.0) or through buildx, and ``docker save``."""

    name = "docker"

    def __init__(self, host: str = "", extra: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._environ |= {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        if host:
            self._environ["DOCKER_HOST"] = host
        self._extra = tuple(extra)
        self._client = ""
        self._version = ""

    def describe(self) -> str:
        if not self._version:
            self._version = self._ask()
        return self._version

    def _ask(self) -> str:
        client, kind = self._find_client()
        self._client = client
        try:
            server = _run([client, "version", "--format", "{{.Server.Version}}"], self._environ, _ANSWER_SECONDS)
        except CompareError as e:
            host = self._environ.get("DOCKER_HOST", "the default socket")
            raise CompareError(f"no docker daemon answers at {host}", hint=str(e)) from e
        return f"docker {server.strip()} ({kind})"

    def build(self, spec: BuildSpec, *, cold: bool) -> None:
        self.describe()
        _run([self._client, "build", "--progress=plain", *self._extra, *arguments.docker(spec, _TAG, no_cache=cold)], self._environ)

    def export(self, folder: str) -> str:
        dest = os.path.join(folder, "docker.tar")
        _run([self._client, "save", "-o", dest, _TAG], self._environ)
        return dest

    def close(self) -> None:
        if self._client:
            _try([self._client, "rmi", "-f", _TAG], self._environ)

    def _find_client(self) -> tuple[str, str]:
        """The first client on PATH that can build with BuildKit, and how."""
        clients = _all_on_path("docker", self._environ)
        if not clients:
            raise CompareError("docker is not installed", hint="apt-get install docker.io")
        for client in clients:
            if _try([client, "buildx", "version"], self._environ):
                return client, "buildx"
            version = _try([client, "--version"], self._environ).removeprefix("Docker version ").split(".")[0]
            if version.isdigit() and int(version) < _EMBEDDED_BELOW:
                return client, "embedded BuildKit"
        text = f"{clients[0]} can't build with BuildKit: it needs the buildx plugin"
        raise CompareError(text, hint="apt-get install docker-buildx")


class Buildah:
    """``buildah bud --layers`` in the store that its own configuration names.

    Docker's image format, because OCI's drops HEALTHCHECK, SHELL and ONBUILD; a docker archive carries it unchanged.
    """

    name = "buildah"

    def __init__(self, isolation: str = "", extra: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._isolation = isolation or self._environ.get("BUILDAH_ISOLATION", "chroot")
        self._extra = tuple(extra)

    def describe(self) -> str:
        if shutil.which("buildah", path=self._environ.get("PATH")) is None:
            raise CompareError("buildah is not installed", hint="apt-get install buildah")
        version = _run(["buildah", "--version"], self._environ, _ANSWER_SECONDS).split()
        return f"buildah {version[2] if len(version) > 2 else ''} ({self._isolation})"

    def build(self, spec: BuildSpec, *, cold: bool) -> None:
        flags = arguments.buildah(spec, _TAG, no_cache=cold)
        program = ["buildah", "bud", "--layers", "--format=docker", f"--isolation={self._isolation}"]
        _run([*program, *self._extra, *flags], self._environ)

    def export(self, folder: str) -> str:
        dest = os.path.join(folder, "buildah.tar")
        _run(["buildah", "push", "-q", f"localhost/{_TAG}", f"docker-archive:{dest}"], self._environ)
        return dest

    def close(self) -> None:
        _try(["buildah", "rmi", "-f", f"localhost/{_TAG}"], self._environ)


class Buildkit:
    """``buildctl build`` against the daemon that BUILDKIT_HOST names (buildctl's own default without)."""

    name = "buildkit"

    def __init__(self, extra: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._extra = tuple(extra)
        self._folder = ""

    def describe(self) -> str:
        if shutil.which("buildctl", path=self._environ.get("PATH")) is None:
            raise CompareError("buildctl is not installed", hint="it comes with BuildKit's releases")
        try:
            _run(["buildctl", "debug", "workers"], self._environ, _ANSWER_SECONDS)
        except CompareError as e:
            host = self._environ.get("BUILDKIT_HOST", "the default socket")
            raise CompareError(f"no buildkitd answers at {host}", hint=str(e)) from e
        version = _run(["buildctl", "--version"], self._environ, _ANSWER_SECONDS).split()
        return f"buildkit {version[2] if len(version) > 2 else ''}"

    def build(self, spec: BuildSpec, *, cold: bool) -> None:
        self._folder = self._folder or tempfile.mkdtemp(prefix="pybuild-compare-")
        flags = arguments.buildctl(spec, self._dest(), self._environ, no_cache=cold)
        _run(["buildctl", "build", "--progress=plain", *self._extra, *flags], self._environ)

    def export(self, folder: str) -> str:
        return self._dest()

    def close(self) -> None:
        if self._folder:
            remove_tree(self._folder)
            self._folder = ""

    def _dest(self) -> str:
        return os.path.join(self._folder, "buildkit.tar")


def _all_on_path(program: str, environ: Mapping[str, str]) -> list[str]:
    """Every file of that name on PATH, each once (/bin is often /usr/bin)."""
    found: dict[str, str] = {}
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _run(command: Sequence[str], environ: Mapping[str, str] | None, timeout: float | None = None) -> str:
    """What the command prints. CompareError with its last lines if it fails, is not there, or takes over ``timeout`` seconds."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=environ,
            timeout=timeout,
            text=True,
            errors="replace",
        )
    except OSError as e:
        raise CompareError(f"{command[0]}: {e.strerror}") from e
    except subprocess.TimeoutExpired as e:
        raise CompareError(f"{' '.join(command[:2])} does not answer") from e
    if done.returncode:
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-_LAST_LINES:]
        raise CompareError(f"{_short_name(command)} fails with exit code {done.returncode}:\n" + "\n".join(f"  {t}" for t in last))
    return done.stdout


def _short_name(command: Sequence[str]) -> str:
    if command[1] == _OWN_COMMAND:
        return f"pybuild {command[2]}"
    return f"{os.path.basename(command[0])} {command[1]}"


def _try(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """What the command prints, "" if it fails."""
    try:
        return _run(command, environ, _ANSWER_SECONDS)
    except CompareError:
        return ""
