"""A network namespace with nothing but loopback for a step without network, and a sysfs that shows no more than that."""

from __future__ import annotations

import os
import socket
import struct

from runtime.linux import mounts, syscalls

# Where the host's sysfs names network interfaces: links, and the devices of those without hardware (lo, bridges, tunnels).
_INTERFACES = ("class/net", "devices/virtual/net")

_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = 0x41


def enter(sysfs: str) -> None:
    """Move this process to a new network namespace, set loopback up, and mount the namespace's sysfs on ``sysfs``, which is made.

    Where the kernel allows no new sysfs (a container that masks parts of /sys), it is the one of /sys with its lists of
    interfaces covered. OSError or MountError if the namespace is refused.
    """
    syscalls.unshare(syscalls.CLONE_NEWNET)
    _set_up("lo")
    os.mkdir(sysfs)
    try:
        syscalls.mount("sysfs", sysfs, "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    except OSError:
        mounts.bind("/sys", sysfs, readonly=False)
        for name in _INTERFACES:
            if os.path.isdir(f"{sysfs}/{name}"):
                mounts.tmpfs(f"{sysfs}/{name}", mode=0o755, readonly=True)


def _set_up(name: str) -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), _UP_AND_RUNNING))
