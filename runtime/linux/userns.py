"""Where are we?"""

from __future__ import annotations


def in_user_namespace() -> bool:
    """Is this any but the first user namespace (whose map is the identity over all ids)?"""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() != ["0", "0", "4294967295"]
    except OSError:
        return False
