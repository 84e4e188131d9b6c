"""The numbers that a /proc of another pid namespace has for the processes of ours.

Where no /proc may be mounted (parts of the container's are hidden, and so the kernel refuses a whole one) a sandbox shows the one
that is there. It numbers processes otherwise than system calls do.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_GONE = -1
_ANY_THREAD = os.O_EXCL  # PIDFD_THREAD, Linux 6.9


def same(pid: int) -> int:
    """Our pid namespace is that of /proc."""
    return pid


def in_proc() -> Callable[[int], int]:
    """What gives for the number of a thread, as system calls tell it, the one it has in the /proc that is our working folder; -1 if
    there is none (any more)."""
    return same if int(os.readlink("self")) == os.getpid() else _Foreign().find


class _Foreign:
    def __init__(self) -> None:
        self._column = len(_numbers("self")) - 1  # of our own namespace, among the numbers of a process
        self._top = _parent("self")
        self._threads: dict[int, str] = {}

    def find(self, pid: int) -> int:
        for flags in (0, _ANY_THREAD):
            try:
                fd = os.pidfd_open(pid, flags)
            except ProcessLookupError:
                return _GONE
            except OSError as e:
                if e.errno not in (errno.EINVAL, errno.ENOENT):  # a thread besides the first; a kernel without the flag
                    raise
            else:
                try:
                    return int(_line(f"self/fdinfo/{fd}", "Pid:") or _GONE)
                finally:
                    os.close(fd)
        return self._search(pid)

    def _search(self, pid: int) -> int:
        """Among the threads of all processes that descend from the one above us."""
        known = self._threads.get(pid)
        if known is not None and self._is(known, pid):
            return int(known.rpartition("/")[2])
        for process in os.listdir("."):
            try:
                if process.isdigit() and len(_numbers(process)) > self._column and self._ours(process):
                    for thread in os.listdir(f"{process}/task"):
                        if self._is(f"{process}/task/{thread}", pid):
                            self._threads[pid] = f"{process}/task/{thread}"
                            return int(thread)
            except OSError:
                continue  # ended meanwhile
        return _GONE

    def _is(self, folder: str, pid: int) -> bool:
        try:
            numbers = _numbers(folder)
        except OSError:
            return False
        return len(numbers) > self._column and numbers[self._column] == str(pid)

    def _ours(self, process: str) -> bool:
        while process not in ("0", "1", self._top):
            process = _parent(process)
        return process == self._top


def _numbers(process: str) -> list[str]:
    return _line(f"{process}/status", "NSpid:").split()


def _parent(process: str) -> str:
    return _line(f"{process}/status", "PPid:")


def _line(path: str, name: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""
