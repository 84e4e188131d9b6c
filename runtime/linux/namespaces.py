"""Leaving the host's namespaces with the whole (still single-threaded) process, as far as the host lets us."""

from __future__ import annotations

import os
from typing import Literal, NoReturn

from runtime.errors import RuntimeFault
from runtime.linux import idmaps, syscalls
from runtime.linux.idmaps import IdMaps
from runtime.linux.userns import has_capability
from runtime.values import dataclass

_CAP_SYS_ADMIN = 21


@dataclass(frozen=True, slots=True)
class Entered:
    """Where ``enter`` has brought this process.

    ``kind``    "mounts": a mount namespace of its own, "user": a user and a mount namespace, "none": nowhere
    ``maps``    the ids of the user namespace
    ``reasons`` why nothing better could be had, a line each; ``hint``: what would mend the last of them
    """

    kind: Literal["mounts", "user", "none"]
    maps: IdMaps | None = None
    reasons: tuple[str, ...] = ()
    hint: str = ""


def enter() -> Entered:
    """The best of: a mount namespace, a user namespace with all ids, with our subordinate ids, with our own id alone, nothing.

    A root without CAP_SYS_ADMIN (a container's) makes a user namespace too. Nothing is entered that does not let us mount; a child
    tries that first, since there is no way back. RuntimeFault if the process has threads: unshare(2) would move one of them.
    """
    _single_threaded("a namespace")
    reasons: list[str] = []
    hint = ""
    if os.geteuid() == 0 and has_capability(_CAP_SYS_ADMIN):
        try:
            enter_private_mount_namespace()
            return Entered("mounts")
        except RuntimeFault as fault:
            reasons.append(str(fault))
    for maps in idmaps.possible(os.geteuid(), os.getegid()):
        try:
            _join(maps)
        except _MapRefusedError as refused:
            reasons.append(str(refused))
            hint = _MAP_HINT
        except RuntimeFault as fault:
            return Entered("none", reasons=(*reasons, str(fault)), hint=fault.hint)
        else:
            return Entered("user", maps, tuple(reasons), hint)
    return Entered("none", reasons=tuple(reasons), hint=hint)


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


def enter_user_namespace() -> IdMaps:
    """Become uid 0 of a new user and mount namespace (private mounts), with as many ids as the system grants.

    Single-threaded processes only; RuntimeFault with a hint where the kernel refuses.
    """
    _single_threaded("a user namespace")
    refusal: RuntimeFault | None = None
    for maps in idmaps.possible(os.geteuid(), os.getegid()):
        try:
            _join(maps)
        except _MapRefusedError as refused:
            refusal = refused
        else:
            return maps
    raise refusal or RuntimeFault("cannot map user ids")


_MOUNT_HINT = "run as root, or let unprivileged users make user namespaces"
_MAP_HINT = "check /etc/subuid and /etc/subgid, and that newuidmap has its set-uid bit or capability"


class _MapRefusedError(RuntimeFault):
    """The ids can't be had; fewer might."""


def _single_threaded(what: str) -> None:
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeFault(f"cannot enter {what}: the process has threads already")


def _join(maps: IdMaps) -> None:
    """A child makes the namespace and shows that mounting works in it; then we join. RuntimeFault: nothing has changed."""
    # A process that changed its uid is "undumpable": its files in /proc belong to root and nobody else could write its map.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    go_read, go_write = os.pipe()
    said_read, said_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_write)
        os.close(said_read)
        _pioneer(go_read, said_write)
    os.close(go_read)
    os.close(said_write)
    try:
        _await_line(said_read, "cannot make a user namespace")
        namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                idmaps.write(child, maps)
            except OSError as error:
                raise _MapRefusedError(f"cannot map user ids: {error.strerror}", hint=_MAP_HINT) from None
            os.write(go_write, b"x")
            _await_line(said_read, "cannot mount in a user namespace")
            syscalls.setns(namespace, syscalls.CLONE_NEWUSER)
        except OSError as error:
            raise RuntimeFault(f"cannot join a user namespace: {error.strerror}", hint=_user_namespace_hint()) from None
        finally:
            os.close(namespace)
    finally:
        os.close(go_write)
        os.close(said_read)
        os.waitpid(child, 0)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    if not maps.single:
        os.setgroups([])
    enter_private_mount_namespace()


def _pioneer(go: int, said: int) -> NoReturn:
    """The child of ``_join``: an empty line when its namespace is made, another when it could mount there, else the reason.

    It lives until the parent has joined, or is dead: its end of ``go`` is closed then.
    """
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        os.write(said, b"\n")
        if os.read(go, 1):
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            os.write(said, b"\n")
            os.read(go, 1)
    except OSError as error:
        os.write(said, f"{error.strerror}\n".encode())
    finally:
        os._exit(0)


def _await_line(said: int, what: str) -> None:
    line = os.read(said, 4096).decode("utf-8", "replace")
    if line != "\n":
        raise RuntimeFault(f"{what}: {line.strip() or 'the process that tries it died'}", hint=_user_namespace_hint())


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
