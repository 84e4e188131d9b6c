"""P1's side: the sandbox's first process, made by a fork, and the order of what it does before it becomes the command."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any, NoReturn

from runtime import cgroups, emulation
from runtime.job import words
from runtime.linux import syscalls
from runtime.linux.processes import close_all_but
from runtime.native import command, credentials, rootfs

if TYPE_CHECKING:
    from runtime.job import Job

_COMMAND, _SETUP = b"c", b"s"


class CommandRefusedError(Exception):
    """The command can't be started: the text is what runc says of that."""


def start(job: Job, stdout: int, stderr: int) -> tuple[int, int | None]:
    """The pid of the sandbox's first process, which is the command by now, and of the one that answers for its owners, if any.

    CommandRefusedError; OSError or MountError where the sandbox can't be set up.
    """
    config: dict[str, Any] = json.loads(job.data(job.container))
    # Before children of ours are pid 1 of a namespace.
    service = _owners_service(job, config) if job.owners else None
    try:
        child, failed = begin(job, config, stdout, stderr, None if service is None else service[1])
    finally:
        if service is not None:
            service[1].close()
    with open(failed, "rb") as pipe:
        check(child, pipe.read())
    return child, None if service is None else service[0]


def begin(job: Job, config: dict[str, Any], stdout: int, stderr: int, channel: socket.socket | None) -> tuple[int, int]:
    """The pid of the first process, and a pipe to read to its end for ``check``. ``channel``: where the listener of its calls is
    sent."""
    program = job.data(job.filter) if job.filter else b""
    # The mount stays open in this process, and with it what the step's namespace knows. Before children are in a pid namespace.
    beside = emulation.enter_beside(job.emulator, job.scratch) if job.emulator else None
    rules = config["linux"].get("resources", {}).get("devices", [])
    memberships: list[int] = []
    stdin = _stdin(job)
    failed_read, failed_write = os.pipe()
    try:
        if job.groups:
            deny, limits = not _allows_all(rules), job.group_limits
            allowed = tuple((one["type"], one["major"], one["minor"], one["access"]) for one in rules if "major" in one)
            memberships = cgroups.enclose(
                job.groups[0], job.group_kind, job.group_folders, deny=deny, limits=limits, allowed=allowed
            )
        if not job.bare:
            syscalls.unshare(syscalls.CLONE_NEWPID)  # for the child: it will be pid 1 of it, as under every runtime
        asked = None if channel is None else (channel, _traps(job))
        child = os.fork()
        if child == 0:
            try:
                streams = (stdin, stdout, stderr)
                user = None if beside is None else beside.user
                _become(config, program, memberships, streams, failed_write, asked, user, bare=job.bare, proot=job.proot)
            except command.RefusedError as error:
                _say(failed_write, _COMMAND, str(error))
            except BaseException as error:
                _say(failed_write, _SETUP, words(error))
            finally:
                os._exit(127)
    finally:
        os.close(failed_write)
        os.close(stdin)
        for fd in memberships:
            os.close(fd)
    return child, failed_read


def check(child: int, said: bytes) -> None:
    """Has it become the command? ``said`` is all that came by the pipe. CommandRefusedError, OSError."""
    if not said:
        return
    os.waitpid(child, 0)
    text = said[1:].decode("utf-8", "surrogateescape")
    if said[:1] == _COMMAND:
        raise CommandRefusedError(text)
    raise OSError(None, text)


def _owners_service(job: Job, config: dict[str, Any]) -> tuple[int, socket.socket]:
    from runtime.linux.overrides import Table
    from runtime.unprivileged import ids, owners, service, traps

    user = config["process"]["pretended"]
    table = Table(job.owners)
    return service.fork(
        lambda listener, memory: owners.Owners(
            listener, memory, table, ids.of_user(user["uid"], user["gid"], tuple(user["groups"]))
        ),
        traps.names_of(os.uname().machine, _of_owners(job)),
        (table.fileno(),),
    )


def _of_owners(job: Job) -> tuple[str, ...]:
    from runtime.unprivileged import traps

    return (*traps.OWNERS, *traps.MOVES) if os.path.getsize(job.owners) else traps.OWNERS


def _traps(job: Job) -> bytes:
    from runtime.unprivileged import traps

    names = traps.BELOW_PROOT if job.proot else traps.VIEWS if job.bare else _of_owners(job)
    return traps.program(os.uname().machine, names, only_creating=not job.bare or bool(job.proot))


def _stdin(job: Job) -> int:
    if not job.stdin:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin")
    os.write(fd, job.data(job.stdin))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _allows_all(rules: list[dict[str, object]]) -> bool:
    return not any(rule["allow"] is False for rule in rules)


def _say(fd: int, kind: bytes, text: str) -> None:
    os.write(fd, kind + text.encode("utf-8", "surrogateescape")[:4000])


def _become(
    config: dict[str, Any],
    program: bytes,
    memberships: list[int],
    streams: tuple[int, int, int],
    failed: int,
    asked: tuple[socket.socket, bytes] | None,
    user: int | None,
    *,
    bare: bool,
    proot: tuple[str, ...],
) -> NoReturn:
    """The order is runc's. What needs the right to mount comes before the user changes, and what the command must not have open is
    closed before its working folder is entered: a folder like /proc/self/fd/7 must find nothing there (CVE-2024-21626)."""
    for fd in memberships:
        os.write(fd, b"0")  # ourselves
    os.setsid()
    if bare:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if not proot:
            os.chroot(config["root"]["path"])
        os.chdir("/")
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)  # without CAP_SYS_ADMIN there is no filter otherwise
    else:
        _enter_namespaces(config)
    channel = None if asked is None else asked[0].dup()  # not one of 0, 1, 2
    user = None if user is None else os.dup(user)
    _only(streams, *(() if channel is None else (channel.fileno(),)), *(() if user is None else (user,)), failed)
    process = config["process"]
    credentials.limit(process["rlimits"])
    if not proot:
        credentials.own_streams(process["user"]["uid"])
    if user is not None:
        # What needs rights over the machine is done: mounts, limits, the host name.
        emulation.join(user)
        os.close(user)
    if program:
        # Before the capabilities are given up: without no_new_privs the kernel wants CAP_SYS_ADMIN for it.
        syscalls.seccomp_filter(program)
    if channel is not None and asked is not None:
        from runtime.unprivileged import service

        service.submit(channel, asked[1])
    if proot:
        os.umask(0o022)
        command.execute([*proot, *process["args"]], [*process["env"], "PROOT_NO_SECCOMP=1"])
    entered = command.enter_folder(process["cwd"], may_fail=True)
    credentials.become(process["user"], process["capabilities"], real=bare or "pretended" not in process)
    if not entered:
        command.enter_folder(process["cwd"], may_fail=False)
    credentials.finish(process["capabilities"])
    os.umask(0o022)
    command.execute(process["args"], process["env"])


def _enter_namespaces(config: dict[str, Any]) -> None:
    namespaces = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    if any(one["type"] == "cgroup" for one in config["linux"]["namespaces"]):
        namespaces |= syscalls.CLONE_NEWCGROUP
    syscalls.unshare(namespaces)
    # No key of whoever called us is within reach. Kernels without keyrings, and seccomp policies around us, refuse it.
    try:
        syscalls.join_session_keyring()
    except OSError:
        pass
    rootfs.enter(config)
    socket.sethostname(config["hostname"])


def _only(streams: tuple[int, int, int], *kept: int) -> None:
    """Nothing stays open but 0, 1, 2 and ``kept``. (None is one of 0, 1, 2: the helper that we come from has those.)"""
    high = 64 + max(*streams, *kept)
    lifted = [os.dup2(fd, high + n) for n, fd in enumerate(streams)]
    for number, fd in enumerate(lifted):
        os.dup2(fd, number, inheritable=True)
    close_all_but(*kept)
