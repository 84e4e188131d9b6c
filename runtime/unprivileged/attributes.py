"""Extended attributes of a step whose owners are kept beside files: those that keep them are nobody's to see or to change. What has
such a name, or what nobody has the right to set, is kept under another one (overrides.KEPT_AS).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from runtime.linux.overrides import CAPABILITY, KEPT_AS, KEPT_AS_ACCOUNT, NAME
from runtime.unprivileged.processes import Processes
from runtime.unprivileged.target import AT_FDCWD, Names, Target, of_fd

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.linux.notify import Call, Listener, Memory

_REPLACE, _CREATE = os.XATTR_REPLACE, os.XATTR_CREATE
_LONGEST = 255
_LARGEST = 1 << 16


class Attributes:
    """``method`` gives what answers a call, as ``owners.Owners.answer`` does."""

    def __init__(
        self, listener: Listener, memory: Memory, names: Names, processes: Processes, *, rightless: bool
    ) -> None:
        self._listener = listener
        self._memory = memory
        self._names = names
        self._processes = processes
        self._kept = dict(KEPT_AS_ACCOUNT if rightless else KEPT_AS)
        self._hidden = frozenset(self._kept.values())

    def method(self, name: str) -> Callable[[Call], int | None]:
        """Of get, set, remove or list, with l, f or nothing before it."""
        if name.endswith("listxattr"):
            return lambda call: self._list(call, name)
        return lambda call: self._one(call, name)

    def _one(self, call: Call, name: str) -> int | None:
        attribute = os.fsdecode(self._memory.text(call.pid, call.args[1], _LONGEST + 1))
        refusal = _error(errno.ENODATA if "get" in name else errno.EPERM)
        if attribute in self._hidden:
            raise refusal
        kept = self._kept.get(attribute)
        if kept is None:
            return None
        target = self._target(call, name)
        if target is None:  # a name in /proc, which may well be that of a file of the step's
            raise refusal
        if "get" in name:
            return self._hand(call, call.args[2], call.args[3], os.getxattr(target.path, kept, follow_symlinks=target.follow))
        if attribute == CAPABILITY and not self._processes.ids(call.pid).root:
            raise refusal
        if "set" in name:
            if call.args[3] > _LARGEST:
                raise _error(errno.E2BIG)
            value = self._memory.read(call.pid, call.args[2], call.args[3])
            os.setxattr(target.path, kept, value, call.args[4] & (_REPLACE | _CREATE), follow_symlinks=target.follow)
        else:
            os.removexattr(target.path, kept, follow_symlinks=target.follow)
        return 0

    def _list(self, call: Call, name: str) -> int | None:
        target = self._target(call, name)
        if target is None:
            return None
        names = os.listxattr(target.path, follow_symlinks=target.follow)
        if not any(one == NAME or one in self._hidden for one in names):
            return None
        shown = [one for one in names if one not in self._hidden and one not in self._kept]
        shown += [one for one, kept in self._kept.items() if kept in names]
        return self._hand(call, call.args[1], call.args[2], b"".join(os.fsencode(one) + b"\0" for one in shown))

    def _target(self, call: Call, name: str) -> Target | None:
        if name.startswith("f"):
            return of_fd(call, call.args[0])
        return self._names.find(call, AT_FDCWD, call.args[0], follow=not name.startswith("l"))

    def _hand(self, call: Call, address: int, room: int, data: bytes) -> int:
        """The size of ``data``, which goes to the caller if he has room for it; none at all is a question for the size."""
        if room:
            if room < len(data):
                raise _error(errno.ERANGE)
            if data:
                self._listener.hand(call, self._memory, address, data)
        return len(data)


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
