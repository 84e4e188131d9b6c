"""P1's side: the sandbox's first process, made by a fork, and the order of what it does before it becomes the command."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, NoReturn

from runtime import cgroups
from runtime.job import words
from runtime.linux import syscalls
from runtime.native import command, credentials, rootfs

if TYPE_CHECKING:
    from runtime.job import Job

_COMMAND, _SETUP = b"c", b"s"


class CommandRefusedError(Exception):
    """The command can't be started: the text is what runc says of that."""


def start(job: Job, stdout: int, stderr: int) -> int:
    """The pid of the sandbox's first process, which is the command by now.

    CommandRefusedError; OSError or MountError where the sandbox can't be set up.
    """
    import json

    with open(f"{job.scratch}/{job.container}", encoding="utf-8") as file:
        config: dict[str, Any] = json.load(file)
    program = b""
    if job.filter:
        with open(f"{job.scratch}/{job.filter}", "rb") as file_of_bytes:
            program = file_of_bytes.read()
    rules = config["linux"].get("resources", {}).get("devices", [])
    memberships: list[int] = []
    stdin = os.open(f"{job.scratch}/{job.stdin}" if job.stdin else "/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    failed_read, failed_write = os.pipe()
    try:
        if job.groups:
            deny, limits = not _allows_all(rules), job.group_limits
            allowed = tuple((one["type"], one["major"], one["minor"], one["access"]) for one in rules if "major" in one)
            memberships = cgroups.enclose(
                job.groups[0], job.group_kind, job.group_folders, deny=deny, limits=limits, allowed=allowed
            )
        syscalls.unshare(syscalls.CLONE_NEWPID)  # for the child: it will be pid 1 of it, as under every runtime
        child = os.fork()
        if child == 0:
            try:
                _become(config, program, memberships, (stdin, stdout, stderr), failed_write)
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
    with open(failed_read, "rb") as pipe:
        said = pipe.read()
    if not said:
        return child
    os.waitpid(child, 0)
    text = said[1:].decode("utf-8", "surrogateescape")
    if said[:1] == _COMMAND:
        raise CommandRefusedError(text)
    raise OSError(None, text)


def _allows_all(rules: list[dict[str, object]]) -> bool:
    return not any(rule["allow"] is False for rule in rules)


def _say(fd: int, kind: bytes, text: str) -> None:
    os.write(fd, kind + text.encode("utf-8", "surrogateescape")[:4000])


def _become(config: dict[str, Any], program: bytes, memberships: list[int], streams: tuple[int, int, int], failed: int) -> NoReturn:
    """The order is runc's. What needs the right to mount comes before the user changes, and what the command must not have open is
    closed before its working folder is entered: a folder like /proc/self/fd/7 must find nothing there (CVE-2024-21626)."""
    for fd in memberships:
        os.write(fd, b"0")  # ourselves
    os.setsid()
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
    _only(streams, failed)
    process = config["process"]
    credentials.limit(process["rlimits"])
    credentials.own_streams(process["user"]["uid"])
    if program:
        # Before the capabilities are given up: without no_new_privs the kernel wants CAP_SYS_ADMIN for it.
        syscalls.seccomp_filter(program)
    entered = command.enter_folder(process["cwd"], may_fail=True)
    credentials.become(process["user"], process["capabilities"])
    if not entered:
        command.enter_folder(process["cwd"], may_fail=False)
    credentials.finish(process["capabilities"])
    os.umask(0o022)
    command.execute(process["args"], process["env"])


def _only(streams: tuple[int, int, int], failed: int) -> None:
    """Nothing stays open but 0, 1, 2 and our end of the pipe. (It is none of 0, 1, 2: the helper that we come from has those.)"""
    high = 64 + max(*streams, failed)
    lifted = [os.dup2(fd, high + n) for n, fd in enumerate(streams)]
    for number, fd in enumerate(lifted):
        os.dup2(fd, number, inheritable=True)
    os.closerange(3, failed)
    os.closerange(failed + 1, 1 << 20)
