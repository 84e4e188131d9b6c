"""What this host lets a sandbox have: probed once, then a plain value that the pure parts are functions of."""

from __future__ import annotations

import os

from runtime import capabilities, cgroups, devices
from runtime.linux.userns import in_user_namespace
from runtime.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Facts:
    """``uids``/``gids``: ranges (first, count) that exist in our user namespace. ``loops``: block devices /dev/loopN to give
    an insecure sandbox. ``setgroups``: supplementary groups may be set. ``cgroups`` that could not limit devices count as none,
    where it is they that have to: outside of user namespaces, in which no device node can be made or opened.
    """

    architecture: str
    user_namespace: bool
    uids: tuple[tuple[int, int], ...]
    gids: tuple[tuple[int, int], ...]
    setgroups: bool
    capabilities: tuple[str, ...]
    cgroups: cgroups.Cgroups
    cgroup_namespace: bool
    loops: int

    def has_uid(self, uid: int) -> bool:
        """Does ``uid`` exist here?"""
        return any(first <= uid < first + count for first, count in self.uids)

    def has_gid(self, gid: int) -> bool:
        """Does ``gid`` exist here?"""
        return any(first <= gid < first + count for first, count in self.gids)


def probe() -> Facts:
    """Read the facts of this process and host."""
    uids, gids = _ranges("uid_map"), _ranges("gid_map")
    inside = in_user_namespace()
    found = cgroups.probe()
    if not inside and found.kind != "none" and (reason := devices.refusal(found)):
        found = replace(found, kind="none", folders=(), reason=reason)
    return Facts(
        architecture=os.uname().machine,
        user_namespace=inside,
        uids=uids,
        gids=gids,
        setgroups=_text("/proc/self/setgroups") != "deny",
        capabilities=capabilities.current(),
        cgroups=found,
        # On v1 a cgroup namespace gives EINVAL with hierarchies that are not the standard ones (moby/buildkit#4108).
        cgroup_namespace=found.kind == "v2" and os.path.exists("/proc/self/ns/cgroup"),
        loops=0 if inside else _free_loop() + 8,
    )


def _ranges(name: str) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for line in _text(f"/proc/self/{name}").splitlines():
        first, _, count = line.split()
        ranges.append((int(first), int(count)))
    return tuple(ranges)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def _free_loop() -> int:
    import fcntl

    try:
        fd = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return fcntl.ioctl(fd, 0x4C82)  # LOOP_CTL_GET_FREE
    except OSError:
        return 0
    finally:
        os.close(fd)
