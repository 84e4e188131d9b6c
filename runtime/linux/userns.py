"""Where are we, and what may we do?"""

from __future__ import annotations

import os

# The inode of the first user namespace of a machine: PROC_USER_INIT_INO of linux/proc_ns.h.
_FIRST = 0xEFFF_FFFD


def in_user_namespace() -> bool:
    """Is this any but the first user namespace?

    Its map is the identity over all ids, but so is that of a namespace that a root without CAP_SYS_ADMIN makes for himself.
    """
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            if file.read().split() != ["0", "0", "4294967295"]:
                return True
        return os.stat("/proc/self/ns/user").st_ino != _FIRST
    except OSError:
        return False


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
