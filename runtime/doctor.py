"""What this machine lets a sandbox have, a line for each capability: what was found, what its lack costs, what would mend it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Literal

from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.facts import Facts
    from runtime.linux.namespaces import Entered

State = Literal["ok", "limited", "missing"]
_CAP_SETUID = 7


@dataclass(frozen=True, slots=True)
class Finding:
    """``found`` is one line; ``cost`` and ``mend`` (a command, or what to set) are empty where nothing is missing."""

    name: str
    state: State
    found: str
    cost: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Runtime:
    """An executor by name; ``refusal`` and ``hint`` say why it can't work here, and are empty where it does."""

    name: str
    refusal: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Who started us, before any namespace. ``ranges``: numbers of ids in /etc/subuid and /etc/subgid."""

    uid: int
    name: str
    ranges: tuple[int, int]


def findings(entered: Entered, facts: Facts, account: Account, runtimes: Sequence[Runtime]) -> list[Finding]:
    """All about the sandbox; the first runtime that works is the one that is taken."""
    return [
        _namespaces(entered),
        *_ids(entered, account),
        _proc(facts),
        _cgroups(facts),
        _seccomp(facts),
        *_runtimes(runtimes),
        _foreign(runtimes),
    ]


def account(uid: int) -> Account:
    """The account ``uid`` as the machine knows it."""
    import pwd

    from runtime.linux.idmaps import subid_ranges

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    counts = [sum(count for _, count in subid_ranges(kind, uid=uid)) for kind in ("subuid", "subgid")]
    return Account(uid, name, (counts[0], counts[1]))


def try_runtimes(wanted: str | None, entered: Entered, *, owners: bool) -> list[Runtime]:
    """Each executor, tried as before a build; the one that was asked for first. ``owners`` as for ``executor.select``."""
    from runtime import executor
    from runtime.errors import RuntimeFault

    found = []
    for name in sorted((*executor.NAMES, executor.LAST), key=lambda name: name != wanted):
        try:
            executor.select(name, entered, owners=owners)
        except RuntimeFault as fault:
            found.append(Runtime(name, str(fault), fault.hint))
        else:
            found.append(Runtime(name))
    return found


def _namespaces(entered: Entered) -> Finding:
    if entered.kind == "mounts":
        return Finding("namespaces", "ok", "a mount namespace of its own")
    why = "; ".join(entered.reasons)
    if entered.kind == "user":
        return Finding("namespaces", "ok", "a user namespace" + (f" ({why})" if why else ""))
    cost = "RUN can't be sandboxed; every snapshot is a whole copy"
    return Finding("namespaces", "missing", why or "none can be made", cost, entered.hint)


def _ids(entered: Entered, account: Account) -> list[Finding]:
    if entered.kind == "mounts" or entered.maps is None:
        return []
    count = min(sum(part.count for part in parts) for parts in (entered.maps.uids, entered.maps.gids))
    if count > 1:
        return [Finding("ids", "ok", f"{count} user and group ids")]
    cost = "owners are kept beside files: RUN only by native, which is asked about each change of an owner"
    if not all(account.ranges):
        mend = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {account.name}"
        return [Finding("ids", "limited", f"one id: {account.name} has no range in /etc/subuid and /etc/subgid", cost, mend)]
    return [Finding("ids", "limited", "one id: the ranges of /etc/subuid can't be mapped", cost, _helper_mend())]


def _helper_mend() -> str:
    for folder in ("/usr/bin", "/bin", "/usr/local/bin"):
        path = f"{folder}/newuidmap"
        if os.path.exists(path):
            if os.stat(path).st_mode & stat.S_ISUID or _has_file_capability(path):
                return "let set-uid programs work here (allowPrivilegeEscalation: true, no --security-opt no-new-privileges)"
            return f"sudo setcap cap_setuid+ep {path} && sudo setcap cap_setgid+ep {folder}/newgidmap"
    return "sudo apt install uidmap"


def _has_file_capability(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _proc(facts: Facts) -> Finding:
    hidden = _mounted_below("/proc")
    if not facts.user_namespace or not hidden:
        return Finding("/proc", "ok", "whole: steps get their own")
    cost = "steps see the processes of the container around; runc, crun and bwrap can't be used"
    mend = "docker run --security-opt systempaths=unconfined, or procMount: Unmasked in Kubernetes"
    return Finding("/proc", "limited", f"parts of it are hidden ({', '.join(hidden[:3])}...)", cost, mend)


def _mounted_below(folder: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        points = [line.split()[4] for line in file]
    return sorted(point for point in points if point.startswith(folder + "/"))


def _cgroups(facts: Facts) -> Finding:
    found = facts.cgroups
    if found.kind != "none" and not facts.user_namespace:
        return Finding("cgroups", "ok", f"{found.kind}, {len(found.folders)} hierarchies" if found.kind == "v1" else found.kind)
    why = "a user namespace can't make groups" if facts.user_namespace else found.reason
    cost = "no --cgroup-parent, no limits of memory and processor"
    if not facts.user_namespace:
        cost += "; device nodes on a step's root file system can't be opened"
    mend = "run as root of the machine" if facts.user_namespace else "mount /sys/fs/cgroup writable"
    return Finding("cgroups", "limited", f"none: {why}", cost, mend)


def _seccomp(facts: Facts) -> Finding:
    from runtime import seccomp

    try:
        with open("/proc/sys/kernel/seccomp/actions_avail", encoding="ascii") as file:
            actions = file.read().split()
    except OSError:
        actions = []
    if "errno" not in actions:
        mend = "a kernel with CONFIG_SECCOMP_FILTER"
        return Finding("seccomp", "missing", "this kernel has no filters", "steps can make every system call", mend)
    if not seccomp.supports(facts.architecture):
        cost = "only runc and crun filter steps"
        return Finding("seccomp", "limited", f"no tables for {facts.architecture}", cost, "use --runtime runc")
    return Finding("seccomp", "ok", "docker's policy, compiled for " + facts.architecture)


def _runtimes(runtimes: Sequence[Runtime]) -> list[Finding]:
    chosen = next((one.name for one in runtimes if not one.refusal), None)
    found = []
    for one in runtimes:
        if not one.refusal:
            found.append(Finding(f"runtime {one.name}", "ok", "works" + (", and is taken" if one.name == chosen else "")))
        else:
            cost = "" if chosen else "RUN can't be executed"
            # Where one works, another that is only not installed is worth a word, but not what else could be tried.
            mend = "" if chosen and "not found" not in one.refusal else one.hint
            found.append(Finding(f"runtime {one.name}", "missing", one.refusal, cost, mend))
    return found


def _foreign(runtimes: Sequence[Runtime]) -> Finding:
    from runtime import emulation, foreign
    from runtime.errors import RuntimeFault
    from runtime.executor import select

    registered, own = foreign.emulated(), emulation.found()
    refusal = "" if own or registered else "no emulator is registered, and there is no static qemu"
    if own and any(one.name == "native" and not one.refusal for one in runtimes):
        try:
            select("native").check_emulation(emulation.rule(own[0], emulation.find(own[0])))
        except RuntimeFault as fault:
            own, refusal = [], str(fault)
    else:
        own = []
    words = [f"the host's emulators for {', '.join(registered)}"] if registered else []
    if more := [one for one in own if one not in registered]:
        words.append(f"emulators of a step's own for {', '.join(more)} (--runtime native)")
    if words:
        return Finding("foreign platforms", "ok", "; ".join(words))
    cost = "RUN works for this machine's platform only"
    return Finding("foreign platforms", "missing", refusal, cost, foreign.REGISTER if emulation.found() else foreign.MEND)
