"""Names of Linux capabilities, and BuildKit's default set."""

from __future__ import annotations

from runtime.linux.userns import effective_capabilities

_NAMES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_DEFAULT = """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
    AUDIT_WRITE
"""

# By number, linux/capability.h.
NAMES = tuple("CAP_" + name for name in _NAMES.split())

# containerd's default for unix, which BuildKit takes unchanged.
DEFAULT = tuple("CAP_" + name for name in _DEFAULT.split())

SYS_RESOURCE = NAMES.index("CAP_SYS_RESOURCE")


def current() -> tuple[str, ...]:
    """Names of the effective capabilities of this process; those this list does not know are left out."""
    bits = effective_capabilities()
    return tuple(name for number, name in enumerate(NAMES) if bits >> number & 1)


def mask(names: tuple[str, ...]) -> int:
    """The bit set of ``names``."""
    return sum(1 << NAMES.index(name) for name in names)
