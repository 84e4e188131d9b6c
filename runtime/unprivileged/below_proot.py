"""An ordinary user who may make no namespace: proot changes the root and binds, and owners are kept beside files.

proot (ptrace) translates the names of a call before the kernel asks us about it; so it must not use a filter of its own, which ours
would come before. It knows no read-only binds: those are copies.
"""

from __future__ import annotations

import json
import os
import stat

from runtime import netfiles, oci
from runtime.errors import RuntimeFault, UnsafePathError
from runtime.linux.safepath import open_in_root, resolve_in_root
from runtime.places import CommandFault
from runtime.spec import BindMount, Process, Sandbox
from runtime.unprivileged.placing import Places


def arguments(program: str, places: Places, sandbox: Sandbox, cwd: str) -> tuple[str, ...]:
    """proot and its arguments, to which the command's are added. OSError, RuntimeFault."""
    binds = [("/proc", "/proc"), ("/sys", "/sys"), ("/dev", "/dev"), (places.beside(), "/dev/shm")]
    binds.append((places.beside(netfiles.resolv_conf(sandbox.network).encode()), "/etc/resolv.conf"))
    binds.append((places.beside(netfiles.hosts(sandbox.hostname, sandbox.extra_hosts).encode()), "/etc/hosts"))
    for mount in sandbox.mounts:
        dest = oci.absolute(mount.dest)
        if not isinstance(mount, BindMount):
            if mount.size:
                raise RuntimeFault(f"mount {dest}: the size of a tmpfs can't be limited without namespaces", hint="leave size out")
            binds.append((places.beside(), dest))
        elif mount.readonly and not stat.S_ISSOCK(os.stat(mount.source).st_mode):
            binds.append((places.copy_beside(mount.source), dest))
        else:
            binds.append((mount.source, dest))
    for source, dest in binds:
        if ":" in source or ":" in dest:
            raise RuntimeFault(f"mount {dest}: proot can't bind names with a colon")
    options = [f"--bind={source}:{dest}" for source, dest in binds]
    return (program, f"--rootfs={os.path.realpath(sandbox.rootfs)}", *options, f"--cwd={cwd}")


def check_command(sandbox: Sandbox, process: Process) -> None:
    """CommandFault with runc's words for a command that is not there: proot's are about proot. What a mount brings has to be named
    by its whole path, and is left to proot."""
    name, rootfs = process.args[0], sandbox.rootfs
    if "/" in name:
        if name.startswith("/") and not any(_is_below(name, mount.dest) for mount in sandbox.mounts):
            _check_path(rootfs, name)
        return
    path = next((entry.partition("=")[2] for entry in process.env if entry.startswith("PATH=")), "")
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in path.split(":"):
            if name and folder.startswith("/") and _is_program(root, f"{folder}/{name}"):
                return
    finally:
        os.close(root)
    raise CommandFault(f"exec: {_quoted(name)}: executable file not found in $PATH")


def _check_path(rootfs: str, name: str) -> None:
    try:
        path = os.path.join(rootfs, resolve_in_root(rootfs, name))
        mode = os.lstat(path).st_mode
    except (OSError, UnsafePathError):
        raise CommandFault(f"exec: {_quoted(name)}: stat {name}: no such file or directory") from None
    if not stat.S_ISREG(mode):
        raise CommandFault(f"exec: {_quoted(name)}: permission denied")


def _is_below(path: str, folder: str) -> bool:
    return f"{os.path.normpath(path)}/".startswith(f"{os.path.normpath(folder)}/")


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _is_program(root: int, path: str) -> bool:
    try:
        fd = open_in_root(root, path, os.O_PATH)
    except (OSError, UnsafePathError):
        return False
    try:
        mode = os.fstat(fd).st_mode
        return stat.S_ISREG(mode) and bool(mode & 0o111)
    finally:
        os.close(fd)
