"""Who the command is and what it may: resource limits, user and groups, the five capability sets."""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import Any

from runtime import capabilities
from runtime.limits import NUMBERS
from runtime.linux import syscalls

_DEV_NULL = os.makedev(1, 3)


def limit(rlimits: list[dict[str, Any]]) -> None:
    """setrlimit, while the rights to raise a limit are still there."""
    top = (1 << 64) - 1
    for one in rlimits:
        soft, hard = (-1 if value == top else value for value in (one["soft"], one["hard"]))
        resource.setrlimit(NUMBERS[one["type"].removeprefix("RLIMIT_").lower()], (soft, hard))


def own_streams(uid: int) -> None:
    """The command's user may open /dev/stdout again: the pipes become his, as runc's fixStdioPermissions has it."""
    for number in (0, 1, 2):
        status = os.fstat(number)
        if status.st_uid == uid or (stat.S_ISCHR(status.st_mode) and status.st_rdev == _DEV_NULL):
            continue
        try:
            os.fchown(number, uid, -1)
        except OSError:
            continue  # a file system or user namespace that does not let us: it stays whose it is


def become(user: dict[str, Any], sets: dict[str, list[str]], *, real: bool = True) -> None:
    """``real`` False: the ids stay, others are pretended. Groups, group and user; the capabilities are kept until ``finish``,
    since the command is looked up with them."""
    bounding = capabilities.mask(tuple(sets["bounding"]))
    for number in range(64):
        try:
            if not bounding >> number & 1:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break  # the kernel has no more
    if not real:
        return
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    if "additionalGids" in user:
        os.setgroups(user["additionalGids"])
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 0)


def finish(sets: dict[str, list[str]]) -> None:
    """The effective, permitted, inheritable and ambient sets. An execve by another user than root takes the first two away."""
    masks = {name: capabilities.mask(tuple(sets.get(name, ()))) for name in ("effective", "permitted", "inheritable", "ambient")}
    syscalls.capset(masks["effective"], masks["permitted"], masks["inheritable"])
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(len(capabilities.NAMES)):
        if masks["ambient"] >> number & 1:
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)
