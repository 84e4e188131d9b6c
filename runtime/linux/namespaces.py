"""Entering a mount or user namespace with the whole (still single-threaded) process."""

from __future__ import annotations

import os
from dataclasses import dataclass

from runtime.errors import RuntimeFault
from runtime.linux import syscalls

_CAP_SETGID, _CAP_SETUID = 6, 7


@dataclass(frozen=True, slots=True)
class IdRange:
    """``count`` ids from ``inside`` on are the ids from ``outside`` on of the parent namespace."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class UserNamespace:
    """The map that was set up. ``single``: only id 0 exists inside, chown to anything else gives EINVAL."""

    uids: tuple[IdRange, ...]
    gids: tuple[IdRange, ...]

    @property
    def single(self) -> bool:
        return sum(part.count for part in self.uids) == 1 or sum(part.count for part in self.gids) == 1


def effective_capabilities() -> int:
    """Bit set of the effective capabilities of this process."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0


def has_capability(number: int) -> bool:
    """Is capability ``number`` (of linux/capability.h) effective?"""
    return bool(effective_capabilities() >> number & 1)


def enter_private_mount_namespace() -> None:
    """Leave the host's mount namespace: all mounts from here on are ours and go when the last process in it goes.

    Must run before the first thread starts (unshare moves the calling thread only); RuntimeFault otherwise, or if
    refused.
    """
    _single_threaded("a mount namespace")
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    except OSError as error:
        raise RuntimeFault(f"cannot enter a mount namespace: {error.strerror}", hint=_MOUNT_HINT) from None


_MOUNT_HINT = "run as root, or let unprivileged users make user namespaces"


def _single_threaded(what: str) -> None:
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeFault(f"cannot enter {what}: the process has threads already")


def subid_ranges(kind: str, *, uid: int | None = None, folder: str = "/etc") -> list[tuple[int, int]]:
    """(start, count) pairs that /etc/subuid or /etc/subgid (``kind`` is "subuid" or "subgid") grants to the user.

    Lines name the user or the number (subuid(5)). Missing file, or no line: an empty list.
    """
    if uid is None:
        uid = os.getuid()
    names = {str(uid)}
    try:
        import pwd

        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    ranges: list[tuple[int, int]] = []
    try:
        with open(f"{folder}/{kind}", encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return []
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdecimal() and fields[2].isdecimal():
            start, count = int(fields[1]), int(fields[2])
            if count > 0:
                ranges.append((start, count))
    return ranges


def enter_user_namespace() -> UserNamespace:
    """Become uid 0 of a new user and mount namespace (private mounts), with as many ids as the system grants.

    Three ways, best first: with CAP_SETUID the same ids again; with subordinate ids by newuidmap/newgidmap; else
    our one id. Single-threaded processes only; RuntimeFault with a hint where the kernel refuses.
    """
    _single_threaded("a user namespace")
    uid, gid = os.geteuid(), os.getegid()
    # A process that changed its uid is "undumpable": its files in /proc belong to root and it could not write its own map.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    plan = _plan(uid, gid)
    if plan is None:
        namespace = UserNamespace((IdRange(0, uid, 1),), (IdRange(0, gid, 1),))
        _unshare_user()
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    else:
        namespace, by_helper = plan
        _unshare_with_mapper(namespace, by_helper=by_helper)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    if plan is not None:
        os.setgroups([])
    try:
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    except OSError as error:
        raise RuntimeFault(f"cannot make mounts private in the user namespace: {error.strerror}") from None
    return namespace


def _plan(uid: int, gid: int) -> tuple[UserNamespace, bool] | None:
    """The widest map on offer and whether the set-uid helpers must write it; None if only our own id can be mapped."""
    wanted = 1 << _CAP_SETUID | 1 << _CAP_SETGID
    if effective_capabilities() & wanted == wanted:
        return UserNamespace(_identity("uid_map"), _identity("gid_map")), False
    uids, gids = subid_ranges("subuid", uid=uid), subid_ranges("subgid", uid=uid)
    if not uids or not gids or _which("newuidmap") is None or _which("newgidmap") is None:
        return None
    return UserNamespace(_after_own(uid, uids), _after_own(gid, gids)), True


def _identity(name: str) -> tuple[IdRange, ...]:
    with open(f"/proc/self/{name}", encoding="utf-8") as file:
        extents = [line.split() for line in file]
    return tuple(IdRange(int(inside), int(inside), int(count)) for inside, _, count in extents)


def _after_own(own: int, ranges: list[tuple[int, int]]) -> tuple[IdRange, ...]:
    parts = [IdRange(0, own, 1)]
    inside = 1
    for start, count in ranges:
        parts.append(IdRange(inside, start, count))
        inside += count
    return tuple(parts)


def _which(program: str) -> str | None:
    for folder in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        candidate = os.path.join(folder, program)
        if folder and os.access(candidate, os.X_OK):
            return candidate
    return None


def _unshare_user() -> None:
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    except OSError as error:
        raise RuntimeFault(f"cannot make a user namespace: {error.strerror}", hint=_user_namespace_hint()) from None


def _unshare_with_mapper(namespace: UserNamespace, *, by_helper: bool) -> None:
    """The map must be written from outside: a child that stays in the parent namespace writes it after unshare."""
    target = os.getpid()
    go_read, go_write = os.pipe()
    why_read, why_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(go_write)
            if os.read(go_read, 1):
                for kind, ranges in (("uid", namespace.uids), ("gid", namespace.gids)):
                    _write_map(target, kind, ranges, by_helper=by_helper)
            status = 0
        except BaseException as error:
            os.write(why_write, str(error).encode()[:4000])
        finally:
            os._exit(status)
    os.close(go_read)
    os.close(why_write)
    try:
        _unshare_user()
        os.write(go_write, b"x")
    finally:
        os.close(go_write)
        reason = b""
        while chunk := os.read(why_read, 4096):
            reason += chunk
        os.close(why_read)
        _, status = os.waitpid(child, 0)
    if status != 0:
        text = reason.decode("utf-8", "replace") or "the helper died"
        raise RuntimeFault(f"cannot map user ids: {text}", hint="check /etc/subuid and /etc/subgid, or install uidmap")


def _write_map(target: int, kind: str, ranges: tuple[IdRange, ...], *, by_helper: bool) -> None:
    if not by_helper:
        text = "".join(f"{part.inside} {part.outside} {part.count}\n" for part in ranges)
        _write(f"/proc/{target}/{kind}_map", text)
        return
    program = _which(f"new{kind}map")
    if program is None:
        raise FileNotFoundError(f"new{kind}map not found")
    arguments = [program, str(target)]
    for part in ranges:
        arguments += [str(part.inside), str(part.outside), str(part.count)]
    code = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(program, arguments, os.environ), 0)[1])
    if code != 0:
        raise OSError(f"new{kind}map gave exit code {code}")


def _write(path: str, text: str) -> None:
    # One write: the kernel takes a map in a single call only.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name}", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _user_namespace_hint() -> str:
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "sysctl kernel.unprivileged_userns_clone=1, or run as root"
    if _sysctl("user/max_user_namespaces") == "0":
        return "sysctl user.max_user_namespaces=15000, or run as root"
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    return "a seccomp policy of the container around may forbid it; run as root or loosen the policy"
