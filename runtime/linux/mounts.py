"""Overlay, bind and tmpfs mounts by the new mount API, with mount(2) for kernels or sandboxes that lack it.

The new API has no silent limit on the length of options (mount(2) cuts at 4096 bytes and layers go missing) and tells
the reason of a failure in words. Failures are ``MountError``.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from runtime.errors import RuntimeFault
from runtime.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Sequence

# An upperdir that is an exact diff: none of the features that store a reference in place of content. With metacopy a file
# of which only the mode changed has no bytes in the upperdir, with redirect_dir a renamed folder has no files: neither could
# be exported as a tar.
_EXACT_DIFF = (("index", "off"), ("metacopy", "off"), ("redirect_dir", "off"), ("xino", "off"))

_API_MISSING = (errno.ENOSYS, errno.EOPNOTSUPP)


class MountError(RuntimeFault):
    """A mount failed; the text has the kernel's reason. ``errno`` is the kernel's number, 0 if unknown."""

    def __init__(self, message: str, *, code: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = code


def overlay(
    lowerdirs: Sequence[str],
    upperdir: str | None,
    workdir: str | None,
    target: str,
    *,
    userxattr: bool = False,
) -> None:
    """Mount layers on ``target``. ``lowerdirs`` is topmost first; without ``upperdir`` the mount is read-only.

    One lowerdir without upperdir is a read-only bind, an upperdir without lowerdirs a writable bind. ``userxattr`` is
    needed in a user namespace. Syncs are skipped ("volatile"): the next mount of the upperdir needs a fresh workdir. Device
    nodes of a layer can't be opened through the mount ("nodev"; they can still be made and copied).
    """
    if upperdir is None and len(lowerdirs) == 1:
        bind(lowerdirs[0], target, readonly=True, recursive=False, nodev=True)
        return
    if not lowerdirs:
        if upperdir is None:
            raise MountError(f"cannot mount {target}: no layers")
        bind(upperdir, target, readonly=False, recursive=False, nodev=True)
        return
    options = list(_EXACT_DIFF)
    if userxattr:
        # The kernel refuses "off" together with userxattr; neither value ever writes a redirect.
        options = [(key, "nofollow" if key == "redirect_dir" else value) for key, value in options]
    if upperdir is not None:
        if workdir is None:
            raise MountError(f"cannot mount {target}: an upperdir needs a workdir")
        options += [("upperdir", upperdir), ("workdir", workdir)]
    try:
        fs_fd = syscalls.fsopen("overlay")
    except OSError as error:
        if error.errno != errno.ENOSYS:
            hint = "load the kernel module `overlay`" if error.errno == errno.ENODEV else ""
            raise MountError(f"overlayfs: {error.strerror}", code=error.errno or 0, hint=hint) from None
        _overlay_old(lowerdirs, options, target, userxattr=userxattr)
        return
    try:
        try:
            for folder in lowerdirs:
                syscalls.fsconfig(fs_fd, syscalls.FSCONFIG_SET_STRING, "lowerdir+", folder)
        except OSError as error:
            reason = _log_of(fs_fd)
            if "lowerdir+" not in reason:
                raise MountError(_text("overlay", target, error, reason), code=error.errno or 0) from None
            # Linux 6.1 has the API but not this option.
            _overlay_old(lowerdirs, options, target, userxattr=userxattr)
            return
        try:
            for key, value in options:
                syscalls.fsconfig(fs_fd, syscalls.FSCONFIG_SET_STRING, key, value)
            if userxattr:
                syscalls.fsconfig(fs_fd, syscalls.FSCONFIG_SET_FLAG, "userxattr")
            if upperdir is not None:
                syscalls.fsconfig(fs_fd, syscalls.FSCONFIG_SET_FLAG, "volatile")
            syscalls.fsconfig(fs_fd, syscalls.FSCONFIG_CMD_CREATE)
            _attach(fs_fd, target, _attributes(upperdir is None, True, False, False))
        except OSError as error:
            raise MountError(_text("overlay", target, error, _log_of(fs_fd)), code=error.errno or 0) from None
    finally:
        os.close(fs_fd)


def _overlay_old(
    lowerdirs: Sequence[str],
    options: list[tuple[str, str]],
    target: str,
    *,
    userxattr: bool,
) -> None:
    """Overlay by mount(2). Folders are named by /proc/self/fd: short, free of ``:`` and ``,``, and needs no chdir.

    (chdir into the layer store, as containerd does it, would move every thread of the process.) About 220 layers fit.
    """
    handles: list[int] = []

    def name(folder: str) -> str:
        handles.append(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return f"/proc/self/fd/{handles[-1]}"

    try:
        parts = ["lowerdir=" + ":".join(name(folder) for folder in lowerdirs)]
        writable = False
        for key, value in options:
            if key in ("upperdir", "workdir"):
                writable, value = True, name(value)
            parts.append(f"{key}={value}")
        if userxattr:
            parts.append("userxattr")
        if writable:
            parts.append("volatile")
        data = ",".join(parts)
        if len(data) > 4095:
            raise MountError(f"cannot mount {target}: {len(lowerdirs)} layers do not fit into the options of mount(2)")
        flags = syscalls.MS_NODEV | (0 if writable else syscalls.MS_RDONLY)
        syscalls.mount("overlay", target, "overlay", flags, data)
    except OSError as error:
        raise MountError(_text("overlay", target, error, ""), code=error.errno or 0) from None
    finally:
        for handle in handles:
            os.close(handle)


def bind(
    source: str | int,
    target: str | int,
    *,
    readonly: bool,
    recursive: bool = True,
    nodev: bool = False,
    nosuid: bool = False,
    noexec: bool = False,
) -> None:
    """Bind ``source`` (a path, or an open file descriptor: what it names can't be swapped) on ``target`` (the same).

    Attributes hold for all mounts below when ``recursive``.
    """
    attributes = _attributes(readonly, nodev, nosuid, noexec)
    try:
        flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | (syscalls.AT_RECURSIVE if recursive else 0)
        if isinstance(source, int):
            tree = syscalls.open_tree(source, "", flags | syscalls.AT_EMPTY_PATH)
        else:
            tree = syscalls.open_tree(syscalls.AT_FDCWD, source, flags)
        try:
            if attributes:
                deep = syscalls.AT_EMPTY_PATH | (syscalls.AT_RECURSIVE if recursive else 0)
                syscalls.mount_setattr(tree, "", deep, attributes)
            _move(tree, target)
        finally:
            os.close(tree)
        return
    except OSError as error:
        if error.errno not in _API_MISSING:
            what = source if isinstance(source, str) else f"fd {source}"
            raise MountError(_text(f"bind of {what}", str(target), error, ""), code=error.errno or 0) from None
    _bind_old(source, target, attributes, recursive=recursive)


def _bind_old(source: str | int, target: str | int, attributes: int, *, recursive: bool) -> None:
    """Bind by mount(2): the attributes need a second call, and hold for the top mount only."""
    from_name = f"/proc/self/fd/{source}" if isinstance(source, int) else source
    to_name = f"/proc/self/fd/{target}" if isinstance(target, int) else target
    try:
        syscalls.mount(from_name, to_name, None, syscalls.MS_BIND | (syscalls.MS_REC if recursive else 0))
        if attributes:
            # In a user namespace flags that the original mount has are locked: repeat them. ST_* equal MS_* here.
            kept = os.statvfs(to_name).f_flag & 0xF
            syscalls.mount(None, to_name, None, syscalls.MS_BIND | syscalls.MS_REMOUNT | kept | attributes)
    except OSError as error:
        raise MountError(_text(f"bind of {from_name}", to_name, error, ""), code=error.errno or 0) from None


def tmpfs(target: str | int, *, size: int | None = None, mode: int = 0o1777, readonly: bool = False, noexec: bool = False) -> None:
    """Mount an empty tmpfs (nosuid, nodev) of at most ``size`` bytes (None: the kernel's default, half of memory)."""
    options = [("mode", f"{mode:o}")]
    if size is not None:
        options.append(("size", str(size)))
    try:
        fs_fd = syscalls.fsopen("tmpfs")
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise MountError(_text("tmpfs", str(target), error, ""), code=error.errno or 0) from None
        _tmpfs_old(target, options, _attributes(readonly, True, True, noexec))
        return
    try:
        for key, value in options:
            syscalls.fsconfig(fs_fd, syscalls.FSCONFIG_SET_STRING, key, value)
        syscalls.fsconfig(fs_fd, syscalls.FSCONFIG_CMD_CREATE)
        _attach(fs_fd, target, _attributes(readonly, True, True, noexec))
    except OSError as error:
        raise MountError(_text("tmpfs", str(target), error, _log_of(fs_fd)), code=error.errno or 0) from None
    finally:
        os.close(fs_fd)


def _tmpfs_old(target: str | int, options: list[tuple[str, str]], attributes: int) -> None:
    name = f"/proc/self/fd/{target}" if isinstance(target, int) else target
    try:
        # MS_* and MOUNT_ATTR_* are the same numbers for these flags.
        syscalls.mount("tmpfs", name, "tmpfs", attributes, ",".join(f"{key}={value}" for key, value in options))
    except OSError as error:
        raise MountError(_text("tmpfs", name, error, ""), code=error.errno or 0) from None


def unmount(target: str, *, lazy: bool = False) -> None:
    """Unmount the topmost mount on ``target``, never through a symbolic link. ``lazy``: even if still in use."""
    flags = syscalls.UMOUNT_NOFOLLOW | (syscalls.MNT_DETACH if lazy else 0)
    try:
        syscalls.umount2(target, flags)
    except OSError as error:
        raise MountError(f"cannot unmount {target}: {error.strerror}", code=error.errno or 0) from None


def set_attributes(target: str, attributes: int) -> None:
    """Add MOUNT_ATTR_* to the one mount on ``target``."""
    try:
        syscalls.mount_setattr(syscalls.AT_FDCWD, target, 0, attributes)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise MountError(f"cannot change the mount {target}: {error.strerror}", code=error.errno or 0) from None
        kept = os.statvfs(target).f_flag & 0xF
        syscalls.mount(None, target, None, syscalls.MS_BIND | syscalls.MS_REMOUNT | kept | attributes)


def clear_attributes(target: str, attributes: int) -> None:
    """Take MOUNT_ATTR_* from the mount on ``target``."""
    try:
        syscalls.mount_setattr(syscalls.AT_FDCWD, target, 0, 0, attributes)
    except OSError as error:
        raise MountError(f"cannot change the mount {target}: {error.strerror}", code=error.errno or 0) from None


def overlay_supported(folder: str, *, userxattr: bool = False) -> str | None:
    """Try an overlay whose layers lie in ``folder``: None if layers come out as they must, else the reason in words.

    Needs the right to mount (CAP_SYS_ADMIN). Leaves nothing behind.
    """
    import shutil
    import tempfile

    try:
        base = tempfile.mkdtemp(prefix=".overlay-probe-", dir=folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    try:
        names = {name: os.path.join(base, name) for name in ("low", "lower", "upper", "work", "merged")}
        for name in names.values():
            os.mkdir(name)
        os.close(os.open(os.path.join(names["lower"], "gone"), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        os.mkdir(os.path.join(names["lower"], "old"))
        try:
            overlay([names["lower"], names["low"]], names["upper"], names["work"], names["merged"], userxattr=userxattr)
        except MountError as error:
            return str(error)
        try:
            return _probe_diff(names["merged"], names["upper"], "user" if userxattr else "trusted")
        finally:
            unmount(names["merged"], lazy=True)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _probe_diff(merged: str, upper: str, namespace: str) -> str | None:
    """A removal must give a whiteout, a replaced folder an opaque marker. Where it can't, the kernel only warns."""
    import stat

    os.unlink(os.path.join(merged, "gone"))
    status = os.lstat(os.path.join(upper, "gone"))
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != 0:
        return "the file system of the state root can't hold whiteouts"
    os.rmdir(os.path.join(merged, "old"))
    os.mkdir(os.path.join(merged, "old"))
    try:
        opaque = os.getxattr(os.path.join(upper, "old"), f"{namespace}.overlay.opaque")
    except OSError:
        opaque = b""
    if opaque != b"y":
        return f"the file system of the state root can't hold {namespace}.* extended attributes"
    return None


def _attributes(readonly: bool, nodev: bool, nosuid: bool, noexec: bool) -> int:
    """MOUNT_ATTR_* (the same numbers as MS_* for these four)."""
    return (
        (syscalls.MOUNT_ATTR_RDONLY if readonly else 0)
        | (syscalls.MOUNT_ATTR_NODEV if nodev else 0)
        | (syscalls.MOUNT_ATTR_NOSUID if nosuid else 0)
        | (syscalls.MOUNT_ATTR_NOEXEC if noexec else 0)
    )


def _attach(fs_fd: int, target: str | int, attributes: int) -> None:
    mount_fd = syscalls.fsmount(fs_fd, attributes)
    try:
        _move(mount_fd, target)
    finally:
        os.close(mount_fd)


def _move(mount_fd: int, target: str | int) -> None:
    if isinstance(target, int):
        flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH
        syscalls.move_mount(mount_fd, "", target, "", flags)
    else:
        syscalls.move_mount(mount_fd, "", syscalls.AT_FDCWD, target, syscalls.MOVE_MOUNT_F_EMPTY_PATH)


def _log_of(fs_fd: int) -> str:
    """What the kernel logged on the fs fd: one message a read, as ``e overlay: text``; ENODATA ends."""
    lines: list[str] = []
    while len(lines) < 32:
        try:
            message = os.read(fs_fd, 4096)
        except OSError:
            break
        if not message:
            break
        lines.append(message.decode("utf-8", "replace").strip()[2:])
    return "; ".join(lines)


def _text(what: str, target: str, error: OSError, reason: str) -> str:
    return f"cannot mount {what} on {target}: {reason or error.strerror}"
