"""The sandbox's root file system: the mounts of the configuration on top of it, devices, hidden paths, and the change of root.

Everything happens on open descriptors below the new root, found by openat2 with RESOLVE_IN_ROOT: links of the image lead nowhere
else, whatever they say. The old root is gone before anything of the image runs.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from runtime import mountpoints
from runtime.errors import RuntimeFault, UnsafePathError
from runtime.linux import mounts, syscalls
from runtime.linux.safepath import open_in_root
from runtime.linux.userns import in_user_namespace
from runtime.oci import DEVICES

_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}
_FLAGS = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "strictatime": syscalls.MS_STRICTATIME,
}
_BIND = ("bind", "rbind", "rro", "rw")
_NULL = os.makedev(1, 3)


def enter(config: dict[str, Any]) -> None:
    """Make the root file system of ``config`` this process' root. The process must be alone in its mount namespace.

    OSError or MountError.
    """
    path: str = config["root"]["path"]
    # A root has to be a mount.
    mounts.bind(path, path, readonly=False)
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _check_own_folders(root)
    bind_devices = in_user_namespace()
    for mount in config["mounts"]:
        _mount(root, mount)
        if mount["destination"] == "/dev":
            _fill_dev(root, config["linux"].get("devices", []), bind=bind_devices)
    for name in config["linux"]["readonlyPaths"]:
        _make_readonly(root, name)
    null = _null_device(root)
    for name in config["linux"]["maskedPaths"]:
        _mask(root, name, null)
    _pivot(root)
    if config["root"]["readonly"]:
        mounts.set_attributes("/", syscalls.MOUNT_ATTR_RDONLY)


def _check_own_folders(root: int) -> None:
    """A missing one is made when it is mounted on."""
    for name in ("proc", "dev", "sys"):
        try:
            mode = os.stat(name, dir_fd=root, follow_symlinks=False).st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(mode):
            raise RuntimeFault(f"/{name} of the root file system is not a folder")


def _mount(root: int, mount: dict[str, Any]) -> None:
    kind, source, options = mount["type"], mount["source"], mount["options"]
    is_file = kind == "bind" and not stat.S_ISDIR(os.stat(source).st_mode)
    try:
        target = mountpoints.make_at(root, mount["destination"], is_file=is_file)
    except UnsafePathError as error:
        raise RuntimeFault(f"cannot mount on {mount['destination']}: {error}") from None
    try:
        if kind == "bind":
            mounts.bind(
                source,
                target,
                readonly="ro" in options,
                nosuid="nosuid" in options,
                nodev="nodev" in options,
                noexec="noexec" in options,
            )
        elif kind == "proc":
            _mount_proc(source, target, options)
        elif kind == "cgroup":
            _mount_cgroups(root, mount["destination"], target, options)
        else:
            _mount_new(kind, source, target, options)
    except OSError as error:
        raise RuntimeFault(f"cannot mount {kind} on {mount['destination']}: {error.strerror}") from None
    finally:
        os.close(target)


def _mount_proc(source: str, target: int, options: list[str]) -> None:
    """A new one, or ours where a container around us hides parts of its own: the kernel then lets nobody make one that shows them
    (mount_too_revealing). The step sees the container's processes there, and can do nothing to them."""
    try:
        _mount_new("proc", source, target, options)
    except PermissionError:
        mounts.bind("/proc", target, readonly=False)


def _mount_new(kind: str, source: str, target: int, options: list[str]) -> None:
    flags = 0
    data: list[str] = []
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option not in _BIND:
            data.append(option)
    syscalls.mount(source, f"/proc/self/fd/{target}", kind, flags, ",".join(data))


def _mount_cgroups(root: int, destination: str, target: int, options: list[str]) -> None:
    """v2: the hierarchy, of our cgroup namespace. v1: a tmpfs with our group of every hierarchy (runc's mountCgroupV1)."""
    host = "/sys/fs/cgroup"
    if os.path.exists(f"{host}/cgroup.controllers"):
        _mount_new("cgroup2", "cgroup", target, options)
        return
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    # As runc: of the mode that the covered folder of sysfs has, and itself writable.
    syscalls.mount("tmpfs", f"/proc/self/fd/{target}", "tmpfs", flags, "mode=555")
    top = open_in_root(root, destination, os.O_PATH | os.O_DIRECTORY)  # the tmpfs; ``target`` is what lies below it
    try:
        for names, group in _memberships():
            folder = f"{host}/{names}"
            if not os.path.isdir(folder + group):
                continue
            os.mkdir(names, 0o755, dir_fd=top)
            below = os.open(names, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
            try:
                mounts.bind(folder + group, below, readonly="ro" in options, nosuid=True, nodev=True, noexec=True)
            finally:
                os.close(below)
            for name in names.split(",") if "," in names else ():
                os.symlink(names, name, dir_fd=top)
    finally:
        os.close(top)


def _memberships() -> list[tuple[str, str]]:
    """(name of the hierarchy's folder, our group in it) of v1, from /proc/self/cgroup."""
    found = []
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            number, names, group = line.rstrip("\n").split(":", 2)
            if number != "0" and names:
                found.append((names.removeprefix("name="), "" if group == "/" else group))
    return found[::-1]  # the order in which they were mounted


def _fill_dev(root: int, more: list[dict[str, Any]], *, bind: bool) -> None:
    """The specification's devices and links. ``bind``: no device node can be made in a user namespace."""
    dev = open_in_root(root, "dev", os.O_PATH | os.O_DIRECTORY)
    try:
        for name in DEVICES:
            _device(dev, name, stat.S_IFCHR, os.makedev(*DEVICES[name]), bind=bind)
        for one in more:
            kind = stat.S_IFBLK if one["type"] == "b" else stat.S_IFCHR
            _named_device(dev, one, kind | one.get("fileMode", 0o666))
        for name, target in _LINKS.items():
            if name != "core" or os.path.exists(target):
                os.symlink(target, name, dir_fd=dev)
    finally:
        os.close(dev)


def _named_device(dev: int, one: dict[str, Any], mode: int) -> None:
    """At its path below /dev, through folders alone; in the place of the specification's own where it has that name."""
    folder, name = os.path.split(one["path"].removeprefix("/dev/"))
    parent = mountpoints.make_at(dev, folder or ".", is_file=False)
    try:
        if not folder and name in DEVICES:
            os.unlink(name, dir_fd=parent)
        os.mknod(name, mode, os.makedev(one["major"], one["minor"]), dir_fd=parent)
        os.chown(name, one.get("uid", 0), one.get("gid", 0), dir_fd=parent, follow_symlinks=False)
        os.chmod(f"/proc/self/fd/{parent}/{name}", stat.S_IMODE(mode))  # whatever the umask
    finally:
        os.close(parent)


def _device(dev: int, name: str, kind: int, number: int, *, bind: bool) -> None:
    if not bind:
        os.mknod(name, kind | 0o666, number, dir_fd=dev)
        os.chmod(f"/proc/self/fd/{dev}/{name}", 0o666)  # whatever the umask
        return
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666, dir_fd=dev))
    target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
    try:
        mounts.bind(f"/dev/{name}", target, readonly=False)
    finally:
        os.close(target)


def _make_readonly(root: int, path: str) -> None:
    """Bound on itself, read-only; a path that is not there is passed over."""
    found = _found(root, path)
    if found is None:
        return
    try:
        mounts.bind(found, found, readonly=True)
    finally:
        os.close(found)


def _mask(root: int, path: str, null: int) -> None:
    """The null device over a file, an empty read-only tmpfs over a folder; a path that is not there is passed over."""
    found = _found(root, path)
    if found is None:
        return
    try:
        if stat.S_ISDIR(os.fstat(found).st_mode):
            syscalls.mount("tmpfs", f"/proc/self/fd/{found}", "tmpfs", syscalls.MS_RDONLY)
        else:
            mounts.bind(null, found, readonly=False)
    finally:
        os.close(found)


def _null_device(root: int) -> int:
    """The sandbox's own /dev/null. A mount of the step's may lie on it, with anything there (CVE-2025-31133): then the host's."""
    for found in (_found(root, "/dev/null"), os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)):
        if found is not None and stat.S_ISCHR(os.fstat(found).st_mode) and os.fstat(found).st_rdev == _NULL:
            return found
    raise RuntimeFault("/dev/null of this machine is not the null device")


def _found(root: int, path: str) -> int | None:
    try:
        return open_in_root(root, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _pivot(root: int) -> None:
    """pivot_root(".", "."): the old root lies on the new one then, from where it is detached (pivot_root(2))."""
    old = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    syscalls.pivot_root(".", ".")
    os.fchdir(old)
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")
