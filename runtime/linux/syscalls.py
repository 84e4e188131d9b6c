"""Thin typed wrappers of the Linux calls that Python 3.11 lacks. A failure is an ``OSError`` with the kernel's errno.

System call numbers from 424 on are the same on every architecture; ``bpf`` is the one older call without a libc wrapper.
``ctypes`` is imported by the first call, not with the module: a cached build makes none.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_STRICTATIME = 1 << 24

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

FSOPEN_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSMOUNT_CLOEXEC = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING = 1
_AT_FDCWD = -100

FICLONE = 0x4004_9409

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6

_PIVOT_ROOT_NUMBER = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
_KEYCTL_NUMBER = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_BPF_NUMBER = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}

# One library and one set of prototypes for the process, made when they are first used: ctypes is not loaded before.
_calls: dict[str, Callable[..., int]] = {}
_library: Any = None


def _call(name: str, number: int | None, kinds: str) -> Callable[..., int]:
    """A function of libc. ``kinds``: ``i`` int, ``l`` long, ``U`` unsigned long, ``s`` bytes or None, ``p`` buffer.

    With ``number`` it is ``syscall(number, ...)``. The returned function raises OSError for a result of -1.
    """
    global _library
    import ctypes

    if _library is None:
        _library = ctypes.CDLL(None, use_errno=True)
    types = {"i": ctypes.c_int, "l": ctypes.c_long, "U": ctypes.c_ulong, "s": ctypes.c_char_p, "p": ctypes.c_char_p}
    # Indexing gives a fresh function object, so that each prototype keeps its own argument types.
    function = _library["syscall" if number is not None else name]
    function.restype = ctypes.c_long if number is not None else ctypes.c_int
    leading = [ctypes.c_long] if number is not None else []
    function.argtypes = leading + [types[kind] for kind in kinds]
    get_errno = ctypes.get_errno

    if number is None:

        def call(*arguments: Any) -> int:
            result: int = function(*arguments)
            if result == -1:
                code = get_errno()
                raise OSError(code, os.strerror(code), name)
            return result
    else:

        def call(*arguments: Any) -> int:
            result: int = function(number, *arguments)
            if result == -1:
                code = get_errno()
                raise OSError(code, os.strerror(code), name)
            return result

    return call


def _get(name: str, number: int | None, kinds: str) -> Callable[..., int]:
    call = _calls.get(name)
    if call is None:
        call = _calls[name] = _call(name, number, kinds)
    return call


def _path(path: str | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def numbered(number: int, kinds: str, *arguments: int | bytes | None) -> int:
    """Any call by its number; ``kinds`` as for ``_call``."""
    return _get(f"syscall {number} {kinds}", number, kinds)(*arguments)


def set_file_system_ids(uid: int, gid: int) -> None:
    """``setfsuid(2)`` and ``setfsgid(2)`` for this thread; the capabilities over files come and go with uid 0."""
    _get("setfsuid", None, "i")(0)  # the group is root's to change
    _get("setfsgid", None, "i")(gid)
    _get("setfsuid", None, "i")(uid)


def openat2(dir_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """``openat2(2)``; O_CLOEXEC is always added. ``mode`` must be 0 unless O_CREAT is given (the kernel insists)."""
    how = struct.pack("QQQ", (flags | os.O_CLOEXEC) & 0xFFFF_FFFF, mode, resolve)
    raw = path if isinstance(path, bytes) else os.fsencode(path)
    return _get("openat2", 437, "ispU")(dir_fd, raw, how, len(how))


def statx(path: str | bytes, flags: int, mask: int) -> bytes:
    """``statx(2)`` of an absolute path, or one from the working folder: the kernel's struct statx, 256 bytes."""
    import ctypes

    buffer = ctypes.create_string_buffer(256)
    raw = path if isinstance(path, bytes) else os.fsencode(path)
    _get("statx", None, "isiip")(_AT_FDCWD, raw, flags, mask, buffer)
    return buffer.raw


def file_system(path: str | bytes) -> int:
    """The kind of file system that a path lies in, by ``statfs(2)``: its magic number."""
    import ctypes

    buffer = ctypes.create_string_buffer(256)
    _get("statfs", None, "sp")(path if isinstance(path, bytes) else os.fsencode(path), buffer)
    (kind,) = struct.unpack_from("l", buffer.raw)
    return int(kind)


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """``mount(2)``. ``data`` past 4095 bytes would be cut off silently by the kernel, so it is refused here."""
    raw = _path(data)
    if raw is not None and len(raw) > 4095:
        import errno

        raise OSError(errno.E2BIG, "mount options exceed 4095 bytes", target)
    _get("mount", None, "sssUs")(_path(source), _path(target), _path(fstype), flags, raw)


def umount2(target: str, flags: int = 0) -> None:
    """``umount2(2)``."""
    _get("umount2", None, "si")(_path(target), flags)


def fsopen(fstype: str) -> int:
    """``fsopen(2)``: a file descriptor (close-on-exec) on which a file system is configured."""
    return _get("fsopen", 430, "sU")(_path(fstype), FSOPEN_CLOEXEC)


def fsconfig(fs_fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """``fsconfig(2)``. Strings are limited to 256 bytes by the kernel for keys and 4096 for values, with an error."""
    _get("fsconfig", 431, "iUssi")(fs_fd, command, _path(key), _path(value), 0)


def fsmount(fs_fd: int, attributes: int = 0) -> int:
    """``fsmount(2)``: a file descriptor (close-on-exec) of the detached mount."""
    return _get("fsmount", 432, "iUU")(fs_fd, FSMOUNT_CLOEXEC, attributes)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    """``move_mount(2)``."""
    _get("move_mount", 429, "isisU")(from_fd, _path(from_path), to_fd, _path(to_path), flags)


def open_tree(dir_fd: int, path: str, flags: int) -> int:
    """``open_tree(2)``."""
    return _get("open_tree", 428, "isU")(dir_fd, _path(path), flags)


def mount_setattr(dir_fd: int, path: str, flags: int, attr_set: int, attr_clear: int = 0) -> None:
    """``mount_setattr(2)``."""
    attributes = struct.pack("QQQQ", attr_set, attr_clear, 0, 0)
    _get("mount_setattr", 442, "isUpU")(dir_fd, _path(path), flags, attributes, len(attributes))


def unshare(flags: int) -> None:
    """``unshare(2)``; concerns the calling thread only (but CLONE_NEWUSER and CLONE_NEWPID rules apply)."""
    _get("unshare", None, "i")(flags)


def setns(fd: int, kind: int) -> None:
    """``setns(2)``; ``kind`` is the CLONE_NEW* of the namespace that ``fd`` is."""
    _get("setns", None, "ii")(fd, kind)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """``prctl(2)`` with numeric arguments."""
    return _get("prctl", None, "iUUUU")(option, arg2, arg3, arg4, arg5)


def pivot_root(new_root: str, put_old: str) -> None:
    """``pivot_root(2)``, which libc has no function for."""
    _get("pivot_root", _number(_PIVOT_ROOT_NUMBER, "pivot_root"), "ss")(_path(new_root), _path(put_old))


def join_session_keyring() -> None:
    """``keyctl(2)``: a new, empty session keyring for this process."""
    _get("keyctl", _number(_KEYCTL_NUMBER, "keyctl"), "is")(_KEYCTL_JOIN_SESSION_KEYRING, None)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """``capset(2)`` for this thread; the arguments are bit sets."""
    sets = [value & 0xFFFF_FFFF for value in (effective, permitted, inheritable)]
    sets += [value >> 32 for value in (effective, permitted, inheritable)]
    _get("capset", None, "pp")(struct.pack("II", _CAPABILITY_VERSION_3, 0), struct.pack("6I", *sets))


def seccomp_filter(program: bytes) -> None:
    """Put this thread under a filter: an array of struct sock_filter. Needs CAP_SYS_ADMIN or no_new_privs."""
    import ctypes

    code = ctypes.create_string_buffer(program)
    # struct sock_fprog, padded as the ABI does: the number of instructions, a pointer.
    filter_program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(filter_program))


def _number(numbers: dict[str, int], name: str) -> int:
    import errno

    try:
        return numbers[os.uname().machine]
    except KeyError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name) from None


def bpf_load_device_program(instructions: bytes) -> int:
    """``bpf(2)``: a file descriptor (close-on-exec) of a cgroup device program. OSError, ENOSYS where there is no number for it."""
    import ctypes

    code, license = ctypes.create_string_buffer(instructions), ctypes.create_string_buffer(b"GPL")
    count = len(instructions) // 8
    attributes = struct.pack("IIQQ", BPF_PROG_TYPE_CGROUP_DEVICE, count, ctypes.addressof(code), ctypes.addressof(license))
    return _bpf(BPF_PROG_LOAD, attributes + bytes(24))


def bpf_attach_device_program(program_fd: int, cgroup_fd: int) -> None:
    """``bpf(2)``: the program decides for the v2 group from now on."""
    _bpf(BPF_PROG_ATTACH, struct.pack("IIII", cgroup_fd, program_fd, BPF_CGROUP_DEVICE, 0))


def _bpf(command: int, attributes: bytes) -> int:
    return _get("bpf", _number(_BPF_NUMBER, "bpf"), "ipU")(command, attributes, len(attributes))


def reflink(source_fd: int, target_fd: int) -> None:
    """Make ``target_fd`` share all extents of ``source_fd`` (FICLONE). EOPNOTSUPP, EXDEV or EINVAL: copy instead."""
    import fcntl

    fcntl.ioctl(target_fd, FICLONE, source_fd)
