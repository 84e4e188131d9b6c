"""What has to be in a rootfs before a sandbox can be set up on it: the working folder and the places of mounts."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from runtime import mountpoints
from runtime.errors import RuntimeFault, UnsafePathError
from runtime.linux import overrides
from runtime.linux.safepath import open_in_root, resolve_in_root
from runtime.oci import absolute
from runtime.spec import BindMount, Sandbox, TmpfsMount
from runtime.values import replace

if TYPE_CHECKING:
    from runtime.user import User

# The runtime's own: they cover whatever the rootfs has there.
_OWN = ("/proc", "/dev", "/sys")


class CommandFault(Exception):
    """The command can't be started, for a reason of its own: the text is the step's output, its exit code 1."""


def make_mount_points(sandbox: Sandbox) -> None:
    """Those of the runtime's own mounts and of the sandbox's, but for places inside another mount. RuntimeFault names the place.

    /proc, /dev and /sys that are not folders are left for the runtime to refuse.
    """
    rootfs = sandbox.rootfs
    wanted = [(name, "folder", 0o755) for name in _OWN if not os.path.lexists(rootfs + name)]
    wanted += [("/etc/resolv.conf", "file", 0o755), ("/etc/hosts", "file", 0o755)]
    outer = list(_OWN)
    for mount in sandbox.mounts:
        dest = absolute(mount.dest)
        if not any(dest.startswith(f"{above}/") for above in outer):
            wanted.append((dest, _kind(mount), (mount.mode or 0o755) if isinstance(mount, TmpfsMount) else 0o755))
        outer.append(dest)
    for dest, kind, mode in wanted:
        try:
            found = mountpoints.make(rootfs, dest, is_file=kind == "file", mode=mode)
        except (OSError, UnsafePathError) as error:
            raise RuntimeFault(f"cannot make the mount point {dest}: {_reason(error)}") from None
        try:
            is_folder = stat.S_ISDIR(os.fstat(found).st_mode)
        finally:
            os.close(found)
        if is_folder == (kind == "file"):
            raise RuntimeFault(f"cannot mount a {kind} on {dest}: {'is a directory' if is_folder else 'not a directory'}")


def _kind(mount: BindMount | TmpfsMount) -> str:
    if isinstance(mount, TmpfsMount):
        return "tmpfs"
    return "folder" if os.path.isdir(mount.source) else "file"


def way_to(rootfs: str, cwd: str) -> tuple[str, tuple[str, ...]]:
    """(``cwd`` as a clean path, the folders that the way there goes through and leaves by ``..``).

    runc makes the cwd by its words, from within (os.MkdirAll), and so makes these folders, too; and the kernel leaves a folder
    for the one that it lies in, not for the one that a link to it lies in. RuntimeFault.
    """
    parts = [part for part in cwd.split("/") if part not in ("", ".")]
    if ".." not in parts:
        return absolute(cwd), ()
    passed = ["/".join(parts[:i]) for i, part in enumerate(parts) if part == ".." and i]
    try:
        return "/" + resolve_in_root(rootfs, cwd), tuple(f"/{path}" for path in passed)
    except (OSError, UnsafePathError) as error:
        raise RuntimeFault(f"working dir {cwd} points to invalid target: {_reason(error)}") from None


def make_cwd(rootfs: str, cwd: str, user: User, *, real_owners: bool = True) -> None:
    """A missing working folder is made, with its missing parents, as the user's own (0755), links resolved in the root.

    ``real_owners`` False: the owner is kept beside the folder (runtime.linux.overrides). RuntimeFault; CommandFault if it is
    there and no folder.
    """
    try:
        path = resolve_in_root(rootfs, cwd)
    except (OSError, UnsafePathError) as error:
        raise RuntimeFault(f"working dir {cwd} points to invalid target: {_reason(error)}") from None
    root_fd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _is_folder(root_fd, path):
            _make_folders(root_fd, path, user, real_owners=real_owners)
    except NotADirectoryError:
        raise CommandFault(f"mkdir {cwd}: not a directory") from None
    except OSError as error:
        raise RuntimeFault(f"failed to create working directory {cwd}: {error.strerror}") from None
    finally:
        os.close(root_fd)


def with_tmpfs_modes(sandbox: Sandbox) -> Sandbox:
    """As runc has it: a tmpfs has the mode of the folder it covers, and 1777 where there is none."""
    mounts: list[BindMount | TmpfsMount] = []
    for mount in sandbox.mounts:
        if isinstance(mount, TmpfsMount) and mount.mode is None:
            mount = replace(mount, mode=_mode_of(sandbox.rootfs, absolute(mount.dest), mounts))
        mounts.append(mount)
    return replace(sandbox, mounts=tuple(mounts))


def _mode_of(rootfs: str, dest: str, above: list[BindMount | TmpfsMount]) -> int:
    """The mode of what is at ``dest`` when the mounts ``above`` are there; 0o1777 for nothing."""
    tree, rest = rootfs, dest
    for mount in above:
        outer = absolute(mount.dest)
        if dest.startswith(outer + "/"):
            tree, rest = mount.source if isinstance(mount, BindMount) else "", dest[len(outer) :]
    if not tree or any(dest.startswith(f"{name}/") for name in _OWN):
        return 0o1777
    try:
        root_fd = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = open_in_root(root_fd, rest, os.O_PATH)
        finally:
            os.close(root_fd)
    except OSError:
        return 0o1777
    try:
        return stat.S_IMODE(os.fstat(found).st_mode)
    finally:
        os.close(found)


def _is_folder(root_fd: int, path: str) -> bool:
    try:
        os.close(open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY))
    except FileNotFoundError:
        return False
    return True


def _make_folders(root_fd: int, path: str, user: User, *, real_owners: bool) -> None:
    done = ""
    for name in path.split("/"):
        parent = open_in_root(root_fd, done, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            except FileExistsError:
                pass
            else:
                made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                try:
                    os.fchmod(made, 0o755)
                    if real_owners:
                        os.fchown(made, user.uid, user.gid)
                    elif user.uid or user.gid:
                        os.setxattr(made, overrides.NAME, overrides.Override(user.uid, user.gid, 0o755).encode())
                finally:
                    os.close(made)
        finally:
            os.close(parent)
        done = f"{done}/{name}"


def _reason(error: OSError | UnsafePathError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
