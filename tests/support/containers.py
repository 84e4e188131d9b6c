"""Containers of runc in which tests start pybuild: what a CI job or a pod has, where nothing was relaxed for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from runtime import capabilities, oci, seccomp_policy
from tests.support.cli import REPOSITORY

_counter = iter(range(1, 1 << 30))


@dataclass(frozen=True, slots=True)
class Container:
    """How a container is confined. The defaults are docker's: root with 14 capabilities, a seccomp policy, parts of /proc masked.

    ``new_privileges``: set-id programs work. ``files``: path in the container -> text that lies there instead. ``network``: this
    machine's, with its ways out.
    """

    uid: int = 0
    capabilities: tuple[str, ...] = capabilities.DEFAULT
    seccomp: bool = True
    masked: bool = True
    new_privileges: bool = True
    files: Mapping[str, str] | None = None
    network: bool = False


DOCKER = Container()
DOCKER_USER = Container(uid=43210)
KUBERNETES = Container(seccomp=False)
KUBERNETES_USER = Container(uid=43210, seccomp=False)
RESTRICTED = Container(uid=43210, capabilities=(), new_privileges=False)
"""Kubernetes' restricted pod security standard."""


@contextmanager
def machine(work: str) -> Iterator[str]:
    """A root file system for containers: this machine's, with changes kept in ``work``, which is itself in it at its own path."""
    upper, inner, root = (os.path.join(work, name) for name in ("upper", "inner", "root"))
    for folder in (upper, inner, root):
        os.makedirs(folder)
    os.chmod(upper, 0o755)
    subprocess.run(["mount", "-t", "overlay", "none", "-o", f"lowerdir=/,upperdir={upper},workdir={inner}", root], check=True)
    try:
        # Another user in there must get to the source and its interpreter, wherever they lie.
        for path in (REPOSITORY, sys.prefix, sys.base_prefix):
            while path != "/":
                inside = root + path
                os.chmod(inside, os.stat(inside).st_mode | 0o555)
                path = os.path.dirname(path)
        yield root
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def run(
    container: Container, root: str, command: Sequence[str], *, env: Mapping[str, str], binds: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run to the end in ``root``. ``binds``: folders of this machine that are there at the same path."""
    identity = f"test-{os.getpid()}-{next(_counter)}"
    with tempfile.TemporaryDirectory(prefix="bundle-") as bundle:
        with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
            json.dump(_config(container, root, command, env, binds, bundle), file)
        return subprocess.run(
            ["runc", "--root", f"{bundle}/state", "run", "--bundle", bundle, identity],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip


def pybuild(container: Container, root: str, home: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Our command in a container, with its home and state in ``home``."""
    env = {"HOME": home, "PYTHONPATH": REPOSITORY, "PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": "1700000000"}
    if container.uid == 0:
        env["PYBUILD_ROOT"] = f"{home}/root"  # the usual folder is one for all containers of a machine
    return run(container, root, [sys.executable, "-B", "-m", "builder", *args], env=env, binds=[home])


def _config(
    container: Container, root: str, command: Sequence[str], env: Mapping[str, str], binds: Sequence[str], bundle: str
) -> dict[str, object]:
    granted = list(container.capabilities) if container.uid == 0 else []
    bounding = list(container.capabilities)
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666"],
        },
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        *({"destination": path, "type": "bind", "source": path, "options": ["bind", "rw"]} for path in binds),
    ]
    for number, (path, text) in enumerate((container.files or {}).items()):
        source = f"{bundle}/file-{number}"
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        mounts.append({"destination": path, "type": "bind", "source": source, "options": ["bind", "ro"]})
    linux: dict[str, object] = {
        "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", *(() if container.network else ("network",)))],
        "maskedPaths": list(oci.MASKED_PATHS) if container.masked else [],
        "readonlyPaths": list(oci.READONLY_PATHS) if container.masked else [],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "cgroupsPath": f"/pybuild-tests/{os.getpid()}",
    }
    if container.seccomp:
        linux["seccomp"] = seccomp_policy.as_oci(os.uname().machine, frozenset(bounding))
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": container.uid, "gid": container.uid},
            "args": list(command),
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": "/",
            "noNewPrivileges": not container.new_privileges,
            "capabilities": {"bounding": bounding, "permitted": granted, "effective": granted},
        },
        "root": {"path": root},
        "hostname": "container",
        "mounts": mounts,
        "linux": linux,
    }
