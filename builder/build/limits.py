"""Limits that steps are to have, asked of the kernel before the build and not in the middle of it."""

from __future__ import annotations

from collections.abc import Sequence

from builder.errors import UsageError
from builder.graph.ops import Ulimit

_LOCKS = 10  # RLIMIT_LOCKS, which Python does not name


def check_ulimits(ulimits: Sequence[Ulimit]) -> None:
    """UsageError for a hard limit that this process may not give. To be called in the user namespace that pybuild is started in.

    A hard limit that is over this process's own is raised for an instant: so the kernel says what privileges and sysctls allow.
    """
    if not ulimits:
        return
    import resource

    for limit in ulimits:
        number = getattr(resource, f"RLIMIT_{limit.name.upper()}", _LOCKS)
        soft, top = resource.getrlimit(number)
        if top == resource.RLIM_INFINITY or -1 < limit.hard <= top:
            continue
        try:
            resource.setrlimit(number, (soft, limit.hard))
        except (ValueError, OSError) as e:
            shown = "no limit" if limit.hard == -1 else limit.hard
            hint = "raising it needs CAP_SYS_RESOURCE; what --ulimit asks for may also be over a sysctl (fs.nr_open for nofile)"
            raise UsageError(f"ulimit {limit.name}: {shown} is over the hard limit of this process, {top}", hint=hint) from e
        resource.setrlimit(number, (soft, top))
