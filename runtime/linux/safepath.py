"""Paths that stay inside a root whatever symbolic links an untrusted tree holds, or swaps in while we look.

``open_in_root`` is the safe way (the kernel resolves, we hold the file); ``resolve_in_root`` gives a name and is safe
only where nobody else writes to the tree, or where the name is opened again with ``open_in_root``.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime.errors import UnsafePathError
from runtime.linux import syscalls

# The kernel's own limit is 40, continuity's fs.RootPath has 255. BuildKit's is the one users see.
_MAX_LINKS = 255

_RESOLVE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS

# Learnt once: a seccomp policy around us, or a kernel before 5.6, refuses it to the whole process.
_have_openat2 = True


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open ``path`` as if ``root_fd`` were ``/``: absolute links and ``..`` stay inside. Close-on-exec always.

    Raises OSError as open(2) does. Links of /proc that lead elsewhere ("magic links") are refused with ELOOP.
    """
    global _have_openat2
    if not flags & os.O_CREAT:
        mode = 0
    while _have_openat2:
        try:
            return syscalls.openat2(root_fd, path or ".", flags, mode, _RESOLVE)
        except OSError as error:
            # EAGAIN: a rename or mount raced with "..", the kernel asks to try again (openat2(2)).
            if error.errno == errno.EAGAIN:
                continue
            # gVisor and old kernels lack the call; docker's older seccomp policies answer EPERM, which stays an error.
            if error.errno != errno.ENOSYS:
                raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
            _have_openat2 = False
    return _walk_open(root_fd, path, flags, mode)


def _walk_open(root_fd: int, path: str, flags: int, mode: int) -> int:
    """What openat2 does, by components. ``..`` goes back to the folder we came through, held open: it can't escape."""
    rest = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    must_be_folder = path.endswith(("/", "/.")) and path.strip("/.") != ""
    trail = [os.dup(root_fd)]
    links = 0
    try:
        while rest:
            name = rest.pop()
            if name == "..":
                if len(trail) > 1:
                    os.close(trail.pop())
                continue
            last = not rest
            if not (last and flags & os.O_NOFOLLOW and not must_be_folder):
                target = _read_link(name, trail[-1])
                if target is not None:
                    links += 1
                    if links > 40:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    if target.startswith("/"):
                        while len(trail) > 1:
                            os.close(trail.pop())
                    rest.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
                    continue
            if last:
                extra = os.O_DIRECTORY if must_be_folder else 0
                fd = os.open(name, flags | extra | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=trail[-1])
                if flags & os.O_PATH and not flags & os.O_NOFOLLOW and stat.S_ISLNK(os.stat(fd).st_mode):
                    # A link took the file's place since it was looked at, and O_PATH opens links themselves: look again.
                    os.close(fd)
                    links += 1
                    if links > 40:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    rest.append(name)
                    continue
                return fd
            step = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            trail.append(os.open(name, step, dir_fd=trail[-1]))
        return os.open(".", flags & ~os.O_CREAT | os.O_CLOEXEC, dir_fd=trail[-1])
    finally:
        for fd in trail:
            os.close(fd)


def _read_link(name: str, dir_fd: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def resolve_in_root(root: str, path: str, *, follow_last: bool = True, known: str = "") -> str:
    """``path`` with every symbolic link resolved inside ``root``; relative, no leading slash, "" for the root itself.

    Components that do not exist are kept as they are, as continuity's ``fs.RootPath`` does. With ``follow_last`` false
    a link in the last place stays. UnsafePathError for a chain of links that does not end; NotADirectoryError where a
    component is a file. ``known``: a beginning of ``path`` that is known to hold no links; deep paths are not looked at
    from the top each time then.
    """
    rest = [part for part in reversed(path[len(known) :].split("/")) if part not in ("", ".")]
    done = known.split("/") if known else []
    prefix = root.rstrip("/") + "/"
    links = 0
    while rest:
        name = rest.pop()
        if name == "..":
            if done:
                done.pop()
            continue
        done.append(name)
        if not rest and not follow_last:
            break
        try:
            target = os.readlink(prefix + "/".join(done))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                continue
            raise
        links += 1
        if links > _MAX_LINKS:
            raise UnsafePathError(f"too many links in {path}")
        done.pop()
        if target.startswith("/"):
            done.clear()
        rest.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
    return "/".join(done)


def read_regular(root_fd: int, path: str, limit: int) -> bytes:
    """The bytes of the regular file ``path`` inside the root, links resolved inside. OSError where it can't be had.

    UnsafePathError for a fifo, device, folder or more than ``limit`` bytes.
    """
    return _read_all(open_regular(root_fd, path), path, limit)


def read_named(path: str, limit: int) -> bytes:
    """As ``read_regular``, for a path of somebody we trust: links lead wherever they do."""
    return _read_all(open_named(path), path, limit)


def open_regular(root_fd: int, path: str) -> int:
    """A descriptor to read the regular file ``path`` inside the root with. OSError; UnsafePathError for anything else."""
    return _readable(open_in_root(root_fd, path, os.O_PATH), path)


def open_named(path: str) -> int:
    """As ``open_regular``, for a path of somebody we trust: links lead wherever they do."""
    return _readable(os.open(path, os.O_PATH | os.O_CLOEXEC), path)


def _readable(handle: int, path: str) -> int:
    """The file is looked at with O_PATH before it is opened for reading: opening a device can already do harm, opening a fifo can
    hang (CVE-2024-9676)."""
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UnsafePathError(f"{path} is not a regular file")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(handle)


def _read_all(fd: int, path: str, limit: int) -> bytes:
    try:
        chunks: list[bytes] = []
        room = limit + 1
        while room > 0:
            chunk = os.read(fd, min(room, 1 << 20))
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            room -= len(chunk)
    finally:
        os.close(fd)
    raise UnsafePathError(f'"{path}" exceeds {limit} bytes')
