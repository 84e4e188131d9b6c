"""The ids of each process of a step.

A process' ids are a number in a list, and the number is the process' soft limit of RLIMIT_LOCKS, which the kernel has had no use
for since Linux 2.4: so the kernel itself hands them on at fork and exec, and nothing is to be cleaned up when processes end.
"""

from __future__ import annotations

import resource

from runtime.unprivileged.ids import Ids

_RLIMIT_LOCKS = 10
_FIRST = 0x1D5_0000_0000  # a limit that nobody asks for


class Processes:
    """``user``: the ids of those that never changed them."""

    def __init__(self, user: Ids) -> None:
        self._known = [user]
        self._numbers = {user: 0}

    def ids(self, pid: int) -> Ids:
        """OSError, ESRCH if it is gone."""
        soft, _ = resource.prlimit(pid, _RLIMIT_LOCKS)
        number = soft - _FIRST
        return self._known[number] if 0 <= number < len(self._known) else self._known[0]

    def change(self, pid: int, ids: Ids) -> None:
        """OSError, ESRCH if it is gone."""
        number = self._numbers.get(ids)
        if number is None:
            number = self._numbers[ids] = len(self._known)
            self._known.append(ids)
        _, hard = resource.prlimit(pid, _RLIMIT_LOCKS)
        resource.prlimit(pid, _RLIMIT_LOCKS, (_FIRST + number, hard))
