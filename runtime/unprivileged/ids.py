"""The user and group ids of processes that the kernel knows by one id only, and what set*id calls make of them: pure.

credentials(7), setresuid(2) and the kernel's sys_set*id: root here is an effective uid of 0.
"""

from __future__ import annotations

import errno

from runtime.values import dataclass, replace

_SAME = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Ids:
    """``uids`` and ``gids``: real, effective, saved, file system."""

    uids: tuple[int, int, int, int] = (0, 0, 0, 0)
    gids: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: tuple[int, ...] = ()

    @property
    def root(self) -> bool:
        """May it do what CAP_SETUID, CAP_CHOWN and CAP_MKNOD are for?"""
        return self.uids[1] == 0

    def member(self, gid: int) -> bool:
        """Is the process in the group?"""
        return gid == self.gids[3] or gid in self.groups


def of_user(uid: int, gid: int, groups: tuple[int, ...] = ()) -> Ids:
    """Those of a process that runs as this user."""
    return Ids((uid,) * 4, (gid,) * 4, groups)


def change(ids: Ids, name: str, args: tuple[int, ...]) -> Ids:
    """``ids`` after the call ``name`` (setuid, setregid, ...). PermissionError."""
    kind = name.removeprefix("set").rstrip("0123456789")
    numbers = tuple(arg & _SAME for arg in args)
    if kind.endswith("uid"):
        return replace(ids, uids=_changed(ids.uids, kind[:-3], numbers, free=ids.root))
    return replace(ids, gids=_changed(ids.gids, kind[:-3], numbers, free=ids.root))


def file_system_id(ids: Ids, name: str, number: int) -> tuple[Ids, int]:
    """setfsuid or setfsgid: (the ids, what the call returns: the one before, whatever happened)."""
    number &= _SAME
    four = ids.uids if name == "setfsuid" else ids.gids
    if number == _SAME or not (ids.root or number in four):
        return ids, four[3]
    new = (*four[:3], number)
    return (replace(ids, uids=new) if name == "setfsuid" else replace(ids, gids=new)), four[3]


def executed(ids: Ids, uid: int | None, gid: int | None) -> Ids:
    """After an execve of a file with a set-id bit: its owner's id or None; the saved ids become the effective ones."""

    def after(four: tuple[int, int, int, int], number: int | None) -> tuple[int, int, int, int]:
        effective = four[1] if number is None else number
        return four[0], effective, effective, effective

    return replace(ids, uids=after(ids.uids, uid), gids=after(ids.gids, gid))


def _changed(
    four: tuple[int, int, int, int], kind: str, numbers: tuple[int, ...], *, free: bool
) -> tuple[int, int, int, int]:
    real, effective, saved, _ = four

    def check(number: int, allowed: tuple[int, ...]) -> None:
        if not free and number != _SAME and number not in allowed:
            raise PermissionError(errno.EPERM, "not one of its ids")

    def or_same(number: int, old: int) -> int:
        return old if number == _SAME else number

    if kind == "":
        (new,) = numbers[:1]
        if new == _SAME:
            raise OSError(errno.EINVAL, "no id")
        check(new, (real, saved))
        return (new, new, new, new) if free else (real, new, saved, new)
    if kind == "re":
        new_real, new_effective = numbers[:2]
        check(new_real, (real, effective))
        check(new_effective, (real, effective, saved))
        after = or_same(new_effective, effective)
        if new_real != _SAME or (new_effective != _SAME and new_effective != real):
            saved = after
        return or_same(new_real, real), after, saved, after
    for number in numbers[:3]:
        check(number, (real, effective, saved))
    after = or_same(numbers[1], effective)
    return or_same(numbers[0], real), after, or_same(numbers[2], saved), after
