"""Which ids a user namespace of ours can have, and the writing of its map (user_namespaces(7))."""

from __future__ import annotations

import os
from collections.abc import Iterator

from runtime.linux.processes import write as write_file
from runtime.linux.userns import effective_capabilities
from runtime.values import dataclass

_CAP_SETGID, _CAP_SETUID = 6, 7


@dataclass(frozen=True, slots=True)
class IdRange:
    """``count`` ids from ``inside`` on are the ids from ``outside`` on of the parent namespace."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class IdMaps:
    """The maps of a user namespace. ``helped``: newuidmap and newgidmap have to write them."""

    uids: tuple[IdRange, ...]
    gids: tuple[IdRange, ...]
    helped: bool = False

    @property
    def single(self) -> bool:
        """Does only id 0 exist inside? chown to anything else gives EINVAL then."""
        return sum(part.count for part in self.uids) == 1 or sum(part.count for part in self.gids) == 1


def possible(uid: int, gid: int) -> Iterator[IdMaps]:
    """The maps that this process could write or have written, the widest first; the last one is that of our own ids alone.

    With CAP_SETUID and CAP_SETGID: the same ids again. With ranges in /etc/subuid and /etc/subgid: these, by the set-id helpers.
    """
    wanted = 1 << _CAP_SETUID | 1 << _CAP_SETGID
    if effective_capabilities() & wanted == wanted:
        yield same()
    uids, gids = subid_ranges("subuid", uid=uid), subid_ranges("subgid", uid=uid)
    if uids and gids and _which("newuidmap") is not None and _which("newgidmap") is not None:
        yield IdMaps(_after_own(uid, uids), _after_own(gid, gids), helped=True)
    yield IdMaps((IdRange(0, uid, 1),), (IdRange(0, gid, 1),))


def same() -> IdMaps:
    """The maps that give a namespace below ours the ids that we have, by the same numbers."""
    return IdMaps(_identity("uid_map"), _identity("gid_map"))


def write(pid: int, maps: IdMaps) -> None:
    """Write the maps of the user namespace that the process ``pid`` has just made. OSError with the reason in words."""
    if maps.single:
        # Without CAP_SETGID a gid_map is taken only from a process that gave up setgroups(2) (CVE-2014-8989).
        write_file(f"/proc/{pid}/setgroups", "deny")
    for kind, ranges in (("uid", maps.uids), ("gid", maps.gids)):
        if maps.helped:
            _by_helper(pid, kind, ranges)
        else:
            text = "".join(f"{part.inside} {part.outside} {part.count}\n" for part in ranges)
            write_file(f"/proc/{pid}/{kind}_map", text)


def subid_ranges(kind: str, *, uid: int | None = None, folder: str = "/etc") -> list[tuple[int, int]]:
    """(start, count) pairs that /etc/subuid or /etc/subgid (``kind`` is "subuid" or "subgid") grants to the user.

    Lines name the user or the number (subuid(5)). Missing file, or no line: an empty list.
    """
    if uid is None:
        uid = os.getuid()
    names = {str(uid)}
    try:
        import pwd

        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    ranges: list[tuple[int, int]] = []
    try:
        with open(f"{folder}/{kind}", encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return []
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdecimal() and fields[2].isdecimal():
            start, count = int(fields[1]), int(fields[2])
            if count > 0:
                ranges.append((start, count))
    return ranges


def _identity(name: str) -> tuple[IdRange, ...]:
    with open(f"/proc/self/{name}", encoding="utf-8") as file:
        extents = [line.split() for line in file]
    return tuple(IdRange(int(inside), int(inside), int(count)) for inside, _, count in extents)


def _after_own(own: int, ranges: list[tuple[int, int]]) -> tuple[IdRange, ...]:
    parts = [IdRange(0, own, 1)]
    inside = 1
    for start, count in ranges:
        parts.append(IdRange(inside, start, count))
        inside += count
    return tuple(parts)


def _which(program: str) -> str | None:
    for folder in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        candidate = os.path.join(folder, program)
        if folder and os.access(candidate, os.X_OK):
            return candidate
    return None


def _by_helper(pid: int, kind: str, ranges: tuple[IdRange, ...]) -> None:
    program = _which(f"new{kind}map")
    if program is None:
        raise FileNotFoundError(f"new{kind}map not found")
    arguments = [program, str(pid)]
    for part in ranges:
        arguments += [str(part.inside), str(part.outside), str(part.count)]
    said_read, said_write = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, said_write, 1), (os.POSIX_SPAWN_DUP2, said_write, 2)]
        child = os.posix_spawn(program, arguments, os.environ, file_actions=actions)
    finally:
        os.close(said_write)
    with open(said_read, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read().strip()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise OSError(None, said.splitlines()[-1] if said else f"new{kind}map gave exit code {code}")
