"""USER and --chown: names to numbers by /etc/passwd and /etc/group of the rootfs, which may be hostile.

Rules of BuildKit's executor (moby/sys/user.GetExecUser) for ``resolve`` and of its file operations for ``lookup``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from runtime.errors import RuntimeFault, UnsafePathError
from runtime.linux.safepath import open_in_root, read_regular
from runtime.values import dataclass

_LIMIT = 10 << 20
_MAX_ID = (1 << 31) - 1
_MAX_UINT32 = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class User:
    """Numbers the process runs with. ``groups`` are supplementary, without a rule that ``gid`` be among them."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


class _MissingFileError(Exception):
    """The file does not exist: not the same as a file without a matching line."""


def resolve(rootfs: str, spec: str) -> User:
    """The user a process runs as. ``spec`` is "", "name", "uid", or either with ":group" or ":gid".

    RuntimeFault with BuildKit's text when a name has no line. Numbers need none. For "uid:gid" no file is read for the ids.
    RuntimeFault, too, if one of the files is there and no regular one.
    """
    _check_files(rootfs)
    numbers = _two_numbers(spec)
    if numbers is not None:
        uid, gid = numbers
        return User(uid, gid, (), _home_of(rootfs, uid))
    try:
        return _by_files(rootfs, spec or "0")
    except RuntimeFault:
        if spec == "":
            return User(0, 0, (), "/")
        raise


def _check_files(rootfs: str) -> None:
    """runc opens both for any user, in its own simple way: at a fifo it would wait for ever."""
    root_fd = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in ("/etc/passwd", "/etc/group"):
            try:
                handle = open_in_root(root_fd, path, os.O_PATH)
            except OSError:
                continue
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise RuntimeFault(f"{path} of the root file system is not a regular file")
            finally:
                os.close(handle)
    finally:
        os.close(root_fd)


def lookup(rootfs: str, spec: str, unknown: Callable[[str], None] = lambda _: None) -> tuple[int, int]:
    """(uid, gid) for COPY --chown. A name without a line in the files is 0, as BuildKit has it, and ``unknown`` is told of it; a
    number stands for itself.

    Without ":group" the group is that of the user's line, or the same number as a numeric user.
    """
    user_part, _, group_part = spec.partition(":")
    uid = gid = 0
    if user_part:
        number = _chown_number(user_part)
        if number is not None:
            uid = gid = number
        else:
            for account in _accounts_or_none(rootfs):
                if account.name == user_part:
                    uid, gid = account.uid, account.gid
                    break
            else:
                unknown(f"there is no user {user_part} in /etc/passwd, 0 is taken for it")
    if group_part:
        number = _chown_number(group_part)
        if number is not None:
            gid = number
        else:
            # A group name that is not found leaves the group of the user's line.
            for group in _groups_or_none(rootfs):
                if group.name == group_part:
                    gid = group.gid
                    break
            else:
                unknown(f"there is no group {group_part} in /etc/group, {gid} is taken for it")
    return uid, gid


def _two_numbers(spec: str) -> tuple[int, int] | None:
    user_part, colon, group_part = spec.partition(":")
    if not colon:
        return None
    uid = 0 if user_part == "root" else _unsigned(user_part)
    gid = 0 if group_part == "root" else _unsigned(group_part)
    return None if uid is None or gid is None else (uid, gid)


def _unsigned(text: str) -> int | None:
    """What Go's ParseUint(text, 10, 32) takes, else None."""
    if text.isascii() and text.isdigit() and len(text) <= 20:
        number = int(text)
        return number if number <= _MAX_UINT32 else None
    return None


def _chown_number(text: str) -> int | None:
    """What --chown takes as a number: "root", or a signed 32-bit one (negative ones wrap, as in LLB's unsigned field)."""
    if text == "root":
        return 0
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        return None
    number = int(text)
    return number & _MAX_UINT32 if -_MAX_ID - 1 <= number <= _MAX_ID else None


def _numeric(text: str) -> int | None:
    """A number with optional sign (Go's Atoi); None for other text. Out of range: RuntimeFault."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(digits[:20]) if len(digits) <= 20 else _MAX_ID + 1
    if text[0] == "-":
        number = -number
    if not 0 <= number <= _MAX_ID:
        raise RuntimeFault(f"uids and gids must be in range 0-{_MAX_ID}")
    return number


def _by_files(rootfs: str, spec: str) -> User:
    parts = spec.split(":")
    user_part = parts[0]
    group_part = parts[1] if len(parts) > 1 else ""
    uid_number, gid_number = _numeric(user_part), _numeric(group_part)

    def wanted(account: _Account) -> bool:
        if user_part == "":
            return account.uid == 0
        return account.uid == uid_number if uid_number is not None else account.name == user_part

    found: _Account | None = None
    try:
        found = next((account for account in _accounts(rootfs) if wanted(account)), None)
    except _MissingFileError:
        pass
    except UnsafePathError as error:
        raise RuntimeFault(f"unable to find user {user_part or 0}: {error}") from None
    if found is not None:
        uid, gid, home = found.uid, found.gid, found.home or "/"
    elif user_part and uid_number is None:
        raise RuntimeFault(f"unable to find user {user_part}: no matching entries in passwd file")
    else:
        uid, gid, home = uid_number or 0, 0, "/"
    if not group_part and found is None:
        return User(uid, gid, (), home)
    return _with_groups(rootfs, User(uid, gid, (), home), found.name if found else "", group_part, gid_number)


def _with_groups(rootfs: str, user: User, name: str, group_part: str, gid_number: int | None) -> User:
    def wanted(group: _Group) -> bool:
        if not group_part:
            return name in group.members
        return group.gid == gid_number if gid_number is not None else group.name == group_part

    try:
        found = [group for group in _groups(rootfs) if wanted(group)]
    except _MissingFileError:
        found = []
    except UnsafePathError as error:
        raise RuntimeFault(f"unable to find groups for spec {name}: {error}") from None
    if not group_part:
        return User(user.uid, user.gid, tuple(group.gid for group in found), user.home)
    if found:
        return User(user.uid, found[0].gid, (), user.home)
    if gid_number is None:
        raise RuntimeFault(f"unable to find group {group_part}: no matching entries in group file")
    return User(user.uid, gid_number, (), user.home)


def _home_of(rootfs: str, uid: int) -> str:
    """The home runc would find for a number: HOME is set from it when the environment has none."""
    try:
        for account in _accounts(rootfs):
            if account.uid == uid:
                return account.home or "/"
    except (_MissingFileError, RuntimeFault):
        pass
    return "/"


def _lines(rootfs: str, path: str) -> Iterator[str]:
    try:
        root_fd = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            data = read_regular(root_fd, path, _LIMIT)
        finally:
            os.close(root_fd)
    except OSError as error:
        raise _MissingFileError(error) from None
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        stripped = line.strip()
        if stripped:
            yield stripped


def _accounts(rootfs: str) -> Iterator[_Account]:
    for line in _lines(rootfs, "/etc/passwd"):
        fields = line.split(":") + [""] * 6
        yield _Account(fields[0], _loose_int(fields[2]), _loose_int(fields[3]), fields[5])


def _groups(rootfs: str) -> Iterator[_Group]:
    for line in _lines(rootfs, "/etc/group"):
        if line.startswith("#"):
            continue
        fields = line.split(":") + [""] * 4
        members = tuple(fields[3].split(",")) if fields[3] else ()
        yield _Group(fields[0], _loose_int(fields[2]), members)


def _accounts_or_none(rootfs: str) -> list[_Account]:
    try:
        return list(_accounts(rootfs))
    except _MissingFileError:
        return []


def _groups_or_none(rootfs: str) -> list[_Group]:
    try:
        return list(_groups(rootfs))
    except _MissingFileError:
        return []


def _loose_int(text: str) -> int:
    """Bad numbers count as 0: the reference ignores them because "some configuration files like to misbehave"."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        return 0
    return int(text)
